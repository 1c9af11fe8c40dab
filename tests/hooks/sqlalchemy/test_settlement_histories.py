"""What is told of random transactions, compared with the rows that are there after them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from settling import Told, metadata, parents, rows, stored
from sqlalchemy import exc
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import NullPool, QueuePool

# Savepoints that are ended out of order warn.
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["insert"] * 4
            + ["savepoint", "release", "roll_back_to"] * 3
            + ["fail", "orphan", "adopt", "commit", "rollback", "checkin", "invalidate"]
        ),
        st.integers(0, 3),
    ),
    max_size=25,
)


class History:
    """Does what an application may do with connections, one at a time; what is refused is refused."""

    def __init__(self, engine: Engine, told: Told) -> None:
        self.engine = engine
        self.told = told
        self.connection = engine.connect()
        self.savepoints: list[Any] = []
        self.names = map(str, count())
        self.inserted: list[str] = []

    def take(self, step: str, number: int) -> None:
        # 1.4 asserts that no transaction begins where one could not begin.
        with suppress(exc.SQLAlchemyError, IndexError, AssertionError):
            getattr(self, step)(number)

    def insert(self, _: int, **values: Any) -> None:
        name = next(self.names)
        self.told.insert(self.connection, name, **values)
        self.inserted.append(name)

    def fail(self, _: int) -> None:
        self.connection.execute(sa.text("SELECT * FROM nowhere"))

    def orphan(self, _: int) -> None:
        self.insert(0, parent="late")

    def adopt(self, _: int) -> None:
        self.connection.execute(parents.insert().values(id="late"))

    def savepoint(self, _: int) -> None:
        self.savepoints.append(self.connection.begin_nested())

    def release(self, number: int) -> None:
        self.savepoints[-1 - number].commit()

    def roll_back_to(self, number: int) -> None:
        self.savepoints[-1 - number].rollback()

    def commit(self, _: int) -> None:
        self.connection.commit()

    def rollback(self, _: int) -> None:
        self.connection.rollback()

    def checkin(self, _: int) -> None:
        self.connection.close()
        self.connection = self.engine.connect()
        self.savepoints.clear()

    def invalidate(self, _: int) -> None:
        self.connection.invalidate()
        self.checkin(0)


def check(steps: list[tuple[str, int]], engine: Engine, look: Engine, told: Told) -> None:
    with look.begin() as connection:
        for table in (rows, parents):
            connection.execute(table.delete())
    told.committed.clear()
    told.undone.clear()
    history = History(engine, told)
    for step, number in steps:
        history.take(step, number)
    history.connection.close()
    engine.dispose()
    assert sorted(told.committed) == stored(look)
    assert Counter(told.committed + told.undone) == Counter(history.inserted)


@pytest.fixture
def sqlite(make_engine: Any, sqlite_url: str) -> Iterator[tuple[Engine, Engine]]:
    """An engine whose driver leaves transactions to SQLAlchemy, as savepoints need, and one to look."""
    engine = make_engine(poolclass=QueuePool, pool_size=1, max_overflow=0)

    @sa.event.listens_for(engine, "connect")
    def leave_transactions_alone(connection: Any, _: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if not connection.connection.in_transaction:  # as it is once a commit was refused
            connection.exec_driver_sql("BEGIN")

    metadata.create_all(engine)
    return engine, make_engine(sqlite_url, poolclass=NullPool)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_sqlite_has_what_was_told(steps: Any, sqlite: tuple[Engine, Engine], told: Told) -> None:
    check(steps, *sqlite, told)


@pytest.fixture
def postgresql(postgres: Any, make_engine: Any) -> Iterator[tuple[Engine, Engine]]:
    database = postgres.database()
    url = postgres.url("psycopg2", database)
    engine = make_engine(url, pool_size=1, max_overflow=0)
    metadata.create_all(engine)
    yield engine, make_engine(url, poolclass=NullPool)
    engine.dispose()
    postgres.drop(database)


@pytest.mark.integration
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_postgresql_has_what_was_told(steps: Any, postgresql: tuple[Engine, Engine], told: Told) -> None:
    check(steps, *postgresql, told)
