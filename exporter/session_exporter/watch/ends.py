"""Sessions believed live: some of them are looked for each time, and those that are gone or inactive are over."""

from itertools import islice
from typing import Any, Final

from session_exporter.core.rows import OVER, Row
from session_exporter.watch.pages import Reader
from session_exporter.watch.tables import SessionTable
from session_exporter.watch.telling import over_row

LIVE_MAX: Final = 100_000
# Some 40 µs each.
CHECKED_AT_ONCE: Final = 200


class LiveIds:
    """The ids of sessions that were active when their rows were read last; when it is full, the first leave."""

    def __init__(self, ids_max: int = LIVE_MAX) -> None:
        self._ids_max = ids_max
        self._keys: dict[str, tuple[Any, ...]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def is_full(self) -> bool:
        """Whether the next one makes another leave."""
        return len(self._keys) >= self._ids_max

    def add(self, session: str, key: tuple[Any, ...]) -> None:
        """Believe a session live; `key` is its id as the columns have it."""
        self._keys[session] = key
        while len(self._keys) > self._ids_max:
            del self._keys[next(iter(self._keys))]

    def drop(self, session: str) -> None:
        """A session is over."""
        self._keys.pop(session, None)

    def check(self, reader: Reader, now_us: int, sessions_max: int = CHECKED_AT_ONCE) -> list[Row]:
        """Look for those whose turn it is; returns what is over. What is not dropped then is found again next time."""
        keys = dict(islice(self._keys.items(), sessions_max))
        if not keys:
            return []
        table = reader.table
        rows: dict[str, list[Any]] = {}
        for row in reader.all(table.distinct_rows(table.is_one_of(keys.values()))):
            rows.setdefault(table.session(row), []).append(row)
        over = [each for session in keys if (each := _over(table, session, rows.get(session, []), now_us))]
        for session, key in keys.items():  # to the end of the line
            del self._keys[session]
            self._keys[session] = key
        return over


def _over(table: SessionTable, session: str, rows: list[Any], now_us: int) -> Row | None:
    if not rows:
        return Row(OVER, now_us, session, reason="deleted")
    if any(table.is_active(row) for row in rows):
        return None
    newest = max(rows, key=table.updated_us)
    return over_row(table, newest, now_us)
