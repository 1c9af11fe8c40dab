"""How many rows were read of each minute: to find those that came up late without reading all of them again."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from session_exporter.watch.pages import Reader
from session_exporter.watch.times import MINUTE_US, TimeColumn

from sqlalchemy import func, select  # isort: skip

# The most of the rows lately read that are told apart; some 100 bytes each.
RECENT_MAX: Final = 200_000


class MinuteRows(NamedTuple):
    """What a minute has: how many rows, and their times together; None where that cannot be told."""

    rows: int = 0
    total_us: int | None = 0

    def is_like(self, other: "MinuteRows") -> bool:
        """Whether nothing tells the two apart."""
        if self.rows != other.rows:
            return False
        return None in {self.total_us, other.total_us} or self.total_us == other.total_us


_NONE: Final = MinuteRows()


class RecentRows:
    """Which rows have been read lately, and how many of each minute.

    Of a row it keeps a number that is made of it. What it forgets is read once more, and told once more.
    """

    def __init__(self, rows_max: int = RECENT_MAX) -> None:
        self._rows_max = rows_max
        self._seen: dict[int, int] = {}
        self._minutes: dict[int, MinuteRows] = {}

    def __contains__(self, row: tuple[object, ...]) -> bool:
        return hash(row) in self._seen

    def add(self, row: tuple[object, ...], at_us: int) -> None:
        """Note that a row was read, of so many microseconds."""
        if hash(row) in self._seen:
            return
        self._seen[hash(row)] = at_us
        minute_us = at_us - at_us % MINUTE_US
        rows, total_us = self._minutes.get(minute_us, _NONE)
        self._minutes[minute_us] = MinuteRows(rows + 1, None if total_us is None else total_us + at_us)

    def settle(self, minute_us: int, found: MinuteRows) -> None:
        """Note that a minute had these rows, and that all of them were read."""
        self._minutes[minute_us] = found

    def differing(self, found: Mapping[int, MinuteRows]) -> list[int]:
        """The minutes, oldest first, that have other rows than were read."""
        known = self._minutes
        return sorted(minute_us for minute_us, each in found.items() if not each.is_like(known.get(minute_us, _NONE)))

    def forget(self, rows_before_us: int, minutes_before_us: int) -> None:
        """Forget what is not asked for any more, and of the rows the oldest beyond the limit."""
        if len(self._seen) > self._rows_max:
            kept = sorted(self._seen.items(), key=lambda entry: entry[1])[-self._rows_max // 2 :]
            self._seen = dict(kept)
        self._seen = {row: at_us for row, at_us in self._seen.items() if at_us >= rows_before_us}
        self._minutes = {at_us: rows for at_us, rows in self._minutes.items() if at_us >= minutes_before_us}


def rows_by_minute(reader: Reader, times: TimeColumn, from_us: int, to_us: int) -> dict[int, MinuteRows]:
    """What each minute of a span has, by when it begins; both ends are whole minutes."""
    span = (times.column >= times.bound(from_us), times.column < times.bound(to_us, is_end=True))
    minute = times.minute
    counted = select(minute, func.count(), times.total_us).select_from(reader.table.table)
    statement = counted.where(*span, reader.table.has_id()).group_by(minute)
    found = {
        times.minute_us(key): MinuteRows(int(rows), None if total_us is None else int(total_us))
        for key, rows, total_us in reader.all(statement)
    }
    return {minute_us: each for minute_us, each in found.items() if from_us <= minute_us < to_us}


def late_pages(reader: Reader, times: TimeColumn, recent: RecentRows, from_us: int, to_us: int) -> Iterator[list[Any]]:
    """The rows of those minutes of a span that have changed, by pages; a minute that was taken whole is settled."""
    found = rows_by_minute(reader, times, _floor(from_us), _floor(to_us))
    for minute_us in recent.differing(found):
        yield from reader.pages(times, minute_us, minute_us + MINUTE_US)
        recent.settle(minute_us, found[minute_us])


def _floor(us: int) -> int:
    return us - us % MINUTE_US
