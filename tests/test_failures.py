"""Errors are told apart by class and code; the errors are those that real drivers raise."""

import asyncio
import errno
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter import failures
from session_exporter.core.scopes import DB_ERRORS, FAILURES
from session_exporter.failures import create_failure, error_label, failure_kind, is_conflict

SECRET = "secret-of-a-user"


def raised(act: Callable[[], object]) -> BaseException:
    try:
        act()
    except BaseException as error:  # noqa: BLE001 - whatever it is
        return error
    pytest.fail("nothing was raised")


def raised_by(act: Callable[[], Awaitable[object]]) -> BaseException:
    async def wait() -> None:
        await act()

    return raised(lambda: asyncio.run(wait()))


def told(error: BaseException) -> tuple[str, str, bool, str]:
    return failure_kind(error), create_failure(error), is_conflict(error), error_label(error)


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        return int(unheard.getsockname()[1])


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path / "db", timeout=0)
    connection.execute("CREATE TABLE t (a TEXT PRIMARY KEY, b TEXT UNIQUE, c TEXT NOT NULL)")
    connection.execute("INSERT INTO t VALUES (?, ?, 'c')", (SECRET, SECRET))
    connection.commit()
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def database(postgres) -> Iterator[str]:
    name = postgres.database()
    postgres.psql(
        "CREATE TABLE t (a text PRIMARY KEY, c text NOT NULL); INSERT INTO t VALUES ('a', 'c'), ('b', 'c')", name
    )
    yield name
    postgres.drop(name)


class TestSqlite:
    @pytest.mark.parametrize("row", [(SECRET, "other", "c"), ("other", SECRET, "c")])
    def test_tells_a_unique_index_from_every_other_constraint(self, sqlite, row):
        error = raised(lambda: sqlite.execute("INSERT INTO t VALUES (?, ?, ?)", row))
        assert told(error) == ("integrity", "integrity", True, "IntegrityError")
        error = raised(lambda: sqlite.execute("INSERT INTO t VALUES ('x', 'x', NULL)"))
        assert told(error) == ("integrity", "integrity", False, "IntegrityError")

    def test_a_locked_database_is_a_timeout(self, sqlite, tmp_path):
        sqlite.execute("BEGIN EXCLUSIVE")
        other = sqlite3.connect(tmp_path / "db", timeout=0)
        error = raised(lambda: other.execute("SELECT * FROM t"))
        other.close()
        assert told(error) == ("timeout", "timeout", False, "OperationalError")

    def test_a_file_that_cannot_be_opened_is_a_failed_connection(self, tmp_path):
        error = raised(lambda: sqlite3.connect(tmp_path / "no" / "db"))
        assert told(error) == ("connection", "connection", False, "OperationalError")

    def test_a_closed_connection_is_a_wrong_state(self, tmp_path):
        connection = sqlite3.connect(tmp_path / "other")
        connection.close()
        assert told(raised(lambda: connection.execute("SELECT 1"))) == ("state", "other", False, "ProgrammingError")

    def test_a_wrong_statement_is_something_else(self, sqlite):
        assert told(raised(lambda: sqlite.execute("SELEKT"))) == ("other", "other", False, "OperationalError")

    def test_errors_of_sqlite_are_read_from_their_text_where_they_carry_no_code(self):
        assert is_conflict(sqlite3.IntegrityError("UNIQUE constraint failed: t.a"))
        assert not is_conflict(sqlite3.IntegrityError("NOT NULL constraint failed: t.c"))

    @pytest.mark.usefixtures("sqlite")
    def test_aiosqlite_raises_the_same(self, tmp_path):
        aiosqlite = pytest.importorskip("aiosqlite")

        async def insert() -> None:
            async with aiosqlite.connect(tmp_path / "db") as connection:
                await connection.execute("INSERT INTO t VALUES (?, 'x', 'c')", (SECRET,))

        assert told(raised_by(insert)) == ("integrity", "integrity", True, "IntegrityError")


class TestSqlalchemy:
    @pytest.fixture
    def sa(self) -> Any:
        return pytest.importorskip("sqlalchemy")

    def test_the_error_of_the_driver_decides(self, sa):
        engine = sa.create_engine("sqlite://", future=True)
        with engine.connect() as connection:
            connection.execute(sa.text("CREATE TABLE t (a TEXT UNIQUE)"))
            insert = sa.text("INSERT INTO t VALUES (:a)")
            connection.execute(insert, {"a": SECRET})
            error = raised(lambda: connection.execute(insert, {"a": SECRET}))
            wrong = raised(lambda: connection.execute(sa.text("SELEKT")))
        engine.dispose()
        assert told(error) == ("integrity", "integrity", True, "IntegrityError")
        assert told(wrong) == ("other", "other", False, "OperationalError")

    def test_an_exhausted_pool_is_told_from_other_timeouts(self, sa, tmp_path):
        pool = sa.pool.QueuePool
        engine = sa.create_engine(
            f"sqlite:///{tmp_path}/db", poolclass=pool, pool_size=1, max_overflow=0, pool_timeout=0
        )
        with engine.connect():
            error = raised(engine.connect)
        engine.dispose()
        assert told(error) == ("pool_timeout", "pool_timeout", False, "TimeoutError")

    def test_a_session_in_a_wrong_state_is_told_whatever_had_led_to_it(self, sa):
        from sqlalchemy.orm import Session

        engine = sa.create_engine("sqlite://", future=True)
        with Session(engine) as session:
            session.execute(sa.text("CREATE TABLE t (a TEXT UNIQUE)"))
            session.execute(sa.text("INSERT INTO t VALUES ('a')"))
            session.begin_nested()
            conflict = sa.text("INSERT INTO t VALUES ('a')")

            def carry_on() -> None:
                try:
                    session.execute(conflict)
                except sa.exc.IntegrityError:
                    session.connection().close()
                    session.execute(conflict)

            error = raised(carry_on)
        engine.dispose()
        assert told(error) == ("state", "other", False, "ResourceClosedError")

    def test_a_detached_instance_is_a_wrong_state(self, sa):
        from sqlalchemy.orm import Session, declarative_base

        base = declarative_base()

        class Row(base):  # type: ignore[misc, valid-type]  # made at run time
            __tablename__ = "rows"
            id = sa.Column(sa.Integer, primary_key=True)

        engine = sa.create_engine("sqlite://", future=True)
        base.metadata.create_all(engine)
        with Session(engine) as session:
            row = Row()
            session.add(row)
            session.commit()
        error = raised(lambda: row.id)
        engine.dispose()
        assert told(error) == ("state", "other", False, "DetachedInstanceError")

    def test_a_row_that_is_not_found_says_nothing_of_a_state(self, sa):
        engine = sa.create_engine("sqlite://", future=True)
        with engine.connect() as connection:
            error = raised(connection.execute(sa.text("SELECT 1 WHERE 1 = 0")).one)
        engine.dispose()
        assert told(error) == ("other", "other", False, "NoResultFound")


@pytest.mark.integration
class TestPostgres:
    """The same of psycopg, psycopg2, asyncpg, and of SQLAlchemy above each."""

    @pytest.fixture(params=["psycopg", "psycopg2", "asyncpg", "sqlalchemy-psycopg", "sqlalchemy-asyncpg"])
    def run(self, request, postgres, database) -> Callable[..., BaseException]:
        """Runs SQL on a connection of its own and returns the error; a port or user may be wrong."""

        def fail(*statements: str, user: str = "postgres", port: int = postgres.port, name: str = database) -> Any:
            address = f"{user}@127.0.0.1:{port}/{name}"
            return getattr(self, "_" + request.param.replace("-", "_"))(address, statements)

        return fail

    @staticmethod
    def _psycopg(address: str, statements: tuple[str, ...]) -> BaseException:
        psycopg = pytest.importorskip("psycopg")

        def act() -> None:
            with psycopg.connect(f"postgresql://{address}") as connection:
                for statement in statements:
                    connection.execute(statement)

        return raised(act)

    @staticmethod
    def _psycopg2(address: str, statements: tuple[str, ...]) -> BaseException:
        psycopg2 = pytest.importorskip("psycopg2")

        def act() -> None:
            connection = psycopg2.connect(f"postgresql://{address}")
            try:
                for statement in statements:
                    connection.cursor().execute(statement)
            finally:
                connection.close()

        return raised(act)

    @staticmethod
    def _asyncpg(address: str, statements: tuple[str, ...]) -> BaseException:
        asyncpg = pytest.importorskip("asyncpg")

        async def act() -> None:
            connection = await asyncpg.connect(f"postgresql://{address}")
            try:
                await connection.execute("BEGIN")
                for statement in statements:
                    await connection.execute(statement)
            finally:
                await connection.close()

        return raised_by(act)

    @staticmethod
    def _sqlalchemy_psycopg(address: str, statements: tuple[str, ...]) -> BaseException:
        sa = pytest.importorskip("sqlalchemy")
        driver = "psycopg2" if sa.__version__.startswith("1.4") else "psycopg"
        engine = sa.create_engine(f"postgresql+{driver}://{address}", poolclass=sa.pool.NullPool)

        def act() -> None:
            with engine.connect() as connection:
                for statement in statements:
                    connection.execute(sa.text(statement))

        return raised(act)

    @staticmethod
    def _sqlalchemy_asyncpg(address: str, statements: tuple[str, ...]) -> BaseException:
        sa = pytest.importorskip("sqlalchemy")
        from sqlalchemy.ext.asyncio import create_async_engine

        async def act() -> None:
            engine = create_async_engine(f"postgresql+asyncpg://{address}", poolclass=sa.pool.NullPool)
            async with engine.connect() as connection:
                for statement in statements:
                    await connection.execute(sa.text(statement))

        return raised_by(act)

    def test_a_unique_index_that_refuses_is_a_conflict(self, run):
        error = run("INSERT INTO t VALUES ('a', 'c')")
        assert told(error)[:3] == ("integrity", "integrity", True)
        assert error_label(error) == f"{type(error).__name__} 23505"

    def test_any_other_constraint_is_none(self, run):
        assert told(run("INSERT INTO t VALUES ('x', NULL)"))[:3] == ("integrity", "integrity", False)

    def test_a_statement_that_takes_too_long_is_a_timeout(self, run):
        error = run("SET LOCAL statement_timeout = 20", "SELECT pg_sleep(20)")
        assert told(error) == ("timeout", "timeout", False, f"{type(error).__name__} 57014")

    def test_a_transaction_that_has_failed_is_a_wrong_state(self, run):
        error = run("DO $$ BEGIN PERFORM 1; COMMIT; END $$")
        assert failure_kind(error) == "other"  # 2D000: a transaction cannot be ended there
        error = run("SELECT 1", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        assert told(error) == ("state", "other", False, f"{type(error).__name__} 25001")

    def test_a_killed_backend_is_a_lost_connection(self, run):
        error = run("SELECT pg_terminate_backend(pg_backend_pid())")
        assert told(error)[:3] == ("connection", "connection", False)

    def test_nobody_listening_is_a_failed_connection(self, run, closed_port):
        assert told(run("SELECT 1", port=closed_port))[:3] == ("connection", "connection", False)

    def test_a_wrong_password_is_told_from_it(self, run):
        assert told(run("SELECT 1", user="locked:wrong"))[:3] == ("auth", "auth", False)

    def test_a_database_that_is_not_there_is_a_failed_connection(self, run):
        assert failure_kind(run("SELECT 1", name="nowhere")) == "connection"

    def test_a_deadlock_is_told(self, postgres, database):
        psycopg = pytest.importorskip("psycopg")
        barrier, errors = threading.Barrier(2), []

        def update(first: str, second: str) -> None:
            with psycopg.connect(postgres.dsn(database)) as connection:
                connection.execute("UPDATE t SET c = 'd' WHERE a = %s", [first])
                barrier.wait(30)
                try:
                    connection.execute("UPDATE t SET c = 'd' WHERE a = %s", [second])
                except psycopg.Error as error:
                    errors.append(error)
                connection.rollback()

        threads = [threading.Thread(target=update, args=rows) for rows in (("a", "b"), ("b", "a"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert [told(error) for error in errors] == [("deadlock", "other", False, "DeadlockDetected 40P01")]

    def test_an_operation_inside_of_another_one_is_a_wrong_state(self, postgres, database):
        asyncpg = pytest.importorskip("asyncpg")

        async def act() -> None:
            connection = await asyncpg.connect(postgres.dsn(database))
            slow = asyncio.ensure_future(connection.execute("SELECT pg_sleep(0.2)"))
            await asyncio.sleep(0)
            try:
                await connection.execute("SELECT 1")
            finally:
                await slow
                await connection.close()

        assert told(raised_by(act)) == ("state", "other", False, "InterfaceError")

    def test_django_wraps_them_and_is_understood(self, postgres, database):
        pytest.importorskip("django")
        program = Path(__file__).parent / "failures_of_django.py"
        done = subprocess.run(
            [sys.executable, program, str(postgres.port), database], capture_output=True, text=True, check=False
        )
        assert done.stdout.splitlines() == [
            "('integrity', 'integrity', True, 'IntegrityError 23505')",
            "('state', 'other', False, 'TransactionManagementError')",
            "('auth', 'auth', False, 'OperationalError')",
        ], done.stderr


class TestOthers:
    def test_errors_of_redis_are_understood(self, closed_port):
        library = pytest.importorskip("redis")
        refused = raised(library.Redis(port=closed_port).ping)
        assert told(refused) == ("connection", "connection", False, "ConnectionError")
        pool = library.BlockingConnectionPool(port=closed_port, max_connections=1, timeout=0)
        pool.reset()
        assert failure_kind(library.exceptions.AuthenticationError("invalid password")) == "auth"
        assert failure_kind(library.exceptions.TimeoutError("Timeout reading from socket")) == "timeout"
        assert failure_kind(library.exceptions.ConnectionError("No connection available.")) == "pool_timeout"
        assert failure_kind(library.exceptions.ResponseError("WRONGTYPE")) == "other"

    def test_errors_of_the_system_are_understood(self, closed_port):
        refused = raised(lambda: socket.create_connection(("127.0.0.1", closed_port)))
        assert told(refused) == ("connection", "connection", False, "ConnectionRefusedError")
        assert failure_kind(OSError("Multiple exceptions: [Errno 111], [Errno 111]")) == "connection"
        assert failure_kind(socket.gaierror(-2, "Name or service not known")) == "connection"
        assert failure_kind(OSError(errno.EHOSTUNREACH, "No route to host")) == "connection"
        assert failure_kind(FileNotFoundError(errno.ENOENT, "No such file")) == "other"

    def test_timeouts_of_asyncio_and_of_the_system_are_timeouts(self):
        async def wait() -> None:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()

        assert failure_kind(raised_by(wait)) == "timeout"
        assert failure_kind(TimeoutError(errno.ETIMEDOUT, "Connection timed out")) == "timeout"

    @pytest.mark.parametrize(
        ("code", "kind", "conflict"),
        [(1062, "integrity", True), (1452, "integrity", False), (1213, "deadlock", False), (1205, "timeout", False)],
    )
    def test_codes_of_mysql_are_understood(self, code, kind, conflict):
        cls = type("IntegrityError", (Exception,), {"__module__": "pymysql.err"})
        assert told(cls(code, SECRET))[:3] == (kind, kind if kind in FAILURES else "other", conflict)
        assert not is_conflict(ValueError(1062))

    def test_an_error_that_the_application_wraps_is_seen_through(self):
        def act() -> None:
            try:
                raise ConnectionResetError(errno.ECONNRESET, "reset")
            except OSError as error:
                raise RuntimeError("cannot save") from error

        assert told(raised(act)) == ("connection", "connection", False, "RuntimeError")

    def test_the_sqlstate_is_that_of_the_error_and_its_causes_not_of_what_was_being_handled(self):
        class Refused(Exception):
            sqlstate = "23505"

        caused, interrupted = RuntimeError(), RuntimeError()
        caused.__cause__ = interrupted.__context__ = Refused()
        assert error_label(caused) == "RuntimeError 23505"
        assert error_label(interrupted) == "RuntimeError"

    def test_what_the_application_hides_is_not_looked_at(self):
        def act() -> None:
            try:
                raise ConnectionResetError(errno.ECONNRESET, "reset")
            except OSError:
                raise RuntimeError("cannot save") from None

        assert failure_kind(raised(act)) == "other"

    def test_a_chain_that_bites_its_tail_ends(self):
        first, second = ValueError(), KeyError()
        first.__cause__, second.__cause__ = second, first
        assert told(first) == ("other", "other", False, "ValueError")
        first.orig = first  # type: ignore[attr-defined]  # as a wrapper might
        assert failure_kind(first) == "other"

    def test_a_long_chain_is_given_up(self):
        error: BaseException = ConnectionResetError()
        for _ in range(10_000):
            outer = RuntimeError()
            outer.__cause__, error = error, outer
        assert failure_kind(error) == "other"

    def test_an_error_whose_every_part_fails_is_something_else(self):
        class Hostile(Exception):
            def __getattr__(self, name: str) -> object:
                raise RuntimeError(name)

            def __str__(self) -> str:
                raise RuntimeError

            __repr__ = __str__

        class OperationalError(Hostile):
            __module__ = "psycopg2"

        assert told(Hostile()) == ("other", "other", False, "Hostile")
        assert told(OperationalError()) == ("connection", "connection", False, "OperationalError")

    @given(st.text(), st.integers(), st.one_of(st.none(), st.text(), st.integers(), st.binary()))
    def test_whatever_an_error_carries_the_answers_are_of_the_closed_sets(self, message, code, state):
        error = type("OperationalError", (Exception,), {"__module__": "pymysql"})(code, message)
        error.sqlstate, error.sqlite_errorcode, error.orig = state, state, SimpleNamespace()
        assert failure_kind(error) in DB_ERRORS
        assert create_failure(error) in FAILURES
        assert isinstance(is_conflict(error), bool)
        assert message not in error_label(error) or len(message) <= len("OperationalError 12345")

    def test_the_kinds_named_are_those_that_are_counted(self):
        tables = (failures._SQLSTATES, failures._SQLSTATE_CLASSES, failures._SQLITE_CODES)
        kinds = {kind for table in (*tables, failures._MYSQL_CODES, failures._CLASSES) for kind in table.values()}
        assert kinds | {kind for kind, _ in failures._PHRASES} <= set(DB_ERRORS)
