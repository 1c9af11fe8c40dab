"""The entries of several streams in one order: that in which they were sent."""

from collections import deque
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from session_exporter.stream.entries import ENTRY_BYTES_MAX, BadEntry, Entry, decode
from session_exporter.stream.positions import FIRST, StreamId

# Who writes more into one stream within one millisecond writes by hand: its order over the streams is then its own.
CROWD: Final = 8192
# No forwarder makes an entry of more than one frame this large.
_DECODED_BYTES_MAX: Final = 4 * ENTRY_BYTES_MAX


class Arrived(NamedTuple):
    """An entry as it stands in a stream.

    Attributes:
        ms: Milliseconds of its id.
        number: The rest of its id.
        stream: The stream's partition.
        raw: Its field; None when its fields are not those of an entry.
    """

    ms: int
    number: int
    stream: int
    raw: bytes | None


class Merger:
    """Puts what was read of each stream into one order by time, as far as all streams have been read.

    Ids of different streams can be compared by their milliseconds alone: each stream numbers for itself what it is
    given within one of them. So a millisecond is passed on as a whole.

    Args:
        streams: The streams.

    Attributes:
        cursors: By stream, the id of the last entry that was read.
    """

    def __init__(self, streams: Iterable[int]) -> None:
        self.cursors: dict[int, StreamId] = dict.fromkeys(streams, FIRST)
        self._pending: dict[int, deque[Arrived]] = {stream: deque() for stream in self.cursors}
        self._open = set(self.cursors)

    @property
    def complete(self) -> bool:
        """Whether at one moment, that of the last reading, all there was had been read."""
        return not self._open

    def wanted(self, count: int) -> dict[int, StreamId]:
        """From where streams are to be read next; not those of which `count` entries wait until others are as far."""
        bound = min((self.cursors[stream] for stream in self._open), default=FIRST)
        return {
            stream: cursor
            for stream, cursor in self.cursors.items()
            if len(self._pending[stream]) < count or cursor[0] <= bound[0]
        }

    def arrive(self, read: dict[int, Sequence[Arrived]], count: int) -> None:
        """Take in what one reading of some streams has returned.

        Args:
            read: Of each stream that was read, its next entries.
            count: How many it was asked for: a stream that has as many may have more.
        """
        self._open = set()
        for stream in self.cursors:
            entries = read.get(stream)
            if entries:
                self._pending[stream].extend(entries)
                self.cursors[stream] = (entries[-1].ms, entries[-1].number)
            if entries is None or len(entries) >= count:
                self._open.add(stream)

    def take(self) -> list[Arrived]:
        """All that nothing unread can come before, by time."""
        taken: list[Arrived] = []
        if not self._open:
            for pending in self._pending.values():
                taken += pending
                pending.clear()
        else:
            last = min(self.cursors[stream] for stream in self._open)
            taken = self._take_until((last[0], -1))
            if not taken and any(len(pending) >= CROWD for pending in self._pending.values()):
                taken = self._take_until(last)
        taken.sort(key=itemgetter(0))
        return taken

    def _take_until(self, last: StreamId) -> list[Arrived]:
        taken = []
        for pending in self._pending.values():
            while pending and pending[0][:2] <= last:
                taken.append(pending.popleft())
        return taken

    def oldest_ms(self, stream: int) -> int | None:
        """When the oldest entry of a stream came that was not taken, or not read, at the earliest; None for none."""
        pending = self._pending[stream]
        if pending:
            return pending[0].ms
        return self.cursors[stream][0] if stream in self._open else None


def next_group(arrived: deque[Arrived]) -> list[tuple[Arrived, Entry | BadEntry]]:
    """Take the next entries, all of one millisecond: of each writer in the order sent, whatever stream they came by."""
    group = []
    ms = arrived[0].ms
    while arrived and arrived[0].ms == ms:
        each = arrived.popleft()
        group.append((each, read_entry(each.raw)))
    if len(group) > 1:
        group.sort(key=_turn)
    return group


def read_entry(raw: bytes | None) -> Entry | BadEntry:
    """What an entry says, or why it is none."""
    if raw is None:
        return BadEntry("malformed", "its fields are not those of an entry")
    if len(raw) > _DECODED_BYTES_MAX:
        return BadEntry("malformed", f"{len(raw)} bytes; expected at most {_DECODED_BYTES_MAX}")
    try:
        entry = decode(raw)
    except BadEntry as error:
        return error
    return entry if entry.events else BadEntry("malformed", "no events; expected some")


def _turn(read: tuple[Arrived, Entry | BadEntry]) -> tuple[str, int, int]:
    entry = read[1]
    if isinstance(entry, BadEntry):
        return ("", 0, 0)
    return (entry.origin.id, entry.segment, entry.ends[0])
