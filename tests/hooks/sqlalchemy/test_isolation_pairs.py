"""Applications that share a database session, each beside its twin that has one per request: 100 users at once.

What is wrong is found under its name; the twins show nothing at all.
"""

import asyncio
import contextvars
import gc
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from db_uses import Uses
from sqlalchemy.orm import Session, sessionmaker

from session_exporter.hooks.sqlalchemy.sessions import watch_db_sessions

pytestmark = [
    pytest.mark.integration,
    # Of a connection that tasks have shared nobody knows who is to close it: the garbage collector does.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

IS_14 = sa.__version__.startswith("1.4.")
USERS = 100
# Of a server that other tests use as well.
CONNECTIONS = 20
DEADLINE_S = 30.0
# Some of those that share a session lose connections, and wait in vain for others.
PATIENCE_S = 5.0

NOTE = sa.text("INSERT INTO notes (owner) VALUES (:owner)")
COUNT = sa.text("SELECT count(*) FROM notes WHERE owner = :owner")

CROSSED, TWO_USERS = "db_session_crossed_requests", "db_session_of_two_users"
TASKS, OUTLIVED = "db_session_crossed_tasks", "db_session_outlived_request"


@pytest.fixture
def uses(journal) -> Uses:
    return Uses(journal)


@pytest.fixture
def lifetime_s() -> float:
    """How long a Session may be open."""
    return DEADLINE_S


@pytest.fixture(autouse=True)
def stop(tracker, journal, lifetime_s) -> Iterator[None]:
    stop = watch_db_sessions(tracker, max_lifetime_s=lifetime_s)
    yield
    stop()
    gc.collect()  # here, and not in the middle of another module's test
    assert not journal.errors


@pytest.fixture
def notes(postgres, database) -> str:
    """The name of a database with a table for notes."""
    postgres.psql("CREATE TABLE notes (id serial PRIMARY KEY, owner text NOT NULL)", database)
    return str(database)


class AsyncApplication:
    """Serves one request for each user, all at once, on asyncpg; what a request does is given."""

    def __init__(self, url: str, tracker: Any) -> None:
        from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

        self.engine = create_async_engine(url, pool_size=CONNECTIONS, max_overflow=0, pool_timeout=PATIENCE_S)
        self.new_session = lambda: AsyncSession(self.engine)
        self._tracker = tracker

    async def serve(self, handle: Callable[[str], Awaitable[None]]) -> None:
        async def request(user: str) -> None:
            with self._tracker.request(user_id=user):
                await handle(user)

        await asyncio.gather(*(request(f"user-{number}") for number in range(USERS)), return_exceptions=True)


class ThreadedApplication:
    """The same on threads, as a WSGI server has them, with psycopg."""

    def __init__(self, url: str, tracker: Any) -> None:
        self.engine = sa.create_engine(url, future=True, pool_size=CONNECTIONS, max_overflow=0, pool_timeout=PATIENCE_S)
        self.new_session = sessionmaker(self.engine, future=True)
        self._tracker = tracker

    def serve(self, handle: Callable[[str], None], *, one_by_one: bool = False) -> None:
        def request(user: str) -> None:
            with self._tracker.request(user_id=user):
                handle(user)

        with ThreadPoolExecutor(1 if one_by_one else USERS) as pool:
            for done in [pool.submit(request, f"user-{number}") for number in range(USERS)]:
                done.exception(DEADLINE_S)


async def note(session: Any, user: str) -> None:
    await session.execute(NOTE, {"owner": user})
    await session.execute(COUNT, {"owner": user})
    await session.commit()


def note_sync(session: Session, user: str) -> None:
    session.execute(NOTE, {"owner": user})
    session.execute(COUNT, {"owner": user})
    session.commit()


@pytest.fixture
def run(postgres, notes, tracker) -> Callable[[Callable[[AsyncApplication], Awaitable[None]]], None]:
    """Runs a function with an asynchronous application."""

    def run(main: Callable[[AsyncApplication], Awaitable[None]]) -> None:
        async def with_application() -> None:
            application = AsyncApplication(postgres.url("asyncpg", notes), tracker)
            try:
                await main(application)
            finally:
                await application.engine.dispose()

        asyncio.run(with_application())

    return run


@pytest.fixture
def threaded(postgres, notes, tracker) -> Iterator[ThreadedApplication]:
    application = ThreadedApplication(postgres.url("psycopg2" if IS_14 else "psycopg", notes), tracker)
    yield application
    application.engine.dispose()


@pytest.fixture
def all_is_well(uses, postgres, notes) -> Iterator[None]:
    """Fails the test of a twin in which anything was found, or in which a user's note is missing."""
    yield
    assert uses.kinds == {}
    assert (uses.leaked, uses.open) == (0, 0)
    assert (set(uses.outcomes), len(uses.ended)) == ({"committed"}, uses.opened)
    assert uses.opened >= USERS
    assert all(event.user and event.request and not event.errors for event in uses.ended)
    assert len({event.user for event in uses.ended}) == USERS
    assert postgres.psql("SELECT count(*), count(DISTINCT owner) FROM notes", notes) == f"{USERS}|{USERS}"


class Supervisor:
    """A singleton that the application asks for everything."""

    def __init__(self) -> None:
        self.session: Any = None


class TestAGlobalSession:
    """One Session for the whole process, as a supervisor keeps it."""

    def test_shared_by_tasks_is_flagged(self, run, uses):
        async def main(application: AsyncApplication) -> None:
            session = application.new_session()
            await application.serve(lambda user: note(session, user))
            await session.close()

        run(main)
        assert {CROSSED, TWO_USERS, TASKS} <= set(uses.kinds)
        assert set(uses.kinds.values()) == {1}

    def test_shared_by_threads_is_flagged(self, threaded, uses):
        session = threaded.new_session()
        threaded.serve(lambda user: note_sync(session, user))
        try:
            session.close()
        except sa.exc.SQLAlchemyError:
            """Its state is nobody's guess by now."""
        # Requests that are over have been outlived as well.
        assert {CROSSED, TWO_USERS, TASKS} <= set(uses.kinds)

    def test_used_by_one_request_after_the_other_is_flagged(self, threaded, uses):
        session = threaded.new_session()
        threaded.serve(lambda user: note_sync(session, user), one_by_one=True)
        session.close()
        assert uses.kinds == {CROSSED: 1, TWO_USERS: 1, OUTLIVED: 1}

    @pytest.mark.usefixtures("all_is_well")
    def test_its_twin_with_a_session_per_task_is_not(self, run):
        async def main(application: AsyncApplication) -> None:
            async def handle(user: str) -> None:
                async with application.new_session() as session:
                    await note(session, user)

            await application.serve(handle)

        run(main)

    @pytest.mark.usefixtures("all_is_well")
    def test_its_twin_with_a_session_per_thread_is_not(self, threaded):
        def handle(user: str) -> None:
            with threaded.new_session() as session:
                note_sync(session, user)

        threaded.serve(handle)


class TestASessionOnASingleton:
    """Each request puts its own Session where all others find it."""

    def test_is_flagged_among_tasks(self, run, uses):
        async def main(application: AsyncApplication) -> None:
            supervisor = Supervisor()

            async def handle(user: str) -> None:
                async with application.new_session() as session:
                    supervisor.session = session
                    await session.execute(COUNT, {"owner": user})
                    await note(supervisor.session, user)

            await application.serve(handle)

        run(main)
        assert {CROSSED, TWO_USERS} <= set(uses.kinds)

    def test_is_flagged_among_threads(self, threaded, uses):
        supervisor = Supervisor()

        def handle(user: str) -> None:
            with threaded.new_session() as session:
                supervisor.session = session
                # Meanwhile others come.
                session.execute(sa.text("SELECT pg_sleep(0.02)"))
                note_sync(supervisor.session, user)

        threaded.serve(handle)
        assert {CROSSED, TWO_USERS} <= set(uses.kinds)

    @pytest.mark.usefixtures("all_is_well")
    def test_its_twin_that_passes_the_session_along_is_not(self, run):
        class Service:
            async def work(self, session: Any, user: str) -> None:
                await note(session, user)

        async def main(application: AsyncApplication) -> None:
            service = Service()

            async def handle(user: str) -> None:
                async with application.new_session() as session:
                    await asyncio.create_task(service.work(session, user))

            await application.serve(handle)

        run(main)

    @pytest.mark.usefixtures("all_is_well")
    def test_its_twin_with_a_scoped_session_that_is_removed_is_not(self, threaded):
        registry = sa.orm.scoped_session(threaded.new_session)

        def handle(user: str) -> None:
            try:
                note_sync(registry(), user)
            finally:
                registry.remove()

        threaded.serve(handle)


class TestASessionThatABackgroundTaskIsGiven:
    """The request answers, and a task that it has started goes on with its Session."""

    def test_is_flagged_among_tasks(self, run, uses):
        async def main(application: AsyncApplication) -> None:
            background: list[asyncio.Task[None]] = []
            answered = asyncio.Event()

            async def work(session: Any, user: str) -> None:
                await answered.wait()
                async with session:
                    await note(session, user)

            async def handle(user: str) -> None:
                session = application.new_session()
                # A Session that has committed has no connection, and is in use all the same.
                await session.execute(COUNT, {"owner": user})
                await session.commit()
                background.append(asyncio.create_task(work(session, user)))

            await application.serve(handle)
            answered.set()
            await asyncio.gather(*background)

        run(main)
        assert uses.kinds == {OUTLIVED: USERS}

    def test_is_flagged_among_threads(self, threaded, uses):
        left: list[tuple[contextvars.Context, Session, str]] = []

        def handle(user: str) -> None:
            session = threaded.new_session()
            session.execute(COUNT, {"owner": user})
            session.commit()
            left.append((contextvars.copy_context(), session, user))

        threaded.serve(handle)
        for context, session, user in left:
            context.run(note_sync, session, user)
            session.close()
        assert uses.kinds == {OUTLIVED: USERS}

    @pytest.mark.usefixtures("all_is_well")
    def test_its_twin_whose_tasks_have_sessions_of_their_own_is_not(self, run):
        async def main(application: AsyncApplication) -> None:
            background: list[asyncio.Task[None]] = []

            async def work(user: str) -> None:
                async with application.new_session() as session:
                    await note(session, user)

            async def handle(user: str) -> None:
                async with application.new_session() as session:
                    await session.execute(COUNT, {"owner": user})
                    await session.commit()
                task = asyncio.create_task(work(user))
                background.append(task)
                # So that some of them begin within the request, and all of them go on after it.
                await asyncio.sleep(0)

            await application.serve(handle)
            await asyncio.gather(*background)

        run(main)


class TestASessionThatIsNeverClosed:
    """Found by what others do meanwhile."""

    @pytest.mark.parametrize("lifetime_s", [0.2])
    def test_is_flagged_among_tasks(self, run, uses):
        async def main(application: AsyncApplication) -> None:
            kept: list[Any] = []

            async def handle(user: str) -> None:
                session = application.new_session()
                kept.append(session)
                await note(session, user)

            await application.serve(handle)
            assert uses.open == USERS
            await until(lambda: uses.leaked == USERS and uses.kinds == {OUTLIVED: USERS}, application)
            for session in kept:
                await session.close()

        async def until(condition: Callable[[], bool], application: AsyncApplication) -> None:
            async with asyncio.timeout(DEADLINE_S):
                while not condition():
                    async with application.new_session() as session:
                        await session.execute(COUNT, {"owner": "nobody"})

        run(main)
        assert (uses.leaked, uses.kinds, uses.open) == (USERS, {OUTLIVED: USERS}, 0)

    @pytest.mark.usefixtures("all_is_well")
    def test_its_twin_that_closes_whatever_happens_is_not(self, run):
        async def main(application: AsyncApplication) -> None:
            async def handle(user: str) -> None:
                session = application.new_session()
                try:
                    await note(session, user)
                finally:
                    await session.close()

            await application.serve(handle)

        run(main)
