"""The rows that were there before: newest first, once, to know their ids; and after a restart, to know what is live."""

from collections.abc import Iterator
from typing import Any, Final

from session_exporter.core.rows import OLD, Row
from session_exporter.watch.ends import LiveIds
from session_exporter.watch.pages import Reader
from session_exporter.watch.tables import SessionTable

ROWS_MAX: Final = 1_000_000
# Between two looks for new rows.
PAGES_AT_ONCE: Final = 4


class Seeding:
    """Reads back from a moment, a part at a time.

    Args:
        until_us: Where to begin, as the database's clock says: what came later is read by others.
        since_us: What was created before that is `OLD`, and handed over; the rest is only believed live.
        is_known: Whether what is `OLD` was handed over before.
        retention_us: How far back.

    Attributes:
        is_over: Whether there is nothing left to read.
    """

    def __init__(self, until_us: int, since_us: int, *, is_known: bool, retention_us: int) -> None:
        self.is_over = False
        self._until_us = until_us
        self._since_us = since_us
        self._is_known = is_known
        self._retention_us = retention_us
        self._pages: Iterator[list[Any]] | None = None
        self._rows = 0

    def parts(self, reader: Reader, live: LiveIds, *, may_tell: bool) -> Iterator[list[Row]]:
        """Read on for a while.

        Args:
            reader: Asks the table.
            live: What is active is put there.
            may_tell: Whether what is `OLD` may be handed over already.

        Yields:
            What is `OLD`, to be handed over.
        """
        if self.is_over or not (may_tell or self._is_known):
            return
        # Without an index each page is a scan.
        for _ in range(PAGES_AT_ONCE if reader.table.has_index_on(reader.table.mapping.created_at) else 1):
            page = self._next_page(reader)
            if page is None:
                self.is_over = True
                return
            rows = self._read(reader.table, live, page)
            if rows:
                yield rows
            self.is_over = self._rows >= ROWS_MAX or (self._is_known and live.is_full)
            if self.is_over:
                return

    def _next_page(self, reader: Reader) -> list[Any] | None:
        times = reader.table.created_at
        if times is None:
            return None
        if self._pages is None:
            self._pages = reader.pages(times, self._until_us - self._retention_us, self._until_us, backwards=True)
        try:
            page = next(self._pages, None)
        except Exception:
            self._pages = None  # the next time, on from here
            raise
        if page:
            self._rows += len(page)
            self._until_us = reader.table.created_us(page[-1]) + 1
        return page

    def _read(self, table: SessionTable, live: LiveIds, page: list[Any]) -> list[Row]:
        old: dict[str, Row] = {}
        for row in page:
            session = table.session(row)
            if not session:
                continue
            if not live.is_full and table.is_active(row):
                live.add(session, table.id_key(row))
            created_us = table.created_us(row)
            if created_us < self._since_us and not self._is_known and session not in old:
                last_us = max(created_us, table.updated_us(row))
                old[session] = Row(OLD, last_us, session, table.user(row), table.key(row))
        return list(old.values())
