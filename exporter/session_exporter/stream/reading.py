"""One reading of some streams, from their beginning to wherever they end when it gets there."""

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from session_exporter.stream import keys
from session_exporter.stream.entries import BadEntry, Entry
from session_exporter.stream.fetching import Fetching
from session_exporter.stream.merging import Arrived, Merger, next_group
from session_exporter.stream.positions import FIRST, StreamId, id_of
from session_exporter.stream.roster import COMMAND, Roster
from session_exporter.stream.server import StreamServer

# KEYS: a stream. Beside what is asked for, XINFO would return two whole entries.
_LAST_ID: Final = """
local told = redis.pcall('XINFO', 'STREAM', KEYS[1])
for i = 1, #told, 2 do
  if told[i] == 'last-generated-id' then return told[i + 1] end
end
return '0-0'
"""


class StreamReading:
    """Reads streams piece by piece, and returns their entries in the order sent.

    Args:
        server: Connected.
        streams: Which.

    Attributes:
        looked_us: When they were read last, by Redis' clock; 0 before.
        reached_us: The time up to which entries have been returned.
        applied: By stream, the id up to which all its entries have been returned.
    """

    def __init__(self, server: StreamServer, streams: Sequence[int]) -> None:
        self.looked_us = 0
        self.reached_us = 0
        self.applied: dict[int, StreamId] = {}
        self._server = server
        self._fetching = Fetching(streams)
        self._merger = Merger(streams)
        self._arrived: deque[Arrived] = deque()
        self._group: deque[tuple[Arrived, Entry | BadEntry]] = deque()
        self._group_ids: dict[int, StreamId] = {}

    @property
    def is_empty(self) -> bool:
        """Whether all that was read, and that nothing unread can come before, has been returned."""
        return not self._group and not self._arrived

    @property
    def is_drained(self) -> bool:
        """Whether all that was there when it was looked last has been returned."""
        return self.is_empty and self._merger.complete

    def look(self, roster: Roster | None = None) -> None:
        """Read the next entries of all streams; before that, in the same breath, who sends to them.

        Raises:
            StreamError: Redis is not there.
        """
        asked, count = self._merger.wanted(self._fetching.count), self._fetching.count
        with self._server.speaking() as client:
            pipeline = client.pipeline(transaction=False)
            if roster is not None:
                pipeline.execute_command(*COMMAND)
            pipeline.time()
            pipeline.execute_command(*self._fetching.command(asked))
            *said, (seconds, micros), answer = pipeline.execute()
        self.looked_us = int(seconds) * 1_000_000 + int(micros)
        if roster is not None:
            roster.answered(said[0], self.looked_us)
        self._merger.arrive(self._fetching.answered(answer, asked), count)
        self._arrived.extend(self._merger.take())

    def next(self) -> tuple[Arrived, Entry | BadEntry] | None:
        """The next entry of what was read; None when there is none, which need not be all there is."""
        group = self._group
        if not group:
            if not self._arrived:
                return None
            group.extend(next_group(self._arrived))
            for each, _ in group:
                self._group_ids[each.stream] = max(self._group_ids.get(each.stream, FIRST), each[:2])
        found = group.popleft()
        self.reached_us = found[0].ms * 1000
        if not group:
            # Its entries are not in the order of the streams: only all of them are so far.
            self.applied.update(self._group_ids)
            self._group_ids.clear()
        return found

    def is_behind_end(self) -> bool:
        """Whether a stream ends before what was read of it: it was deleted, or its Redis is another one by now.

        Raises:
            StreamError: Redis is not there.
        """
        cursors = self._merger.cursors
        with self._server.speaking() as client:
            pipeline = client.pipeline(transaction=False)
            for stream in cursors:
                pipeline.eval(_LAST_ID, 1, keys.stream(stream))
            ends: list[Any] = pipeline.execute()
        return any(id_of(end) < cursor for end, cursor in zip(ends, cursors.values(), strict=True))

    def oldest_us(self) -> dict[int, int]:
        """By stream, when its oldest entry came that was not returned, at the earliest; only streams that have any."""
        oldest: dict[int, int] = {}
        for each in (*(each for each, _ in self._group), *self._arrived):
            oldest.setdefault(each.stream, each.ms * 1000)
        for stream in self._merger.cursors:
            ms = self._merger.oldest_ms(stream)
            if ms:
                oldest.setdefault(stream, ms * 1000)
        return oldest

    def has_passed(self, time_us: int) -> bool:
        """Whether all that was in the streams at that time has been returned."""
        looked_us = self.looked_us if self._merger.complete else 0
        return self.is_empty and max(looked_us, self.reached_us - 1) >= time_us
