"""Reading a table in the order of a time, some thousand rows at once, however many there are."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from session_exporter.watch.tables import SessionTable
from session_exporter.watch.times import TimeColumn

from sqlalchemy import tuple_  # isort: skip

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

PAGE_ROWS: Final = 5000


class Reader:
    """Asks a table by whatever connection there is now.

    Between two pages there may be another transaction: each sees at least what the one before has seen.

    Args:
        page_rows: How many rows are read at once.

    Attributes:
        connection: To be set before each piece of work.
        table: The table; to be set likewise.
    """

    connection: "Connection"
    table: SessionTable

    def __init__(self, page_rows: int = PAGE_ROWS) -> None:
        self._page_rows = page_rows

    def all(self, statement: Any) -> list[Any]:
        """Execute a statement and fetch all rows."""
        return list(self.connection.execute(statement).all())

    def pages(self, times: TimeColumn, from_us: int, to_us: int, *, backwards: bool = False) -> Iterator[list[Any]]:
        """The rows of a span, by pages.

        Rows that share time and id are one to us: a page may end between them.

        Args:
            times: The column that orders them.
            from_us: The first time, microseconds; up to a second earlier where the column cannot be compared so.
            to_us: The first time that is not in the span.
            backwards: The newest first.
        """
        table = self.table  # of which `times` is; it may be another one by the next page
        columns = (times.column, *table.ids)
        order = [each.desc() if backwards else each for each in columns]
        span = (times.column >= times.bound(from_us), times.column < times.bound(to_us, is_end=True))
        conditions: tuple[Any, ...] = span
        while True:
            statement = table.rows(*conditions, beside=(times.column.label("cursor_"),))
            page = self.all(statement.order_by(*order).limit(self._page_rows))
            if page:
                yield page
            if len(page) < self._page_rows:
                return
            last = (page[-1].cursor_, *table.id_key(page[-1]))
            border = times.column <= last[0] if backwards else times.column >= last[0]
            beyond = tuple_(*columns) < last if backwards else tuple_(*columns) > last
            conditions = (*span, border, beyond)
