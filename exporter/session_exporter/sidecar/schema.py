"""The tables of the state, and how a database that may not be ours is opened."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from session_exporter.errors import StateError, StateIncompatible

DATABASE_NAME: Final = "state.sqlite3"
# What a forwarder keeps, which counts nothing.
POD_FILE_NAME: Final = "forwarder.state"
APPLICATION_ID: Final = 0x5345_5850  # "SEXP"
VERSION: Final = 3
BUSY_TIMEOUT_S: Final = 5.0

_TABLES: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE positions (writer TEXT, segment INTEGER, offset INTEGER NOT NULL,
    PRIMARY KEY (writer, segment)) WITHOUT ROWID;
CREATE TABLE sessions (scope INTEGER, id BLOB, data BLOB NOT NULL, PRIMARY KEY (scope, id)) WITHOUT ROWID;
CREATE TABLE owners (scope INTEGER, id BLOB, data BLOB NOT NULL, PRIMARY KEY (scope, id)) WITHOUT ROWID;
CREATE TABLE known (scope INTEGER, id BLOB, last_us INTEGER NOT NULL, flags INTEGER NOT NULL,
    PRIMARY KEY (scope, id)) WITHOUT ROWID;
CREATE INDEX known_by_age ON known (last_us);
CREATE TABLE requests (number INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE minutes (minute INTEGER, scope TEXT, name TEXT, count INTEGER NOT NULL,
    PRIMARY KEY (minute, scope, name)) WITHOUT ROWID;
CREATE TABLE incidents (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, at_us INTEGER NOT NULL,
    scope TEXT NOT NULL, kind TEXT NOT NULL, cause TEXT NOT NULL, data BLOB NOT NULL,
    user TEXT NOT NULL DEFAULT '', other_user TEXT NOT NULL DEFAULT '');
CREATE INDEX incidents_by_time ON incidents (at_us);
CREATE INDEX incidents_by_user ON incidents (user);
CREATE INDEX incidents_by_other_user ON incidents (other_user);
CREATE TABLE places (number INTEGER PRIMARY KEY, sites TEXT NOT NULL);
CREATE TABLE lookups (hour INTEGER, scope TEXT, place INTEGER, first INTEGER, lookups INTEGER NOT NULL,
    PRIMARY KEY (hour, scope, place, first)) WITHOUT ROWID;
CREATE TABLE stream_positions (stream INTEGER, writer TEXT, segment INTEGER NOT NULL, offset INTEGER NOT NULL,
    run TEXT NOT NULL, sent INTEGER NOT NULL, seen_us INTEGER NOT NULL, PRIMARY KEY (stream, writer)) WITHOUT ROWID;
"""
# From the version before each to it.
_UPGRADES: Final = {
    2: """
ALTER TABLE incidents ADD COLUMN user TEXT NOT NULL DEFAULT '';
ALTER TABLE incidents ADD COLUMN other_user TEXT NOT NULL DEFAULT '';
UPDATE incidents SET cause = cause || said(data, 'reason') || said(data, 'violation'),
    user = said(data, 'user'), other_user = said(data, 'other_user');
CREATE INDEX incidents_by_user ON incidents (user);
CREATE INDEX incidents_by_other_user ON incidents (other_user);
CREATE TABLE places (number INTEGER PRIMARY KEY, sites TEXT NOT NULL);
CREATE TABLE lookups (hour INTEGER, scope TEXT, place INTEGER, first INTEGER, lookups INTEGER NOT NULL,
    PRIMARY KEY (hour, scope, place, first)) WITHOUT ROWID;
""",
    3: """
CREATE TABLE stream_positions (stream INTEGER, writer TEXT, segment INTEGER NOT NULL, offset INTEGER NOT NULL,
    run TEXT NOT NULL, sent INTEGER NOT NULL, seen_us INTEGER NOT NULL, PRIMARY KEY (stream, writer)) WITHOUT ROWID;
""",
}


def open_to_write(directory: Path) -> sqlite3.Connection:
    """Open, or make, the database of a state directory.

    Raises:
        StateIncompatible: It was written by a newer version, or is no state of this product.
        StateError: It cannot be opened or written.
    """
    path = directory / DATABASE_NAME
    if (directory / POD_FILE_NAME).exists():
        raise StateIncompatible(f"{directory}: the state of a forwarder; expected a directory of the sidecar's own")
    try:
        with _closed_on_error(
            sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        ) as connection:
            path.chmod(0o600)
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                # The fault model is a killed process, not a crashed host: the log is not synced at each commit.
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(
                    f"BEGIN; {_TABLES}PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT"
                )
            _upgrade(connection)
            check(connection, path)
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA cache_size = -8192")
            # Of a large state every commit touches other pages: let some 40 MB of them collect before they are moved.
        connection.execute("PRAGMA wal_autocheckpoint = 10000")
        connection.execute("PRAGMA journal_size_limit = 67108864")
    except sqlite3.DatabaseError as error:
        raise _translated(path, error) from error
    return connection


def open_to_read(directory: Path) -> sqlite3.Connection:
    """Open the database of a state directory without changing anything.

    Raises:
        StateIncompatible: It was written by a newer version, or is no state of this product.
        StateError: There is none, or it cannot be opened.
    """
    path = directory / DATABASE_NAME
    if not path.is_file():
        raise StateError(f"{path}: not there; expected the state that a sidecar keeps")
    try:
        with _closed_on_error(
            sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None
            )
        ) as connection:
            check(connection, path)
    except sqlite3.DatabaseError as error:
        raise _translated(path, error) from error
    return connection


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a database that this version must not touch.

    Raises:
        StateIncompatible: It is not ours, or newer.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        raise StateIncompatible(f"{path}: application id {application:#x}; expected a state of session-exporter")
    if version > VERSION or version < 1:
        raise StateIncompatible(f"{path}: state version {version}; expected {VERSION}, which this version writes")
    if version < VERSION:
        raise StateIncompatible(f"{path}: state version {version}; expected {VERSION}: start session-exporter once")


def _upgrade(connection: sqlite3.Connection) -> None:
    """Bring a state of an earlier version up to this one; what is no state of ours is left as it is."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        return
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.create_function("said", 2, _said)
    for target in range(version + 1, VERSION + 1):
        if target in _UPGRADES:
            connection.executescript(f"BEGIN; {_UPGRADES[target]}PRAGMA user_version = {target}; COMMIT")


def _said(data: bytes, name: str) -> str:
    """A text of an incident's detail; SQLite's own functions for JSON are not everywhere."""
    return str(msgspec.json.decode(data, type=dict[str, Any]).get(name, ""))


@contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    try:
        yield connection
    except BaseException:
        connection.close()
        raise


def _translated(path: Path, error: sqlite3.DatabaseError) -> StateError:
    if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
        return StateIncompatible(f"{path}: not a database; expected a state of session-exporter")
    return StateError(f"{path}: {error}; expected a state that can be opened")
