"""A use of a Session is followed from its first transaction until it is closed, and reported once."""

import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from weakref import ref

import pytest
import sqlalchemy as sa
from db_uses import Monotonic, Uses
from sqlalchemy.orm import Session, declarative_base, scoped_session, sessionmaker

from session_exporter.core.db_sessions import metrics_of
from session_exporter.core.model import SessionState
from session_exporter.hooks.sqlalchemy import watch as watching
from session_exporter.hooks.sqlalchemy.operations import Operations
from session_exporter.hooks.sqlalchemy.pools import PoolWatch
from session_exporter.hooks.sqlalchemy.sessions import watch_db_sessions
from session_exporter.hooks.sqlalchemy.watch import Watch

IS_14 = sa.__version__.startswith("1.4.")
SELECT = sa.text("SELECT 1")

base = declarative_base()


class Row(base):  # type: ignore[misc, valid-type]  # made at run time
    __tablename__ = "rows"
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.String, unique=True)


@pytest.fixture
def uses(journal) -> Uses:
    return Uses(journal)


@pytest.fixture
def stop(tracker, journal):
    stop = watch_db_sessions(tracker)
    yield stop
    stop()
    assert not journal.errors


@pytest.fixture
def monotonic() -> Monotonic:
    return Monotonic()


@pytest.fixture
def watched(tracker, journal, monotonic):
    """Sessions watched by a clock of the test's own, with a lifetime of ten seconds."""
    reporter = tracker.reporter("db_sessions")
    watch = Watch(reporter, 10.0, monotonic)
    operations = Operations(watch, PoolWatch(reporter, monotonic))
    operations.install()
    yield watch
    operations.uninstall()
    watch.stop()
    assert not journal.errors


@pytest.fixture
def session(engine):
    with Session(engine, future=True) as session:
        yield session


def open_session(engine: Any) -> Session:
    session = Session(engine, future=True)
    session.execute(SELECT)
    return session


@pytest.mark.usefixtures("stop")
class TestUses:
    def test_a_use_lasts_over_as_many_commits_as_it_sees(self, session, uses):
        for _ in range(3):
            session.execute(SELECT)
            session.execute(SELECT)
            session.commit()
        assert uses.ended == []
        assert uses.open == 1
        session.close()
        assert (uses.only.queries, uses.only.transactions, uses.only.outcome) == (6, 3, "committed")
        assert (uses.opened, uses.open, uses.journal.gauges["db_peak_open_sessions"]) == (1, 0, 1)

    def test_the_record_is_that_of_the_canonical_model(self, session, uses, tracker):
        before_us = time.time_ns() // 1000
        with tracker.request(user_id="system", request_id="r1"):
            session.execute(SELECT)
            session.commit()
            session.close()
        metrics = metrics_of(uses.only)
        assert (metrics.user_id, metrics.request_id, metrics.session_id) == ("system", "r1", uses.only.session)
        assert metrics.state is SessionState.COMMITTED
        assert (metrics.query_count, metrics.transaction_count, metrics.error_count) == (1, 1, 0)
        assert metrics.last_error is None
        assert metrics.created_at <= metrics.last_activity_at <= metrics.closed_at
        assert metrics.total_time_ms == pytest.approx(uses.only.total_time_us / 1000)
        assert before_us <= uses.only.opened_at_us <= uses.only.at_us <= time.time_ns() // 1000
        assert uses.only.sites

    def test_a_session_that_has_only_read_is_rolled_back(self, engine, uses):
        open_session(engine).close()
        assert (uses.only.outcome, uses.only.state) == ("rolled_back", "rolled_back")

    def test_the_last_transaction_decides_how_it_ended(self, session, uses):
        session.execute(SELECT)
        session.commit()
        session.execute(SELECT)
        session.rollback()
        session.close()
        assert (uses.only.outcome, uses.only.state, uses.only.transactions) == ("rolled_back", "rolled_back", 2)

    def test_an_error_that_was_made_good_is_counted_and_forgiven(self, session, uses):
        with pytest.raises(sa.exc.OperationalError):
            session.execute(sa.text("SELEKT"))
        session.rollback()
        session.execute(SELECT)
        session.commit()
        session.close()
        assert (uses.only.outcome, uses.only.state, uses.only.errors) == ("committed", "committed", {"other": 1})
        assert uses.only.last_error == "OperationalError"

    def test_an_error_that_was_not_is_how_it_ended(self, session, uses):
        with pytest.raises(sa.exc.OperationalError):
            session.execute(sa.text("SELEKT"))
        session.close()
        assert (uses.only.outcome, uses.only.state, uses.only.errors) == ("error", "error", {"other": 1})

    def test_savepoints_and_flushes_are_no_transactions_of_their_own(self, engine, session, uses):
        base.metadata.create_all(engine)
        with session.begin():
            with session.begin_nested():
                session.add(Row(name="a"))
            session.add(Row(name="b"))
            session.flush()
        session.close()
        assert (uses.only.transactions, uses.only.outcome) == (1, "committed")

    def test_a_released_savepoint_commits_nothing(self, session, uses):
        session.execute(SELECT)
        with session.begin_nested():
            session.execute(SELECT)
        session.rollback()
        session.close()
        assert (uses.only.transactions, uses.only.outcome) == (1, "rolled_back")

    def test_every_way_of_executing_is_counted(self, engine, session, uses):
        base.metadata.create_all(engine)
        session.add_all([Row(name="a")])
        session.flush()
        session.bulk_save_objects([Row(name="b")])
        session.query(Row).all()
        session.scalar(SELECT)
        session.connection().execute(SELECT)
        session.connection().exec_driver_sql("SELECT 1")
        session.commit()
        session.get(Row, 1)
        session.close()
        assert (uses.only.queries, uses.only.transactions) == (7, 2)

    def test_statements_of_engines_are_nobodys(self, engine, uses):
        with engine.connect() as connection:
            connection.execute(SELECT)
        assert (uses.opened, uses.ended) == (0, [])

    def test_a_second_use_of_the_same_session_is_another_one(self, session, uses):
        for _ in range(2):
            session.execute(SELECT)
            session.close()
            session.close()
        assert len({event.session for event in uses.ended}) == 2
        assert uses.opened == 2

    @pytest.mark.parametrize("end", ["close", "invalidate", "reset"])
    def test_closed_invalidated_and_reset_are_ends(self, session, uses, end):
        if not hasattr(session, end):
            pytest.skip("1.4 has no reset")
        session.execute(SELECT)
        getattr(session, end)()
        assert uses.outcomes == ["rolled_back"]

    def test_a_scoped_session_is_one_use_until_it_is_removed(self, engine, uses):
        registry = scoped_session(sessionmaker(engine, future=True))
        for _ in range(2):
            registry.execute(SELECT)
            registry.commit()
            registry.remove()
        assert uses.outcomes == ["committed", "committed"]

    def test_a_context_manager_closes_and_commits(self, engine, uses):
        with sessionmaker(engine, future=True).begin() as session:
            session.execute(SELECT)
        assert uses.outcomes == ["committed"]

    def test_a_transaction_that_fails_to_begin_leaves_nothing_open(self, uses):
        with Session(future=True) as session, pytest.raises(sa.exc.UnboundExecutionError):
            session.execute(SELECT)
        assert uses.open == 0

    def test_a_session_that_is_collected_has_ended(self, engine, uses):
        session = open_session(engine)
        session.commit()
        del session
        gc.collect()
        assert uses.outcomes == ["committed"]
        assert uses.open == 0

    def test_no_session_is_kept_alive_by_its_request_or_its_use(self, engine, uses, tracker):
        with tracker.request() as request:
            session = open_session(engine)
            gone = ref(session)
            # As a middleware asks the application's own request, which has the session at hand.
            request.late_user = lambda session=session: session.info.get("user")
            del session
        del request
        gc.collect()
        assert gone() is None
        assert uses.outcomes == ["rolled_back"]

    def test_a_session_in_a_transaction_that_began_before_the_hook_is_seen_from_the_next_one(
        self, engine, uses, stop, tracker
    ):
        stop()
        session = open_session(engine)
        again = watch_db_sessions(tracker)
        session.execute(SELECT)
        session.commit()
        session.execute(SELECT)
        session.close()
        again()
        assert (uses.only.queries, uses.only.transactions) == (1, 1)

    def test_a_session_on_a_connection_of_the_application_is_followed_to_its_own_end(self, engine, uses):
        with engine.connect() as connection:
            session = Session(connection, future=True)
            session.execute(SELECT)
            session.close()
            connection.execute(SELECT)
        assert uses.only.queries == 1

    def test_the_user_is_asked_for_again_at_the_end(self, session, uses, tracker):
        with tracker.request(request_id="r") as request:
            session.execute(SELECT)
            request.bind_user("late")
            session.close()
        assert (uses.only.user, uses.only.request) == ("late", "r")

    def test_the_user_is_asked_for_again_when_the_request_ends(self, session, uses, tracker):
        with tracker.request(request_id="r") as request:
            session.execute(SELECT)
            request.late_user = lambda: "late"
        del request
        session.close()
        assert (uses.only.user, uses.only.request) == ("late", "r")

    def test_many_threads_are_counted_exactly(self, make_engine, uses):
        engine = make_engine(poolclass=sa.pool.NullPool)

        def work() -> None:
            for _ in range(20):
                with Session(engine, future=True) as session:
                    session.execute(SELECT)
                    session.commit()

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (uses.opened, len(uses.ended), uses.open) == (160, 160, 0)
        assert sum(event.queries for event in uses.ended) == 160
        assert uses.kinds == {}


@pytest.mark.usefixtures("stop")
class TestAsync:
    def test_an_async_session_is_followed_as_its_sync_one_is(self, run_async, uses, tracker):
        from sqlalchemy.ext.asyncio import AsyncSession

        async def main(engine: Any) -> None:
            with tracker.request(user_id="u", request_id="r"):
                async with AsyncSession(engine) as session:
                    await session.execute(SELECT)
                    await session.commit()
                    await (await session.stream(SELECT)).close()

        run_async(main)
        assert (uses.only.queries, uses.only.transactions, uses.only.outcome) == (2, 2, "rolled_back")
        assert (uses.only.user, uses.only.request) == ("u", "r")

    def test_rows_that_fail_to_arrive_are_an_error_of_the_session_that_asked_for_them(self, session, uses):
        rows = session.execute(sa.text("SELECT 1 UNION ALL SELECT abs(-9223372036854775807 - 1)"))
        with pytest.raises(sa.exc.SQLAlchemyError):
            rows.all()
        session.close()
        assert (uses.only.outcome, uses.only.errors) == ("error", {"other": 1})


@pytest.mark.usefixtures("watched")
class TestLeaks:
    def test_a_use_that_is_open_for_too_long_is_counted_when_anything_else_happens(self, engine, uses, monotonic):
        leaked = open_session(engine)
        monotonic.advance(9.9)
        open_session(engine).close()
        assert uses.leaked == 0
        monotonic.advance(0.2)
        open_session(engine).close()
        assert (uses.leaked, uses.journal.gauges["db_overdue_sessions"]) == (1, 1)
        open_session(engine).close()
        leaked.close()
        assert (uses.leaked, uses.journal.gauges["db_overdue_sessions"], uses.open) == (1, 0, 0)

    def test_it_is_counted_by_its_own_next_statement(self, engine, uses, monotonic):
        session = open_session(engine)
        monotonic.advance(11)
        assert uses.leaked == 0
        session.execute(SELECT)
        assert uses.leaked == 1
        session.close()

    def test_it_is_counted_at_its_end_at_the_latest(self, engine, uses, monotonic):
        session = open_session(engine)
        monotonic.advance(11)
        session.close()
        assert (uses.leaked, uses.journal.gauges.get("db_overdue_sessions", 0)) == (1, 0)
        assert uses.only.total_time_us == 11_000_000

    def test_many_at_once_are_found_a_few_at_a_time(self, make_engine, uses, monotonic):
        engine = make_engine(poolclass=sa.pool.NullPool)
        sessions = [open_session(engine) for _ in range(50)]
        monotonic.advance(11)
        open_session(engine).close()
        assert 0 < uses.leaked < 50
        while uses.leaked < 50:
            before = uses.leaked
            open_session(engine).close()
            assert uses.leaked > before
        for session in sessions:
            session.close()
        assert (uses.leaked, uses.journal.gauges["db_overdue_sessions"]) == (50, 0)

    def test_more_than_are_followed_are_counted_as_failures_and_work(self, engine, uses, monkeypatch, journal):
        monkeypatch.setattr(watching, "USES_MAX", 1)
        first, second = open_session(engine), open_session(engine)
        assert second.execute(SELECT).scalar() == 1
        second.close()
        first.close()
        assert journal.errors.pop("db_sessions") >= 1
        assert len(uses.ended) == 1


class TestInstallation:
    def test_installed_twice_it_reports_once_until_the_last_is_gone(self, engine, tracker, uses):
        first, second = watch_db_sessions(tracker), watch_db_sessions(tracker)
        open_session(engine).close()
        assert len(uses.ended) == 1
        first()
        first()
        open_session(engine).close()
        assert len(uses.ended) == 2
        second()
        open_session(engine).close()
        assert len(uses.ended) == 2
        assert uses.journal.hooks == {"db_sessions": False}

    def test_uninstalled_everything_is_as_it_was(self, engine, tracker, uses):
        from sqlalchemy.orm import SessionTransaction, exc
        from sqlalchemy.pool import Pool

        classes = (Session, SessionTransaction, Pool, exc.DetachedInstanceError)
        before = [dict(vars(cls)) for cls in classes]
        tracker.open()
        stop = watch_db_sessions(tracker)
        assert uses.journal.hooks == {"db_sessions": True}
        session = open_session(engine)
        stop()
        after = [dict(vars(cls)) for cls in classes]
        for old, new in zip(before, after, strict=True):
            assert {name: new[name] for name in old} == old
        assert uses.open == 0
        session.execute(SELECT)
        session.close()
        assert uses.ended == []

    def test_a_lifetime_that_is_none_is_refused(self, tracker):
        for lifetime_s in (0, -1.0, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="max_lifetime_s must be positive"):
                watch_db_sessions(tracker, max_lifetime_s=lifetime_s)

    def test_a_version_that_is_not_as_expected_is_left_alone_and_said(self, engine, tracker, journal, caplog):
        original = Session._close_impl
        del Session._close_impl
        try:
            tracker.open()
            stop = watch_db_sessions(tracker)
        finally:
            Session._close_impl = original
        assert journal.hooks == {"db_sessions": False}
        assert journal.errors == {"db_sessions": 1}
        assert "not supported" in caplog.text
        open_session(engine).close()
        assert journal.counts == {}
        stop()

    @pytest.mark.integration
    def test_a_program_that_imports_sqlalchemy_later_is_watched_and_nothing_is_imported_for_it(self):
        program = Path(__file__).parents[1] / "late_import_of_sessions.py"
        done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
        assert (done.stdout.split(), done.returncode) == (["DbSession", "committed"], 0), done.stderr


@pytest.mark.integration
@pytest.mark.usefixtures("stop")
class TestForks:
    def test_what_a_child_inherits_is_not_its_own(self, engine, uses):
        session = open_session(engine)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                session.close()
                told = len(uses.ended)
                with Session(sa.create_engine("sqlite://", future=True), future=True) as own:
                    own.execute(SELECT)
                os.write(writing, f"{told} {len(uses.ended)} {uses.open}".encode())
                status = 0
            finally:
                os._exit(status)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            assert pipe.read() == "0 1 0"
        assert os.waitpid(child, 0)[1] == 0
        session.close()
        assert len(uses.ended) == 1
