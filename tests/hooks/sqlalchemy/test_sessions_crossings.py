"""A Session that crosses requests, users or tasks, or outlives its request, is reported once; what is fine is not."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from db_uses import Monotonic, Uses
from sqlalchemy.orm import Session

from session_exporter.hooks.sqlalchemy.belonging import GRACE_NS
from session_exporter.hooks.sqlalchemy.operations import Operations
from session_exporter.hooks.sqlalchemy.pools import PoolWatch
from session_exporter.hooks.sqlalchemy.watch import Watch

SELECT = sa.text("SELECT 1")
GRACE_S = GRACE_NS / 1e9


@pytest.fixture
def uses(journal) -> Uses:
    return Uses(journal)


@pytest.fixture
def monotonic() -> Monotonic:
    return Monotonic()


@pytest.fixture(autouse=True)
def watched(tracker, journal, monotonic):
    reporter = tracker.reporter("db_sessions")
    watch = Watch(reporter, 1000.0, monotonic)
    operations = Operations(watch, PoolWatch(reporter, monotonic))
    operations.install()
    yield watch
    operations.uninstall()
    watch.stop()
    assert not journal.errors


@pytest.fixture
def threaded(make_engine):
    """An engine whose connections may go from thread to thread."""
    return make_engine(connect_args={"check_same_thread": False})


@pytest.fixture
def session(threaded):
    with Session(threaded, future=True) as session:
        yield session


def in_thread(act: Callable[[], object]) -> None:
    """Runs something in a thread, with the context variables of the caller."""
    thread = threading.Thread(target=contextvars.copy_context().run, args=(act,))
    thread.start()
    thread.join()


class TestRequestsAndUsers:
    def test_a_session_of_two_requests_is_reported_once(self, session, uses, tracker):
        with tracker.request(request_id="a", user_id="u"):
            session.execute(SELECT)
        for name in ("b", "c", "b"):
            with tracker.request(request_id=name, user_id="u"):
                session.execute(SELECT)
        session.close()
        (crossed,) = [event for event in uses.violations if event.kind == "db_session_crossed_requests"]
        assert (crossed.request, crossed.other_request, crossed.user, crossed.other_user) == ("b", "a", "u", "")
        assert crossed.session == uses.only.session
        assert crossed.sites
        assert uses.kinds == {"db_session_crossed_requests": 1, "db_session_outlived_request": 1}
        assert (uses.only.user, uses.only.request) == ("u", "a")

    def test_a_session_of_two_users_says_whose_it_was(self, session, uses, tracker):
        with tracker.request(request_id="a", user_id="alice"):
            session.execute(SELECT)
            with tracker.request(request_id="b", user_id="bob"):
                session.execute(SELECT)
        (crossed,) = uses.violations
        assert crossed.kind == "db_session_of_two_users"
        assert (crossed.user, crossed.other_user, crossed.request) == ("bob", "alice", "b")

    def test_users_who_become_known_late_are_seen_when_their_requests_end(self, session, uses, tracker):
        for name in ("alice", "bob"):
            with tracker.request(request_id=name) as request:
                request.late_user = lambda: None
                session.execute(SELECT)
                request.late_user = lambda name=name: name
        crossed = [event for event in uses.violations if event.kind == "db_session_of_two_users"]
        assert [(event.user, event.other_user, event.request) for event in crossed] == [("bob", "alice", "bob")]

    def test_a_user_who_changes_within_a_request_is_seen(self, session, uses, tracker):
        with tracker.request(user_id="alice") as request:
            session.execute(SELECT)
            request.bind_user("bob")
            session.execute(SELECT)
        assert uses.kinds == {"db_session_of_two_users": 1}

    def test_one_use_per_request_of_one_session_object_is_fine(self, session, uses, tracker):
        for name in ("a", "b"):
            with tracker.request(request_id=name, user_id=name):
                session.execute(SELECT)
                session.commit()
                session.close()
        assert uses.kinds == {}

    def test_a_request_inside_of_another_one_may_go_on_with_its_session(self, session, uses, tracker):
        with tracker.request(request_id="job", user_id="u"):
            for step in ("1", "2"):
                with tracker.request(request_id=step):
                    session.execute(SELECT)
            session.commit()
            session.close()
        assert uses.kinds == {}
        assert uses.only.request == "1"

    def test_a_session_that_began_outside_of_any_request_belongs_to_the_first(self, session, uses, tracker):
        session.execute(SELECT)
        with tracker.request(request_id="a", user_id="u"):
            session.execute(SELECT)
            assert uses.kinds == {}
        with tracker.request(request_id="b", user_id="u"):
            session.execute(SELECT)
        assert uses.kinds["db_session_crossed_requests"] == 1

    def test_flush_and_commit_are_uses_as_well(self, session, uses, tracker):
        session.execute(SELECT)
        with tracker.request(request_id="a"):
            session.connection()
        with tracker.request(request_id="b"):
            session.commit()
        assert uses.kinds["db_session_crossed_requests"] == 1

    def test_closing_and_rolling_back_what_another_request_has_left_is_none(self, session, uses, tracker):
        with tracker.request(request_id="a"):
            session.execute(SELECT)
        with tracker.request(request_id="b"):
            session.rollback()
            session.close()
        assert uses.kinds == {}


class TestTasks:
    def test_two_tasks_in_one_async_session_at_once_are_reported(self, run_async, uses):
        from sqlalchemy.ext.asyncio import AsyncSession

        async def main(engine: Any) -> None:
            async with AsyncSession(engine) as session:
                await session.execute(SELECT)
                await asyncio.gather(*(session.execute(SELECT) for _ in range(5)), return_exceptions=True)

        run_async(main)
        assert uses.kinds == {"db_session_crossed_tasks": 1}

    def test_also_while_it_is_connecting(self, run_async, uses):
        from sqlalchemy.ext.asyncio import AsyncSession

        async def main(engine: Any) -> None:
            async with AsyncSession(engine) as session:
                await asyncio.gather(session.execute(SELECT), session.execute(SELECT), return_exceptions=True)

        run_async(main)
        assert uses.kinds == {"db_session_crossed_tasks": 1}

    def test_tasks_one_after_the_other_are_fine(self, run_async, uses, tracker):
        from sqlalchemy.ext.asyncio import AsyncSession

        async def main(engine: Any) -> None:
            with tracker.request(user_id="u"):
                async with AsyncSession(engine) as session:
                    for _ in range(5):
                        await asyncio.create_task(session.execute(SELECT))
                    await session.commit()

        run_async(main)
        assert uses.kinds == {}

    def test_tasks_with_a_session_each_are_fine(self, run_async, uses, tracker):
        from sqlalchemy.ext.asyncio import AsyncSession

        async def work(engine: Any) -> None:
            async with AsyncSession(engine) as session:
                await session.execute(SELECT)

        async def main(engine: Any) -> None:
            with tracker.request(user_id="u"):
                await asyncio.gather(*(work(engine) for _ in range(10)))

        run_async(main, connect_args={"timeout": 30})
        assert (uses.kinds, len(uses.ended)) == ({}, 10)

    def test_two_threads_in_one_session_at_once_are_reported(self, session, uses):
        inside, go_on = threading.Event(), threading.Event()

        def wait() -> int:
            inside.set()
            go_on.wait(30)
            return 1

        session.connection().connection.driver_connection.create_function("wait_here", 0, wait)
        thread = threading.Thread(target=session.execute, args=(sa.text("SELECT wait_here()"),))
        thread.start()
        assert inside.wait(30)
        # Not a statement: SQLite would have it wait.
        session.connection()
        go_on.set()
        thread.join()
        assert uses.kinds == {"db_session_crossed_tasks": 1}

    def test_a_thread_pool_may_pass_it_on_one_after_the_other(self, session, uses, tracker):
        with tracker.request(user_id="u"), ThreadPoolExecutor(4) as pool:
            for _ in range(20):
                pool.submit(contextvars.copy_context().run, session.execute, SELECT).result()
            pool.submit(contextvars.copy_context().run, session.close).result()
        assert (uses.kinds, uses.only.queries) == ({}, 20)

    def test_an_operation_inside_of_an_operation_is_none_of_another_task(self, session, uses):
        def ask_again(_: object, *__: object) -> None:
            session.connection().execute(SELECT)
            session.execute(SELECT)

        sa.event.listen(session, "before_commit", ask_again)
        session.execute(SELECT)
        session.commit()
        session.close()
        assert (uses.kinds, uses.only.queries) == ({}, 3)


class TestOutliving:
    def test_a_session_that_is_closed_within_its_request_has_not(self, session, uses, tracker, monotonic):
        with tracker.request():
            session.execute(SELECT)
            session.close()
        monotonic.advance(100)
        session.execute(SELECT)
        session.close()
        assert uses.kinds == {}

    def test_a_middleware_outside_may_commit_and_close_it(self, session, uses, tracker, monotonic):
        with tracker.request():
            session.execute(SELECT)
        monotonic.advance(GRACE_S * 0.9)
        session.execute(SELECT)
        session.commit()
        session.close()
        assert uses.kinds == {}

    @pytest.mark.parametrize("act", [Session.commit, Session.close])
    def test_whoever_comes_long_afterwards_is_no_middleware(self, session, uses, tracker, monotonic, act):
        with tracker.request(request_id="r", user_id="u"):
            session.execute(SELECT)
        monotonic.advance(GRACE_S * 1.1)
        act(session)
        (outlived,) = uses.violations
        assert (outlived.kind, outlived.other_request, outlived.user) == ("db_session_outlived_request", "r", "u")

    def test_one_that_stays_open_is_found_when_anything_else_happens(self, threaded, uses, tracker, monotonic):
        left = Session(threaded, future=True)
        with tracker.request(request_id="r"):
            left.execute(SELECT)
        with Session(threaded, future=True) as other:
            other.execute(SELECT)
            assert uses.kinds == {}
            monotonic.advance(GRACE_S * 1.1)
            other.execute(SELECT)
            assert uses.kinds == {"db_session_outlived_request": 1}
        left.close()
        assert uses.kinds == {"db_session_outlived_request": 1}

    def test_a_background_task_that_was_given_it_is_reported_at_once(self, run_async, uses, tracker):
        from sqlalchemy.ext.asyncio import AsyncSession

        async def main(engine: Any) -> None:
            ended = asyncio.Event()

            async def work(session: Any) -> None:
                await ended.wait()
                await session.execute(SELECT)

            with tracker.request(request_id="r"):
                session = AsyncSession(engine)
                await session.execute(SELECT)
                task = asyncio.create_task(work(session))
            ended.set()
            await task
            await session.close()

        run_async(main)
        assert uses.kinds == {"db_session_outlived_request": 1}

    def test_a_background_task_with_a_session_of_its_own_is_fine(self, run_async, uses, tracker, monotonic):
        from sqlalchemy.ext.asyncio import AsyncSession

        async def main(engine: Any) -> None:
            opened, ended = asyncio.Event(), asyncio.Event()

            async def work() -> None:
                async with AsyncSession(engine) as session:
                    await session.execute(SELECT)
                    opened.set()
                    await ended.wait()
                    monotonic.advance(GRACE_S * 5)
                    async with AsyncSession(engine) as other:
                        await other.execute(SELECT)
                    await session.execute(SELECT)
                    await session.commit()

            with tracker.request(request_id="r"):
                task = asyncio.create_task(work())
                await opened.wait()
            ended.set()
            await task

        run_async(main)
        assert (uses.kinds, sorted(uses.outcomes)) == ({}, ["committed", "rolled_back"])

    def test_a_thread_of_the_request_with_a_session_of_its_own_is_fine(self, threaded, uses, tracker, monotonic):
        opened, ended = threading.Event(), threading.Event()

        def work() -> None:
            with Session(threaded, future=True) as session:
                session.execute(SELECT)
                opened.set()
                ended.wait(30)
                monotonic.advance(GRACE_S * 5)
                session.commit()

        with tracker.request():
            thread = threading.Thread(target=contextvars.copy_context().run, args=(work,))
            thread.start()
            assert opened.wait(30)
        ended.set()
        thread.join()
        assert (uses.kinds, uses.outcomes) == ({}, ["committed"])

    def test_one_that_was_left_to_another_thread_is_reported(self, session, uses, tracker):
        with tracker.request():
            in_thread(lambda: session.execute(SELECT))
            left_behind = contextvars.copy_context()
        left_behind.run(session.execute, SELECT)
        session.close()
        assert uses.kinds == {"db_session_outlived_request": 1}

    def test_another_request_that_uses_it_afterwards_is_reported_at_once(self, session, uses, tracker):
        with tracker.request(request_id="a"):
            session.execute(SELECT)
        with tracker.request(request_id="b"):
            session.execute(SELECT)
        assert uses.kinds == {"db_session_crossed_requests": 1, "db_session_outlived_request": 1}
