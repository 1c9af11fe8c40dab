"""What is known of one table while it is read again and again: its columns, its indexes, and what to say of them."""

from typing import TYPE_CHECKING, Final

from session_exporter.errors import TableUnusable
from session_exporter.mappings import TableMapping
from session_exporter.watch.tables import SessionTable

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

# A table without an index on the time is read so much less often.
SLOWER: Final = 12
# What the catalogue says is asked for so often.
_SHAPE_US: Final = 300_000_000
_WARNINGS_MAX: Final = 20


class TableKnowledge:
    """A table that was looked at before.

    Args:
        mapping: What it is to be.

    Attributes:
        table: As the database had it lately.
    """

    table: SessionTable

    def __init__(self, mapping: TableMapping) -> None:
        self._mapping = mapping
        self._until_us = 0
        self._turn = 0
        self._warned: set[str] = set()
        self._warnings: list[str] = []

    def renew(self, connection: "Connection", now_us: int) -> None:
        """A look begins: ask for the table when that was long ago, or it could not be told what it is.

        Raises:
            TableUnusable: It is not what it is to be.
            SQLAlchemyError: As the connection.
        """
        self._turn += 1
        if now_us < self._until_us:
            return
        self.table = SessionTable(self._mapping, connection)
        if self.table.created_at is None:
            raise TableUnusable(f"table {self._mapping.table}: created_at: not set; expected the column of a time")
        self._until_us = 0 if self.table.is_guessed else now_us + _SHAPE_US
        for name in (self._mapping.created_at, self._mapping.updated_at, self._mapping.id[0]):
            if name and not self.table.has_index_on(name):
                self.warn(self.table.index_advice(name))

    def doubt(self) -> None:
        """Something failed: it may be another table by the next look."""
        self._until_us = 0

    def is_turn(self, name: str) -> bool:
        """Whether a column is to be asked for at this look; without an index that costs."""
        return bool(name) and (self._turn % SLOWER == 1 or self.table.has_index_on(name))

    def warn(self, text: str) -> None:
        """Say something, once."""
        if text not in self._warned and len(self._warned) < _WARNINGS_MAX:
            self._warned.add(text)
            self._warnings.append(text)

    def take_warnings(self) -> list[str]:
        """What was not said before."""
        warnings, self._warnings = self._warnings, []
        return warnings
