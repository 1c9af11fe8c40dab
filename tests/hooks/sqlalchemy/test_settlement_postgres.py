"""When a transaction has really been committed on PostgreSQL, for each of its drivers."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from settling import Told, metadata, parents, rows, stored
from sqlalchemy import exc, orm
from sqlalchemy.engine import Engine

pytestmark = pytest.mark.integration

TWOPHASE_DRIVERS = ["psycopg2", "psycopg"]

# Ends its own backend while the transaction that inserted a row commits.
KILLED_BY_COMMIT = """
CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(10); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER die AFTER INSERT ON rows DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die();
"""


@pytest.fixture
def server(postgres: Any, database: str) -> tuple[Any, str]:
    return postgres, database


@pytest.fixture
def look(postgres: Any, database: str) -> Iterator[Engine]:
    """An engine of nobody's driver under test, to look at what is there."""
    engine = sa.create_engine(postgres.url("psycopg2", database), future=True, poolclass=sa.pool.NullPool)
    metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def run(run_on_postgres: Any, look: Engine) -> Any:
    return run_on_postgres


def test_commits_and_rollbacks_are_told(run: Any, look: Engine, told: Told) -> None:
    def scenario(engine: Engine) -> None:
        with engine.connect() as connection:
            told.insert(connection, "a")
            connection.commit()
            told.insert(connection, "b")
            connection.rollback()
            told.insert(connection, "c")

    run(scenario)
    assert (told.committed, told.undone, stored(look)) == (["a"], ["b", "c"], ["a"])


def test_a_deferred_constraint_that_fails_undoes_the_commit(run: Any, look: Engine, told: Told) -> None:
    def scenario(engine: Engine) -> None:
        with engine.connect() as connection:
            told.insert(connection, "a", parent="nobody")
            with pytest.raises(exc.IntegrityError):
                connection.commit()
            assert told.undone == ["a"]

    run(scenario)
    assert (told.committed, stored(look)) == ([], [])


@pytest.mark.parametrize("when", ["before", "under"])
def test_a_backend_that_is_killed_undoes_the_commit(
    when: str, server: tuple[Any, str], run: Any, look: Engine, told: Told
) -> None:
    postgres, database = server
    if when == "under":
        postgres.psql(KILLED_BY_COMMIT, database)

    def scenario(engine: Engine) -> None:
        with engine.connect() as connection:
            told.insert(connection, "a")
            if when == "before":
                postgres.terminate_backends(database)
            with pytest.raises(exc.DBAPIError):
                connection.commit()
            assert told.undone == ["a"]

    run(scenario)
    assert (told.committed, stored(look)) == ([], [])


def test_a_commit_that_the_database_turns_into_a_rollback_undoes(run: Any, look: Engine, told: Told) -> None:
    def scenario(engine: Engine) -> None:
        with engine.connect() as connection:
            told.insert(connection, "a")
            with pytest.raises(exc.IntegrityError):
                connection.execute(rows.insert().values(id="a"))
            connection.commit()

    run(scenario)
    assert (told.committed, told.undone, stored(look)) == ([], ["a"], [])


def test_a_refused_statement_is_forgotten_with_its_savepoint(run: Any, look: Engine, told: Told) -> None:
    def scenario(engine: Engine) -> None:
        with engine.begin() as connection:
            told.insert(connection, "a")
            savepoint = connection.begin_nested()
            told.insert(connection, "b")
            with pytest.raises(exc.IntegrityError):
                told.insert(connection, "a")
            savepoint.rollback()
            assert told.undone == ["b"]
            told.insert(connection, "c")

    run(scenario)
    assert (told.committed, told.undone, stored(look)) == (["a", "c"], ["b"], ["a", "c"])


def test_what_the_driver_itself_refuses_changes_nothing(run: Any, look: Engine, told: Told) -> None:
    def scenario(engine: Engine) -> None:
        with engine.begin() as connection:
            told.insert(connection, "a")
            with pytest.raises(exc.StatementError):
                connection.execute(parents.insert().values(id=object()))

    run(scenario)
    assert (told.committed, stored(look)) == (["a"], ["a"])


def test_autocommit_is_told_at_once(run: Any, look: Engine, told: Told) -> None:
    def scenario(engine: Engine) -> None:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            told.insert(connection, "a")
            assert told.committed == ["a"]
            connection.rollback()

    run(scenario)
    assert (told.undone, stored(look)) == ([], ["a"])


def test_a_task_that_is_cancelled_undoes_its_transaction(
    postgres: Any, database: str, look: Engine, run_async: Any, told: Told
) -> None:
    async def work(engine: Any, written: asyncio.Event) -> None:
        async with engine.connect() as connection:
            await connection.run_sync(told.insert, "a")
            written.set()
            await connection.execute(sa.text("SELECT pg_sleep(60)"))
            await connection.commit()

    async def main(engine: Any) -> None:
        written = asyncio.Event()
        task = asyncio.create_task(work(engine, written))
        await written.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_async(main, postgres.url("asyncpg", database))
    assert (told.committed, told.undone, stored(look)) == ([], ["a"], [])


@pytest.mark.parametrize("postgres_driver", TWOPHASE_DRIVERS, indirect=True)
class TestTwoPhase:
    @pytest.mark.parametrize("prepared", [False, True])
    @pytest.mark.parametrize("end", ["commit", "rollback"])
    def test_transactions_are_told(self, prepared: Any, end: str, run: Any, look: Engine, told: Told) -> None:
        def scenario(engine: Engine) -> None:
            with engine.connect() as connection:
                transaction = connection.begin_twophase()
                told.insert(connection, "a")
                if prepared:
                    transaction.prepare()
                assert (told.committed, told.undone) == ([], [])
                getattr(transaction, end)()
                assert told.committed == ["a"] * (end == "commit")
                told.insert(connection, "b")
                connection.commit()

        run(scenario)
        assert stored(look) == told.committed
        assert told.undone == ["a"] * (end == "rollback")

    def test_sessions_are_told(self, run: Any, look: Engine, told: Told) -> None:
        def scenario(engine: Engine) -> None:
            with orm.Session(engine, twophase=True, future=True) as session:
                told.insert(session.connection(), "a")
                session.commit()
                told.insert(session.connection(), "b")

        run(scenario)
        assert (told.committed, told.undone, stored(look)) == (["a"], ["b"], ["a"])

    def test_recovery_counts_nothing(self, run: Any, look: Engine, told: Told) -> None:
        def scenario(engine: Engine) -> None:
            with engine.connect() as connection:
                transaction = connection.begin_twophase("lost")
                told.insert(connection, "a")
                transaction.prepare()
                connection.invalidate()
                assert told.undone == ["a"]
            with engine.connect() as connection:
                assert connection.recover_twophase() == ["lost"]
                told.insert(connection, "b")
                connection.commit_prepared("lost", recover=True)
                connection.rollback()

        run(scenario)
        assert (told.committed, told.undone, stored(look)) == ([], ["a", "b"], ["a"])
