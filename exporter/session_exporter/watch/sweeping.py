"""How many rows were read of each minute: to find those that came up late without reading all of them again."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from session_exporter.watch.pages import Reader
from session_exporter.watch.times import MINUTE_US, TimeColumn

from sqlalchemy import func, select  # isort: skip

# The most of the rows lately read that are told apart; some 100 bytes each.
RECENT_MAX: Final = 200_000


class RecentRows:
    """Which rows have been read lately, and how many of each minute.

    Of a row it keeps a number that is made of it. What it forgets is read once more, and told once more.
    """

    def __init__(self, rows_max: int = RECENT_MAX) -> None:
        self._rows_max = rows_max
        self._seen: dict[int, int] = {}
        self._minutes: dict[int, int] = {}

    def __contains__(self, row: tuple[object, ...]) -> bool:
        return hash(row) in self._seen

    def add(self, row: tuple[object, ...], at_us: int) -> None:
        """Note that a row was read, of so many microseconds."""
        if hash(row) in self._seen:
            return
        self._seen[hash(row)] = at_us
        minute_us = at_us - at_us % MINUTE_US
        self._minutes[minute_us] = self._minutes.get(minute_us, 0) + 1

    def settle(self, minute_us: int, rows: int) -> None:
        """Note that a minute had so many rows, and all of them were read."""
        self._minutes[minute_us] = rows

    def differing(self, counts: Mapping[int, int]) -> list[int]:
        """The minutes, oldest first, that have another number of rows than were read."""
        return sorted(minute_us for minute_us, rows in counts.items() if self._minutes.get(minute_us) != rows)

    def forget(self, rows_before_us: int, minutes_before_us: int) -> None:
        """Forget what is not asked for any more, and of the rows the oldest beyond the limit."""
        if len(self._seen) > self._rows_max:
            kept = sorted(self._seen.items(), key=lambda entry: entry[1])[-self._rows_max // 2 :]
            self._seen = dict(kept)
        self._seen = {row: at_us for row, at_us in self._seen.items() if at_us >= rows_before_us}
        self._minutes = {at_us: rows for at_us, rows in self._minutes.items() if at_us >= minutes_before_us}


def rows_by_minute(reader: Reader, times: TimeColumn, from_us: int, to_us: int) -> dict[int, int]:
    """How many rows each minute of a span has, by when it begins; both ends are whole minutes."""
    span = (times.column >= times.bound(from_us), times.column < times.bound(to_us, is_end=True))
    minute = times.minute
    statement = select(minute, func.count()).select_from(reader.table.table).where(*span, reader.table.has_id())
    found = ((times.minute_us(key), int(rows)) for key, rows in reader.all(statement.group_by(minute)))
    return {minute_us: rows for minute_us, rows in found if from_us <= minute_us < to_us}


def late_pages(reader: Reader, times: TimeColumn, recent: RecentRows, from_us: int, to_us: int) -> Iterator[list[Any]]:
    """The rows of those minutes of a span that have changed, by pages; a minute that was taken whole is settled."""
    counts = rows_by_minute(reader, times, _floor(from_us), _floor(to_us))
    for minute_us in recent.differing(counts):
        yield from reader.pages(times, minute_us, minute_us + MINUTE_US)
        recent.settle(minute_us, counts[minute_us])


def _floor(us: int) -> int:
    return us - us % MINUTE_US
