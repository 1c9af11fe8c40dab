"""What stands in a stream: events of one writer, in the order written, with where in its journal they come from.

An entry has one field, a MessagePack array. Its first element is the version, so that one of a newer version is known
for what it is. Fields are added at the end only.
"""

from typing import Annotated, Final

import msgspec

from session_exporter.core.events import FleetEvent, Id, Time, Writer

VERSION: Final = 1
# Two million entries of the largest size would be too much for any Redis; these are cut between events.
ENTRY_BYTES_MAX: Final = 256 * 1024

Offset = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]


class Origin(msgspec.Struct, frozen=True, array_like=True):
    """Who wrote the events; as `core.events.Writer`."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=94)]
    replica: Id = ""
    pid: Offset = 0

    def writer(self) -> Writer:
        """The writer."""
        return Writer(self.id, self.replica, self.pid)


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One entry of a stream.

    Attributes:
        version: `VERSION`.
        forwarder: Which forwarder sent it; new with each start of one.
        origin: The writer.
        segment: The number of the writer's segment that the events come from.
        ends: Of each event, the offset behind its frame in that segment; never descending. Several events may come from
            one frame.
        events: With digests for ids, in the order written.
        run: Which run of sending this belongs to, for this stream and writer: another one whenever the forwarder goes
            back to what is committed.
        before: Events sent in this run before these.
        sent_us: When it was sent; microseconds, Redis' clock.
        behind_us: The event time that this forwarder has still to send from, Redis' clock; 0 when this was all.
    """

    version: int
    forwarder: Id
    origin: Origin
    segment: Offset
    ends: list[Offset]
    events: list[FleetEvent]
    run: Offset = 0
    before: Offset = 0
    sent_us: Time = 0
    behind_us: Time = 0


class Presence(msgspec.Struct, frozen=True, array_like=True):
    """What a forwarder says of itself, about once a second.

    Attributes:
        version: `VERSION`.
        replica: Its host or pod.
        at_us: When it said so; microseconds, Redis' clock.
        complete_us: All events before this time, which its workers had recorded, are in the streams; Redis' clock.
    """

    version: int
    replica: Id
    at_us: Time
    complete_us: Time


class Layout(msgspec.Struct, frozen=True, array_like=True):
    """What forwarders and consumers must agree on.

    Attributes:
        version: `VERSION`.
        partitions: How many there are.
        ids: The check value of the key of the digests.
    """

    version: int
    partitions: int
    ids: str


class BadEntry(ValueError):
    """What stands in a stream is no entry of this version; `reason` is `malformed` or `newer_version`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Entry).decode
_decode_version: Final = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


def decode(raw: bytes) -> Entry:
    """Read an entry back.

    Raises:
        BadEntry: It is of a newer version, or malformed.
    """
    try:
        entry = _decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        reason = "newer_version" if _version_of(raw) > VERSION else "malformed"
        raise BadEntry(reason, str(error)) from error
    if entry.version != VERSION:
        reason = "newer_version" if entry.version > VERSION else "malformed"
        raise BadEntry(reason, f"version {entry.version}; expected {VERSION}")
    if len(entry.ends) != len(entry.events) or any(a > b for a, b in zip(entry.ends, entry.ends[1:], strict=False)):
        raise BadEntry(
            "malformed", f"{len(entry.ends)} offsets of {len(entry.events)} events; expected one each, ascending"
        )
    return entry


def _version_of(raw: bytes) -> int:
    try:
        parts = _decode_version(raw)
        return msgspec.msgpack.decode(parts[0], type=int) if parts else 0
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return 0
