"""Tables to write to, and what is told about the transactions that do."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from session_exporter.hooks.sqlalchemy import settlement

metadata = sa.MetaData()
parents = sa.Table("parents", metadata, sa.Column("id", sa.String, primary_key=True))
rows = sa.Table(
    "rows",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("parent", sa.ForeignKey("parents.id", deferrable=True, initially="DEFERRED")),
)


class Clock:
    """Stands still unless it is put on.

    Attributes:
        now_us: Microseconds since the Unix epoch.
    """

    def __init__(self) -> None:
        self.now_us = 1_000_000

    def __call__(self) -> int:
        return self.now_us * 1000


class Told:
    """Inserts rows, and keeps what is told of them, in order.

    Attributes:
        committed: Ids that were committed.
        undone: Ids that were not, in the end.
        times: When they were committed, microseconds since the Unix epoch.
    """

    def __init__(self) -> None:
        self.committed: list[str] = []
        self.undone: list[str] = []
        self.times: list[int] = []

    def defer(self, connection: Connection, name: str) -> None:
        settlement.defer(connection, lambda at_us: self._commit(name, at_us), lambda: self.undone.append(name))

    def insert(self, connection: Connection, name: str, **values: Any) -> None:
        connection.execute(rows.insert().values(id=name, **values))
        self.defer(connection, name)

    def _commit(self, name: str, at_us: int) -> None:
        self.committed.append(name)
        self.times.append(at_us)


def stored(engine: Engine) -> list[str]:
    """Ids of the rows that are there, in order."""
    with engine.connect() as connection:
        return sorted(connection.execute(sa.select(rows.c.id)).scalars())
