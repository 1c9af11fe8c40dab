"""From routed events to entries in Redis: a round of them at a time, of which all arrive or none.

Outside of a transaction a command may fail, for want of memory or of a disk, and a later one of the same stream pass: a
consumer would take that, and drop the first as known when it is sent again.
"""

from bisect import bisect_right
from typing import Any, Final

import msgspec
from redis.exceptions import RedisError, ResponseError

from session_exporter.config import StreamSettings
from session_exporter.core.events import FleetEvent, Writer
from session_exporter.errors import StreamUnavailable
from session_exporter.stream import keys
from session_exporter.stream.entries import VERSION, Entry, Origin, encode
from session_exporter.stream.presence import Announcement
from session_exporter.stream.server import StreamServer

# Large enough that what Redis does per entry does not count, small enough that nobody waits for one.
PAYLOAD_BYTES: Final = 128 * 1024


class Parcel(msgspec.Struct, frozen=True):
    """What one stream gets of one writer's segment: events in their order, and where the frame of each ends."""

    stream: int
    writer: Writer
    segment: int
    ends: list[int]
    events: list[FleetEvent]


class Times(msgspec.Struct, frozen=True):
    """When a round is sent, what is still to come after it, and before when all is sent; as entries have them."""

    sent_us: int
    behind_us: int
    complete_us: int


class Round(msgspec.Struct):
    """Entries that go together.

    Attributes:
        parcels: What they are made of.
        times: As they say.
        payloads: By stream, packed.
    """

    parcels: list[Parcel]
    times: Times
    payloads: list[tuple[int, bytes]]


class Sender:
    """Sends rounds over the connection that there is.

    Args:
        server: Where to.
        settings: How long the streams may get.
        announcement: Goes with each round.
    """

    def __init__(self, server: StreamServer, settings: StreamSettings, announcement: Announcement) -> None:
        self._server = server
        self._max_entries = settings.max_entries
        self._announcement = announcement
        self._run = 0
        self._before: dict[tuple[int, str], int] = {}
        self._made: set[int] = set()

    def start_run(self, number: int) -> None:
        """Begin anew, on a new connection, under a number that is greater than all before."""
        self._run = max(number, self._run + 1)
        self._before.clear()
        self._made.clear()

    def forget_others(self, writers: set[str]) -> None:
        """Forget what was sent of other writers than these."""
        self._before = {flow: count for flow, count in self._before.items() if flow[1] in writers}

    def pack(self, parcels: list[Parcel], times: Times) -> Round:
        """Make entries, each of which has its place behind those that were made before."""
        payloads = [(parcel.stream, raw) for parcel in parcels for raw in self._entries(parcel, times)]
        return Round(parcels, times, payloads)

    def _entries(self, parcel: Parcel, times: Times) -> list[bytes]:
        flow = parcel.stream, parcel.writer.id
        before = self._before.get(flow, 0)
        self._before[flow] = before + len(parcel.events)
        return self._cut(parcel, before, times)

    def _cut(self, parcel: Parcel, before: int, times: Times) -> list[bytes]:
        writer, ends, events = parcel.writer, parcel.ends, parcel.events
        origin = Origin(writer.id, writer.replica, writer.pid)
        forwarder, run = self._announcement.forwarder, self._run
        entry = Entry(
            VERSION, forwarder, origin, parcel.segment, ends, events, run, before, times.sent_us, times.behind_us
        )
        raw = encode(entry)
        at = _middle(ends) if len(raw) > PAYLOAD_BYTES else 0
        if not at:
            return [raw]
        first = msgspec.structs.replace(parcel, ends=ends[:at], events=events[:at])
        second = msgspec.structs.replace(parcel, ends=ends[at:], events=events[at:])
        return [*self._cut(first, before, times), *self._cut(second, before + at, times)]

    def send(self, packed: Round) -> None:
        """Send a round, or only say that we are here when it has no entries.

        Raises:
            StreamUnavailable: Redis has not taken it, or nobody knows whether it has.
            StreamRefused: It may not be sent.
        """
        with self._server.speaking() as client:
            pipeline = client.pipeline(transaction=True)
            for stream, payload in packed.payloads:
                self._add(pipeline, stream, payload)
            times = packed.times
            self._announcement.write(pipeline, at_us=times.sent_us, complete_us=times.complete_us)
            replies = _execute(pipeline)
        if any(reply is None for reply in replies[: len(packed.payloads)]):
            raise StreamUnavailable(f"Redis at {self._server.address}: a stream was deleted")
        self._made.update(stream for stream, _ in packed.payloads)

    def require_announced(self) -> None:
        """Make sure that what was said of us is still there: nobody deletes it but who deletes everything.

        Raises:
            StreamUnavailable: It is not, or as `StreamServer.speaking`.
            StreamRefused: It may not be asked for.
        """
        with self._server.speaking() as client:
            if not self._announcement.is_there(client):
                raise StreamUnavailable(f"Redis at {self._server.address}: its data was deleted")

    def take_leave(self) -> None:
        """Say nothing of us any more; raises as `StreamServer.speaking`."""
        with self._server.speaking() as client:
            self._announcement.remove(client)

    def _add(self, pipeline: Any, stream: int, payload: bytes) -> None:
        # A stream that was there and is there no longer has taken with it what had been sent.
        only_there = ("NOMKSTREAM",) if stream in self._made else ()
        key = keys.stream(stream)
        pipeline.execute_command("XADD", key, *only_there, "MAXLEN", "~", self._max_entries, "*", keys.FIELD, payload)


def _middle(ends: list[int]) -> int:
    """Where to cut in two, between frames; 0 when there is only one frame."""
    at = bisect_right(ends, ends[len(ends) // 2 - 1])
    if at < len(ends):
        return at
    return ends.index(ends[-1])


def _execute(pipeline: Any) -> list[Any]:
    try:
        replies: list[Any] = pipeline.execute(raise_on_error=False)
    except ResponseError as error:
        # Without the command, which is as long as the entry.
        error.args = (str(error).rpartition("caused error: ")[2],)
        raise
    for reply in replies:
        if isinstance(reply, RedisError):
            raise reply
    return replies
