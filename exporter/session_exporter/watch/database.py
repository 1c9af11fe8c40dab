"""A database that is read and never written: one connection, transactions that are short, and failures by culprit.

What `reading` yields is a connection of SQLAlchemy Core; one thread at a time uses it:

    with database.reading() as connection:
        rows = connection.execute(statement).all()
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from session_exporter.watch.address import database_url, shown_address
from session_exporter.watch.cutting import cut
from session_exporter.watch.faults import told

# First the module that says what to install when SQLAlchemy is missing.
from sqlalchemy import create_engine, event, text  # isort: skip
from sqlalchemy.engine import URL, Connection  # isort: skip
from sqlalchemy.exc import SQLAlchemyError  # isort: skip
from sqlalchemy.pool import NullPool  # isort: skip

__all__ = ["APPLICATION", "STATEMENT_TIMEOUT_S", "Database", "database_url"]

STATEMENT_TIMEOUT_S: Final = 10.0
APPLICATION: Final = "session-exporter"
_CONNECT_TIMEOUT_S: Final = 5
# A server that is gone without a word is noticed after some 25 s.
_LIBPQ: Final = {
    "connect_timeout": _CONNECT_TIMEOUT_S,
    "application_name": APPLICATION,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
_BUSY_TIMEOUT_S: Final = 2.0
# Steps of SQLite's machine between two looks at the clock: a few milliseconds.
_STEPS: Final = 20_000

# For one transaction each: a pool between us and the server, such as pgbouncer, may give the connection to others.
_PREPARE: Final = text(
    "SELECT set_config('transaction_read_only', 'on', true), set_config('statement_timeout', :statement, true), "
    "set_config('lock_timeout', :lock, true), set_config('idle_in_transaction_session_timeout', :idle, true), "
    "set_config('TimeZone', 'UTC', true)"
)


class Database:
    """A PostgreSQL or SQLite.

    Args:
        url: As `database_url` gives it.
        statement_timeout_s: How long one statement may take.

    Attributes:
        address: Where it is, for messages: no user and no password.
    """

    def __init__(self, url: URL, *, statement_timeout_s: float = STATEMENT_TIMEOUT_S) -> None:
        self.address = shown_address(url)
        self._password = str(url.password or "")
        self._timeout_s = statement_timeout_s
        self._deadline_s = float("inf")
        self._is_file = url.get_backend_name() == "sqlite"
        self._engine = self._sqlite(url) if self._is_file else _postgresql(url)
        self._connection: Connection | None = None
        self._driver_connection: Any = None
        # Before SQLAlchemy asks it anything.
        event.listen(self._engine, "connect", self._note, insert=True)

    @contextmanager
    def reading(self, statement_timeout_s: float | None = None) -> Iterator[Connection]:
        """A transaction that reads; each statement sees what is committed when it begins.

        A connection that has failed is closed; the next transaction makes a new one.

        Args:
            statement_timeout_s: Another time for each statement than this database's own.

        Raises:
            DatabaseUnavailable: It is not there, does not answer in time, or something was locked.
            DatabaseRefused: It does not let us in, or not there.
            TableUnusable: What was asked for is not there.
        """
        try:
            connection = self._connected()
            with connection.begin():
                self._prepare(connection, statement_timeout_s or self._timeout_s)
                yield connection
        except (SQLAlchemyError, OSError) as error:
            self.close()
            # Not even as a cause: drivers quote values.
            raise told(error, self.address, self._password) from None
        finally:
            self._deadline_s = float("inf")
            if self._is_file:
                self.close()  # it may be replaced by another one, and ours would be the one that is gone

    def cut(self) -> None:
        """Let whatever waits for the database fail at once; any thread may call."""
        cut(self._driver_connection)

    def close(self) -> None:
        """Close the connection; the next use makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError, OSError):  # it is of no use any more, whatever it says to that
                connection.invalidate()
                connection.close()

    def _note(self, driver_connection: Any, _record: object) -> None:
        self._driver_connection = driver_connection

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def _prepare(self, connection: Connection, timeout_s: float) -> None:
        if connection.dialect.name != "postgresql":
            self._deadline_s = time.monotonic() + timeout_s
            return
        statement = f"{round(timeout_s * 1000)}ms"
        lock = f"{round(min(timeout_s, _BUSY_TIMEOUT_S) * 1000)}ms"
        # Between two statements we hand over what was read: longer than that, we are stuck.
        connection.execute(_PREPARE, {"statement": statement, "lock": lock, "idle": f"{round(timeout_s * 6000)}ms"})

    def _sqlite(self, url: URL) -> Any:
        address = _file_uri(str(url.database))

        def connect() -> sqlite3.Connection:
            connection = sqlite3.connect(address, uri=True, timeout=_BUSY_TIMEOUT_S, check_same_thread=False)
            connection.execute("PRAGMA query_only = ON")
            connection.set_progress_handler(self._is_overdue, _STEPS)
            return connection

        return create_engine("sqlite://", creator=connect, poolclass=NullPool, future=True, hide_parameters=True)

    def _is_overdue(self) -> bool:
        return time.monotonic() > self._deadline_s


def _postgresql(url: URL) -> Any:
    driver = url.get_driver_name()
    options: dict[str, Any] = dict(_LIBPQ) if driver in {"psycopg", "psycopg2"} else {}
    if driver == "psycopg":
        options["prepare_threshold"] = None  # a pool in between may not know what was prepared
    # What the URL says itself comes first.
    options = {name: value for name, value in options.items() if name not in url.query}
    return create_engine(url, connect_args=options, poolclass=NullPool, future=True, hide_parameters=True)


def _file_uri(path: str) -> str:
    if path.startswith("file:"):
        path = path.removeprefix("file:").partition("?")[0]
    return f"{Path(path).absolute().as_uri()}?mode=ro"
