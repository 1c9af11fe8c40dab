"""What can go wrong with a Session on PostgreSQL: each error is counted by its kind, in a record that is whole."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from db_uses import Uses
from sqlalchemy.orm import Session, declarative_base

from session_exporter.core.db_sessions import metrics_of
from session_exporter.core.model import SessionState
from session_exporter.hooks.sqlalchemy.sessions import watch_db_sessions
from session_exporter.journal.control import COUNTS

pytestmark = pytest.mark.integration

IS_14 = sa.__version__.startswith("1.4.")
SELECT = sa.text("SELECT 1")
SECRET = "correct horse battery staple"

base = declarative_base()


class Row(base):  # type: ignore[misc, valid-type]  # made at run time
    __tablename__ = "rows"
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.String, unique=True)


@pytest.fixture
def uses(journal) -> Uses:
    return Uses(journal)


@pytest.fixture(autouse=True)
def stop(tracker, journal) -> Iterator[None]:
    stop = watch_db_sessions(tracker)
    yield
    stop()
    assert not journal.errors


@pytest.fixture(params=["psycopg2", "psycopg", "asyncpg"])
def run(request, postgres, database, tracker) -> Callable[..., BaseException | None]:
    """Runs a function with a Session on an engine of its own, in a request of the user `system`; returns its error.

    An asynchronous driver runs it as an AsyncSession does.
    """
    driver = request.param
    if IS_14 and driver == "psycopg":
        pytest.skip("1.4 knows of no psycopg")

    def on_sync(url: str, act: Callable[[Session], object], options: dict[str, Any]) -> None:
        engine = sa.create_engine(url, future=True, **options)
        try:
            with Session(engine, future=True) as session:
                act(session)
        finally:
            engine.dispose()

    async def on_async(url: str, act: Callable[[Session], object], options: dict[str, Any]) -> None:
        from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

        engine = create_async_engine(url, **options)
        try:
            async with AsyncSession(engine) as session:
                await session.run_sync(act)
        finally:
            await engine.dispose()

    def run(
        act: Callable[[Session], object], *, user: str = "postgres", port: int = postgres.port, **options: Any
    ) -> BaseException | None:
        url = f"postgresql+{driver}://{user}@{postgres.host}:{port}/{database}"
        try:
            with tracker.request(user_id="system", request_id="request-1"):
                if driver == "asyncpg":
                    asyncio.run(on_async(url, act, options))
                else:
                    on_sync(url, act, options)
        except Exception as error:  # noqa: BLE001 - what the application gets is asserted
            return error
        return None

    return run


def expect(uses: Uses, kinds: dict[str, int], *, label: str, queries: int, **others: Any) -> None:
    """Asserts every field of the one use that is over."""
    event = uses.only
    metrics = metrics_of(event)
    state, outcome = others.get("state", "error"), others.get("outcome", "error")
    assert (event.outcome, event.state, event.errors) == (outcome, state, kinds)
    assert metrics.state is SessionState(state)
    assert (metrics.user_id, metrics.request_id) == ("system", "request-1")
    assert metrics.session_id
    assert metrics.query_count == queries
    assert metrics.transaction_count == others.get("transactions", 1)
    assert metrics.error_count == metrics.errors == sum(kinds.values())
    assert metrics.last_error == label
    assert metrics.created_at <= metrics.last_activity_at <= metrics.closed_at <= datetime.now(UTC)
    assert metrics.last_activity == metrics.last_activity_at
    assert metrics.total_time_ms >= 0
    assert "has no attribute" not in str(metrics.to_dict())
    assert SECRET not in repr(event)
    assert uses.kinds == {}
    assert (uses.open, uses.opened, uses.leaked) == (0, 1, 0)
    assert set(uses.journal.counts) <= set(COUNTS)


def test_a_unique_index_that_refuses_is_an_integrity_error_without_its_parameters(run, uses):
    def act(session: Session) -> None:
        base.metadata.create_all(session.connection())
        session.add(Row(name=SECRET))
        session.flush()
        session.add(Row(name=SECRET))
        session.flush()

    error = run(act)
    assert isinstance(error, sa.exc.IntegrityError)
    assert SECRET in str(error)
    expect(uses, {"integrity": 1}, label="IntegrityError 23505", queries=uses.only.queries)


def test_a_statement_that_takes_too_long_is_a_timeout(run, uses):
    def act(session: Session) -> None:
        session.execute(sa.text("SET LOCAL statement_timeout = 20"))
        session.execute(sa.text("SELECT pg_sleep(20)"))

    error = run(act)
    assert isinstance(error, sa.exc.DBAPIError)
    expect(uses, {"timeout": 1}, label=f"{type(error).__name__} 57014", queries=2)


def test_a_session_that_was_not_rolled_back_after_an_error_is_in_a_wrong_state(run, uses):
    def act(session: Session) -> None:
        base.metadata.create_all(session.connection())
        session.add_all([Row(id=1, name="a"), Row(id=2, name="a")])
        with pytest.raises(sa.exc.IntegrityError):
            session.flush()
        session.execute(SELECT)

    error = run(act)
    assert isinstance(error, sa.exc.PendingRollbackError)
    expect(uses, {"integrity": 1, "state": 1}, label="PendingRollbackError", queries=uses.only.queries)


def test_what_is_done_while_an_error_is_handled_has_no_part_in_its_sqlstate(run, uses):
    def act(session: Session) -> None:
        base.metadata.create_all(session.connection())
        session.commit()
        with session.begin():
            session.add_all([Row(id=1, name="a"), Row(id=2, name="a")])
            try:
                session.flush()
            except sa.exc.IntegrityError:
                session.execute(SELECT)

    error = run(act)
    assert type(error) is sa.exc.InvalidRequestError
    kinds = {"integrity": 1, "state": 1}
    expect(uses, kinds, label="InvalidRequestError", queries=uses.only.queries, transactions=2)


def test_a_backend_that_was_killed_is_a_lost_connection(run, uses, postgres, database):
    def act(session: Session) -> None:
        session.execute(SELECT)
        postgres.terminate_backends(database)
        session.execute(SELECT)

    error = run(act)
    assert isinstance(error, sa.exc.DBAPIError)
    assert uses.only.last_error.startswith(type(error).__name__)
    expect(uses, {"connection": 1}, label=uses.only.last_error, queries=2)


def test_a_backend_that_dies_under_the_commit_has_not_committed(run, uses, postgres, database):
    def act(session: Session) -> None:
        session.execute(SELECT)
        postgres.terminate_backends(database)
        session.commit()

    assert run(act) is not None
    expect(uses, {"connection": 1}, label=uses.only.last_error, queries=1)


def test_a_deferred_constraint_that_fails_at_the_commit_is_an_integrity_error(run, uses):
    def act(session: Session) -> None:
        session.execute(sa.text("CREATE TABLE d (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
        session.execute(sa.text("INSERT INTO d VALUES (1), (1)"))
        session.commit()

    error = run(act)
    assert isinstance(error, sa.exc.IntegrityError)
    expect(uses, {"integrity": 1}, label="IntegrityError 23505", queries=2)


def test_a_port_where_nobody_listens_is_a_failed_connection(run, uses):
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        error = run(lambda session: session.execute(SELECT), port=unheard.getsockname()[1])
    # asyncpg's is an OSError, of which SQLAlchemy's own event does not tell.
    assert isinstance(error, sa.exc.OperationalError | OSError)
    expect(uses, {"connection": 1}, label=type(error).__name__, queries=0)


def test_a_wrong_password_is_told_from_it(run, uses):
    error = run(lambda session: session.execute(SELECT), user="locked:wrong")
    assert isinstance(error, Exception)
    assert uses.only.last_error.split()[0] == type(error).__name__
    expect(uses, {"auth": 1}, label=uses.only.last_error, queries=0)


def test_an_exhausted_pool_is_told_from_other_timeouts_and_its_wait_is_counted(run, uses, journal):
    def act(session: Session) -> None:
        held = session.get_bind().connect()
        try:
            session.execute(SELECT)
        finally:
            held.close()

    error = run(act, pool_size=1, max_overflow=0, pool_timeout=0.05)
    assert isinstance(error, sa.exc.TimeoutError)
    expect(uses, {"pool_timeout": 1}, label="TimeoutError", queries=0)
    assert max(journal.pool_waits_us) >= 45_000


def test_a_connection_that_pre_ping_replaces_is_no_error(run, uses, postgres, database):
    def act(session: Session) -> None:
        session.execute(SELECT)
        session.commit()
        postgres.terminate_backends(database)
        session.execute(SELECT)
        session.commit()

    assert run(act, pool_pre_ping=True) is None
    event = uses.only
    assert (event.outcome, event.errors, event.queries, event.transactions) == ("committed", {}, 2, 2)


def test_an_object_without_its_session_is_a_use_that_could_not_begin(run, uses):
    def act(session: Session) -> None:
        base.metadata.create_all(session.connection())
        row = Row(name="a")
        session.add(row)
        session.commit()
        session.close()
        assert row.name

    error = run(act)
    assert type(error).__name__ == "DetachedInstanceError"
    used, lacking = uses.ended
    assert (used.outcome, used.errors) == ("committed", {})
    assert (lacking.outcome, lacking.state, lacking.errors) == ("error", "error", {"state": 1})
    assert (lacking.queries, lacking.transactions, lacking.last_error) == (0, 0, "DetachedInstanceError")
    assert (lacking.user, lacking.request) == ("system", "request-1")
    assert (uses.opened, uses.open) == (2, 0)


def test_rows_that_fail_on_their_way_are_counted(run, uses):
    def act(session: Session) -> None:
        divided = sa.text("SELECT 1 / (3 - n) FROM generate_series(1, 5) AS n")
        session.execute(divided.execution_options(stream_results=True, max_row_buffer=1)).all()

    error = run(act)
    assert error is not None
    expect(uses, {"other": 1}, label=f"{type(error).__name__} 22012", queries=1)


def test_a_statement_past_the_session_is_counted_once(run, uses):
    def act(session: Session) -> None:
        session.connection().execute(sa.text("SELECT nothing"))

    error = run(act)
    expect(uses, {"other": 1}, label=f"{type(error).__name__} 42703", queries=1)


def test_a_deadlock_is_counted_for_its_victim(postgres, database, uses, tracker):
    engine = sa.create_engine(postgres.url("psycopg2", database), future=True)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (id int PRIMARY KEY, n int)"))
        connection.execute(sa.text("INSERT INTO t VALUES (1, 0), (2, 0)"))
    barrier = threading.Barrier(2)

    def update(user: str, *ids: int) -> None:
        with tracker.request(user_id=user), Session(engine, future=True) as session:
            try:
                for place, number in enumerate(ids):
                    session.execute(sa.text("UPDATE t SET n = n + 1 WHERE id = :id"), {"id": number})
                    if not place:
                        barrier.wait(30)
                session.commit()
            except sa.exc.OperationalError:
                session.rollback()

    threads = [threading.Thread(target=update, args=args) for args in (("a", 1, 2), ("b", 2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    engine.dispose()
    assert sorted(uses.outcomes) == ["committed", "error"]
    (victim,) = [event for event in uses.ended if event.outcome == "error"]
    assert (victim.errors, victim.last_error, victim.queries) == ({"deadlock": 1}, "OperationalError 40P01", 2)
    assert {event.user for event in uses.ended} == {"a", "b"}


def test_a_task_that_is_cancelled_is_no_error_of_the_database(postgres, database, uses):
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    async def main() -> None:
        engine = create_async_engine(postgres.url("asyncpg", database))
        async with AsyncSession(engine) as session:
            await session.execute(SELECT)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(session.execute(sa.text("SELECT pg_sleep(20)")), 0.05)
        await engine.dispose()

    asyncio.run(main())
    assert (uses.only.outcome, uses.only.errors) == ("rolled_back", {})
