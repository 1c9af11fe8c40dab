"""When a transaction has really been committed: over every way to begin, end and lose one."""

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from recorder import Recorder
from settling import Clock, Told, metadata, parents, rows, stored
from sqlalchemy import exc, orm
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import Pool, QueuePool, StaticPool

from session_exporter.hooks.sqlalchemy import buffer, seams, settlement
from session_exporter.tracker import SessionTracker

mapped = orm.registry()


class Row:
    def __init__(self, id: str) -> None:  # noqa: A002 - the column's name
        self.id = id


mapped.map_imperatively(Row, rows)


@pytest.fixture
def engine(engine: Engine) -> Engine:
    metadata.create_all(engine)
    return engine


def test_a_commit_is_told_once_the_driver_has_committed(engine: Engine, told: Told) -> None:
    seen_at_event = []
    sa.event.listen(engine, "commit", lambda _: seen_at_event.append(list(told.committed)))
    with engine.connect() as connection:
        told.insert(connection, "a")
        told.insert(connection, "b")
        assert told.committed == []
        connection.commit()
        assert told.committed == ["a", "b"]
    assert seen_at_event == [[]]
    assert (told.undone, stored(engine)) == ([], ["a", "b"])


def test_all_of_a_transaction_has_the_time_of_its_commit(engine: Engine, told: Told, clock: Clock) -> None:
    with engine.connect() as connection:
        told.insert(connection, "a")
        clock.now_us += 500
        told.insert(connection, "b")
        clock.now_us += 500
        connection.commit()
    assert told.times == [1_001_000, 1_001_000]


def test_the_next_transaction_of_a_connection_is_another_one(engine: Engine, told: Told) -> None:
    with engine.connect() as connection:
        told.insert(connection, "a")
        connection.rollback()
        told.insert(connection, "b")
        connection.commit()
        told.insert(connection, "c")
    assert (told.committed, told.undone, stored(engine)) == (["b"], ["a", "c"], ["b"])


@pytest.mark.parametrize("end", ["rollback", "close", "invalidate"])
def test_what_was_not_committed_is_undone(end: str, engine: Engine, told: Told) -> None:
    connection = engine.connect()
    told.insert(connection, "a")
    told.insert(connection, "b")
    getattr(connection, end)()
    assert (told.committed, told.undone) == ([], ["b", "a"])
    connection.close()
    assert (told.committed, len(told.undone)) == ([], 2)


def test_a_connection_that_is_collected_is_undone(engine: Engine, told: Told) -> None:
    told.insert(engine.connect(), "a")
    gc.collect()
    assert (told.committed, told.undone) == ([], ["a"])


def test_an_application_that_clears_what_its_connection_knows_commits_unseen(engine: Engine, told: Told) -> None:
    with engine.connect() as connection:
        told.insert(connection, "a")
        connection.info.clear()
        assert told.undone == ["a"]
        connection.commit()
    assert told.committed == []


def test_a_detached_connection_goes_on(engine: Engine, told: Told) -> None:
    with engine.connect() as connection:
        told.insert(connection, "a")
        connection.detach()
        connection.commit()
        told.insert(connection, "b")
    assert (told.committed, told.undone) == (["a"], ["b"])
    with engine.begin() as connection:
        told.insert(connection, "c")
    assert told.committed == ["a", "c"]


def refuse_orphans(connection: Any, _: object) -> None:
    connection.execute("PRAGMA foreign_keys = ON")


def test_a_commit_that_a_constraint_refuses_is_undone_with_its_transaction(
    make_engine: Callable[..., Engine], told: Told
) -> None:
    engine = make_engine()
    sa.event.listen(engine, "connect", refuse_orphans)
    metadata.create_all(engine)
    with engine.connect() as connection:
        told.insert(connection, "a", parent="nobody")
        with pytest.raises(exc.IntegrityError):
            connection.commit()
        connection.rollback()
    assert (told.committed, told.undone, stored(engine)) == ([], ["a"], [])


def test_a_transaction_that_sqlite_keeps_is_committed_by_the_next_user_of_its_connection(
    make_engine: Callable[..., Engine], told: Told
) -> None:
    engine = make_engine(poolclass=QueuePool)
    sa.event.listen(engine, "connect", refuse_orphans)
    metadata.create_all(engine)
    with engine.connect() as connection:
        told.insert(connection, "a", parent="late")
        with pytest.raises(exc.IntegrityError):
            connection.commit()
    assert told.undone == []
    with engine.begin() as connection:
        connection.execute(parents.insert().values(id="late"))
    engine.dispose()
    assert (told.committed, told.undone, stored(engine)) == (["a"], [], ["a"])


class Interrupted(BaseException):
    pass


def interrupt(connection: Connection) -> None:
    raise Interrupted


def test_a_commit_that_never_reaches_the_driver_settles_with_its_transaction(
    make_engine: Callable[..., Engine], told: Told
) -> None:
    engine = make_engine(poolclass=QueuePool)
    metadata.create_all(engine)
    for name, end in (("a", "rollback"), ("b", "close")):
        with engine.connect() as connection:
            told.insert(connection, name)
            sa.event.listen(connection, "commit", interrupt)
            with pytest.raises(Interrupted):
                connection.commit()
            getattr(connection, end)()
    assert (told.committed, told.undone) == ([], ["a"])
    with engine.begin():  # of the connection that was returned as it was
        pass
    assert (told.committed, stored(engine)) == (["b"], ["b"])


class TestSavepoints:
    def test_one_that_is_rolled_back_undoes_what_came_after_it(self, engine: Engine, told: Told) -> None:
        with engine.begin() as connection:
            told.insert(connection, "a")
            savepoint = connection.begin_nested()
            told.insert(connection, "b")
            savepoint.rollback()
            assert told.undone == ["b"]
            told.insert(connection, "c")
        assert (told.committed, told.undone, stored(engine)) == (["a", "c"], ["b"], ["a", "c"])

    def test_one_that_is_released_belongs_to_the_outer_one(self, engine: Engine, told: Told) -> None:
        with engine.begin() as connection:
            told.insert(connection, "a")
            outer = connection.begin_nested()
            with connection.begin_nested():
                told.insert(connection, "b")
            assert told.committed == []
            outer.rollback()
        assert (told.committed, told.undone, stored(engine)) == (["a"], ["b"], ["a"])

    def test_one_that_was_made_before_anything_was_deferred_undoes_all(self, engine: Engine, told: Told) -> None:
        with engine.begin() as connection:
            connection.execute(parents.insert().values(id="p"))
            savepoint = connection.begin_nested()
            told.insert(connection, "a")
            connection.begin_nested()
            told.insert(connection, "b")
            savepoint.close()
            told.insert(connection, "c")
        assert (told.committed, told.undone, stored(engine)) == (["c"], ["b", "a"], ["c"])

    def test_those_that_were_released_are_not_kept(self, engine: Engine, told: Told, monkeypatch: Any) -> None:
        monkeypatch.setattr(buffer, "ENTRIES_MAX", 5)
        with engine.begin() as connection:
            told.insert(connection, "a")
            for _ in range(10):
                connection.begin_nested().commit()
            savepoint = connection.begin_nested()
            told.insert(connection, "b")
            savepoint.rollback()
        assert (told.committed, told.undone) == (["a"], ["b"])

    def test_a_session_that_releases_one_has_not_committed(self, engine: Engine, told: Told) -> None:
        with orm.Session(engine, future=True) as session:
            with session.begin_nested():
                session.add(Row("a"))
                session.flush()
                told.defer(session.connection(), "a")
            assert (told.committed, told.undone) == ([], [])
            refused = session.begin_nested()
            told.defer(session.connection(), "b")
            refused.rollback()
            assert (told.committed, told.undone) == ([], ["b"])
            session.commit()
        assert (told.committed, stored(engine)) == (["a"], ["a"])


class TestAutocommit:
    def test_of_a_connection_is_told_at_once(self, engine: Engine, told: Told) -> None:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            told.insert(connection, "a")
            assert told.committed == ["a"]
            connection.rollback()
        assert (told.undone, stored(engine)) == ([], ["a"])

    def test_of_an_engine_is_told_at_once(self, make_engine: Callable[..., Engine], told: Told) -> None:
        engine = make_engine(isolation_level="AUTOCOMMIT")
        metadata.create_all(engine)
        with engine.connect() as connection:
            connection.exec_driver_sql("INSERT INTO rows (id) VALUES ('a')")
            told.defer(connection, "a")
            assert told.committed == ["a"]

    def test_of_an_option_engine_is_its_own(self, engine: Engine, told: Told) -> None:
        with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            told.insert(connection, "a")
        with engine.connect() as connection:
            told.insert(connection, "b")
        assert (told.committed, told.undone, stored(engine)) == (["a"], ["b"], ["a"])

    def test_of_the_library_is_told_at_once(self, make_engine: Callable[..., Engine], told: Told) -> None:
        engine = make_engine(future=False)
        metadata.create_all(engine)
        with engine.connect() as connection:
            told.insert(connection, "a")
            assert told.committed == ["a"]
            with connection.begin():
                told.insert(connection, "b")
                assert told.committed == ["a"]
            transaction = connection.begin()
            told.insert(connection, "c")
            transaction.rollback()
        assert (told.committed, told.undone, stored(engine)) == (["a", "b"], ["c"], ["a", "b"])

    def test_of_the_library_can_be_switched_off(self, make_engine: Callable[..., Engine], told: Told) -> None:
        engine = make_engine(future=False)
        metadata.create_all(engine)
        with engine.connect().execution_options(autocommit=False) as connection:
            told.insert(connection, "a")
        assert (told.committed, told.undone, stored(engine)) == ([], ["a"], [])


def test_connections_that_share_a_driver_connection_commit_each_other(
    make_engine: Callable[..., Engine], told: Told
) -> None:
    engine = make_engine("sqlite://", poolclass=StaticPool)
    metadata.create_all(engine)
    first, second = engine.connect(), engine.connect()
    told.insert(first, "a")
    told.insert(second, "b")
    second.commit()
    first.rollback()
    assert (told.committed, stored(engine)) == (["a", "b"], ["a", "b"])
    first.close()
    second.close()


def test_a_pool_that_commits_on_return_commits(make_engine: Callable[..., Engine], told: Told) -> None:
    engine = make_engine(future=False, pool_reset_on_return="commit")
    metadata.create_all(engine)
    with engine.connect().execution_options(autocommit=False) as connection:
        told.insert(connection, "a")
    assert (told.committed, stored(engine)) == (["a"], ["a"])


class TestTransactions:
    def test_are_one_until_they_end(self, engine: Engine, told: Told) -> None:
        with engine.connect() as connection:
            connection.execute(sa.select(rows.c.id))
            first = settlement.transaction_of(connection)
            with connection.begin_nested():
                told.insert(connection, "a")
                assert settlement.transaction_of(connection) == first
            connection.commit()
            connection.execute(sa.select(rows.c.id))
            second = settlement.transaction_of(connection)
            connection.rollback()
            connection.execute(sa.select(rows.c.id))
            assert len({first, second, settlement.transaction_of(connection)}) == 3

    @pytest.mark.usefixtures("told")
    def test_of_autocommit_are_its_statements(self, engine: Engine) -> None:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            assert settlement.transaction_of(connection) != settlement.transaction_of(connection)


class TestAsync:
    def test_commits_and_rollbacks_are_told(self, engine: Engine, run_async: Any, told: Told) -> None:
        async def main(async_engine: Any) -> None:
            async with async_engine.connect() as connection:
                await connection.run_sync(told.insert, "a")
                await connection.commit()
                assert told.committed == ["a"]
                await connection.run_sync(told.insert, "b")
                await connection.rollback()
                assert told.undone == ["b"]
                await connection.run_sync(told.insert, "c")

        run_async(main)
        assert (told.committed, told.undone, stored(engine)) == (["a"], ["b", "c"], ["a"])

    def test_tasks_at_once_settle_their_own(self, engine: Engine, run_async: Any, told: Told) -> None:
        async def work(async_engine: Any, number: int) -> None:
            async with async_engine.connect() as connection:
                await connection.exec_driver_sql("PRAGMA busy_timeout = 10000")
                await connection.run_sync(told.insert, str(number))
                await (connection.commit() if number % 2 else connection.rollback())

        async def main(async_engine: Any) -> None:
            await asyncio.gather(*(work(async_engine, number) for number in range(10)))

        run_async(main)
        assert sorted(told.committed) == stored(engine) == ["1", "3", "5", "7", "9"]
        assert sorted(told.undone) == ["0", "2", "4", "6", "8"]


@pytest.mark.usefixtures("uninstall")
class TestFailures:
    def test_of_callbacks_are_counted_and_keep_nobody_from_theirs(self, engine: Engine, journal: Recorder) -> None:
        told = Told()

        def fail(*_: object) -> None:
            raise ZeroDivisionError

        for end in ("commit", "rollback"):
            with engine.connect() as connection:
                told.insert(connection, end)
                settlement.defer(connection, fail, fail)
                told.defer(connection, "last")
                getattr(connection, end)()
        assert (told.committed, told.undone) == (["commit", "last"], ["last", "rollback"])
        assert journal.errors.pop("sqlalchemy") == 2

    def test_are_what_a_transaction_has_too_many_of(self, engine: Engine, monkeypatch: Any, journal: Recorder) -> None:
        monkeypatch.setattr(buffer, "ENTRIES_MAX", 2)
        told = Told()
        with engine.begin() as connection:
            for name in "abc":
                told.insert(connection, name)
            assert told.undone == ["c"]
        assert told.committed == ["a", "b"]
        assert journal.errors.pop("sqlalchemy") == 1

    @pytest.mark.parametrize("broken", ["add", "commit", "undo", "savepoint", "release", "roll_back_to"])
    def test_of_ours_are_counted_and_the_application_goes_on(
        self, broken: str, engine: Engine, monkeypatch: Any, journal: Recorder
    ) -> None:
        def fail(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(buffer.Buffer, broken, fail)
        told = Told()
        with engine.begin() as connection:
            told.insert(connection, "a")
            with connection.begin_nested():
                told.insert(connection, "b")
            savepoint = connection.begin_nested()
            told.insert(connection, "c")
            savepoint.rollback()
        with engine.connect() as connection:
            told.insert(connection, "d")
        assert stored(engine) == ["a", "b"]
        assert journal.errors["sqlalchemy"] > 0

    def test_of_a_connection_that_is_closed_are_counted(self, engine: Engine, journal: Recorder) -> None:
        connection = engine.connect()
        connection.close()
        Told().defer(connection, "a")
        settlement.transaction_of(connection)
        assert journal.errors.pop("sqlalchemy") == 2


def test_a_forked_child_does_not_settle_its_parents(make_engine: Callable[..., Engine], told: Told) -> None:
    engine = make_engine("sqlite://")  # in memory, of which the child has a copy
    metadata.create_all(engine)
    connection = engine.connect()
    told.insert(connection, "a")
    child = os.fork()
    if not child:  # pragma: no cover - in the child
        connection.commit()
        os._exit(len(told.committed) + len(told.undone))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    connection.commit()
    assert told.committed == ["a"]
    connection.close()


def test_a_child_forked_while_another_thread_wraps_a_dialect_does_not_wait_for_it(
    engine: Engine, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, forked = threading.Event(), threading.Event()

    def wrap_slowly(*_: object) -> object:
        if threading.current_thread() is thread:
            entered.set()
            forked.wait(10)
        return original

    original = type(engine.dialect).do_commit
    monkeypatch.setitem(seams.METHODS, "do_commit", wrap_slowly)
    thread = threading.Thread(target=settlement._seams.wrap, args=[type(engine.dialect)])
    thread.start()
    entered.wait(10)
    child = os.fork()
    if not child:  # pragma: no cover - in the child
        signal.alarm(5)
        settlement._seams.wrap(type(engine.dialect))
        os._exit(0)
    forked.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class TestUninstalling:
    def test_undoes_what_is_open_and_leaves_the_dialect_as_it_was(
        self, engine: Engine, told: Told, uninstall: Callable[[], None]
    ) -> None:
        dialect = type(engine.dialect)
        with engine.connect() as connection:
            told.insert(connection, "a")
            assert "do_commit" in vars(dialect)
            uninstall()
            assert not set(seams.METHODS) & set(vars(dialect))
            assert told.undone == ["a"]
            told.insert(connection, "b")
            connection.commit()
        assert (told.committed, told.undone, stored(engine)) == ([], ["a"], ["a", "b"])
        assert not sa.event.contains(Pool, "close", settlement._closed)
        assert not sa.event.contains(Engine, "handle_error", settlement._refused)

    def test_twice_is_once(self, engine: Engine, told: Told, tracker: SessionTracker) -> None:
        second = settlement.install(tracker.reporter("db_sessions"))
        second()
        second()
        with engine.begin() as connection:
            told.insert(connection, "a")
        assert told.committed == ["a"]
