"""What the tests of the SQLAlchemy hook share: engines on SQLite, and a tracker whose journal is in memory."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from recorder import Recorder
from settling import Clock, Told
from sqlalchemy.engine import Engine

from session_exporter.hooks.sqlalchemy import settlement
from session_exporter.tracker import SessionTracker

MakeEngine = Callable[..., Engine]
RunAsync = Callable[..., Any]
IS_14 = sqlalchemy.__version__.startswith("1.4.")


def pytest_configure(config: pytest.Config) -> None:
    # 1.4 announces 2.0 once, in whichever test comes first.
    config.addinivalue_line("filterwarnings", "ignore:Deprecated API features detected")


def pytest_report_header() -> str:
    return f"SQLAlchemy {sqlalchemy.__version__}"


@pytest.fixture
def journal() -> Recorder:
    return Recorder()


@pytest.fixture
def tracker(journal: Recorder) -> SessionTracker:
    return SessionTracker(journal=journal)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A database file of the test's own."""
    return f"sqlite:///{tmp_path / 'application.db'}"


@pytest.fixture
def make_engine(sqlite_url: str) -> Iterator[MakeEngine]:
    """Makes engines, of the 2.0 kind unless told otherwise, on the test's database file unless told otherwise."""
    engines = []

    def make(url: str = sqlite_url, **options: Any) -> Engine:
        if IS_14:
            options.setdefault("future", True)
        elif options.get("future") is False:
            pytest.skip("only 1.4 has engines of the old kind")
        engines.append(sqlalchemy.create_engine(url, **options))
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


@pytest.fixture
def engine(make_engine: MakeEngine) -> Engine:
    return make_engine()


@pytest.fixture
def run_async(sqlite_url: str) -> RunAsync:
    """Runs a coroutine function that is given an aiosqlite engine, on the test's file unless told otherwise."""

    def run(main: Callable[[Any], Awaitable[Any]], url: str | None = None, **options: Any) -> Any:
        from sqlalchemy.ext.asyncio import create_async_engine

        async def with_engine() -> Any:
            made = create_async_engine(url or sqlite_url.replace("sqlite:", "sqlite+aiosqlite:"), **options)
            try:
                return await main(made)
            finally:
                await made.dispose()

        return asyncio.run(with_engine())

    return run


@pytest.fixture
def database(postgres: Any) -> Iterator[str]:
    """The name of an empty database on a PostgreSQL."""
    name = postgres.database()
    yield name
    postgres.drop(name)


@pytest.fixture(params=["psycopg2", "psycopg", "psycopg_async", "asyncpg"])
def postgres_driver(request: pytest.FixtureRequest) -> str:
    if IS_14 and request.param in ("psycopg", "psycopg_async"):
        pytest.skip("1.4 knows of no psycopg")
    return str(request.param)


@pytest.fixture
def run_on_postgres(postgres: Any, database: str, postgres_driver: str, run_async: RunAsync) -> Callable[..., None]:
    """Runs a function with an engine of each driver; of the asynchronous ones as SQLAlchemy does, in a greenlet."""

    def run(act: Callable[[Engine], None]) -> None:
        url = postgres.url(postgres_driver, database)
        if postgres_driver in ("asyncpg", "psycopg_async"):
            run_async(lambda engine: sqlalchemy.util.greenlet_spawn(act, engine.sync_engine), url)
            return
        engine = sqlalchemy.create_engine(url, future=True)
        try:
            act(engine)
        finally:
            engine.dispose()

    return run


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def uninstall(journal: Recorder, clock: Clock) -> Iterator[Callable[[], None]]:
    """Has transactions followed, for a hook of its own clock; returns what ends it early."""
    uninstall = settlement.install(SessionTracker(journal=journal, clock_ns=clock).reporter("sqlalchemy"))
    yield uninstall
    uninstall()


@pytest.fixture
def told(uninstall: Callable[[], None], journal: Recorder) -> Iterator[Told]:
    """What transactions tell; fails the test when the hook has failed."""
    yield Told()
    assert not journal.errors
