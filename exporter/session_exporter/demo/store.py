"""The chat application's database: SQLite, one connection per worker process, one table per kind of session."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

CONVERSATION: Final = "conversation"
PROGRESS_UPDATE: Final = "progress_update"
TABLES: Final = {CONVERSATION: "conversation_sessions", PROGRESS_UPDATE: "progress_update_sessions"}

# Four workers take turns at writing; a turn is far below a millisecond, unless the disk is slow.
BUSY_TIMEOUT_S: Final = 10.0
_RETRY_S: Final = 0.02

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS conversation_sessions (
    id TEXT PRIMARY KEY, user_id TEXT NOT NULL, status TEXT NOT NULL, project TEXT, created_at TEXT NOT NULL,
    messages INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS progress_update_sessions (
    id TEXT PRIMARY KEY, user_id TEXT NOT NULL, status TEXT NOT NULL, project TEXT, created_at TEXT NOT NULL,
    conversation_id TEXT NOT NULL REFERENCES conversation_sessions (id));
CREATE INDEX IF NOT EXISTS conversations_of_user ON conversation_sessions (user_id);
CREATE INDEX IF NOT EXISTS progress_updates_of_user ON progress_update_sessions (user_id);
"""
_ONE_ACTIVE_SESSION: Final = """
CREATE UNIQUE INDEX IF NOT EXISTS one_conversation ON conversation_sessions (user_id) WHERE status = 'active';
CREATE UNIQUE INDEX IF NOT EXISTS one_progress_update ON progress_update_sessions (user_id) WHERE status = 'active';
"""
_NEWEST_ACTIVE: Final = {
    CONVERSATION: "SELECT id, project FROM conversation_sessions WHERE user_id = ? AND status = 'active'"
    " ORDER BY created_at DESC, rowid DESC LIMIT 1",
    PROGRESS_UPDATE: "SELECT id, project FROM progress_update_sessions WHERE user_id = ? AND status = 'active'"
    " ORDER BY created_at DESC, rowid DESC LIMIT 1",
}
_INSERT: Final = {
    CONVERSATION: "INSERT INTO conversation_sessions (id, user_id, status, created_at) VALUES (?, ?, 'active', ?)",
    PROGRESS_UPDATE: "INSERT INTO progress_update_sessions (id, user_id, status, created_at, conversation_id)"
    " VALUES (?, ?, 'active', ?, ?)",
}
_UNLESS_ACTIVE: Final = " ON CONFLICT (user_id) WHERE status = 'active' DO NOTHING"
_END: Final = {
    CONVERSATION: "UPDATE conversation_sessions SET status = 'ended' WHERE id = ?",
    PROGRESS_UPDATE: "UPDATE progress_update_sessions SET status = 'ended' WHERE id = ?",
}


@dataclass(frozen=True, slots=True)
class StoredSession:
    """One row of either table, as far as the application reads it.

    Attributes:
        id: The session's id, a UUID.
        project: What the user picked in it; None before.
    """

    id: str
    project: str | None = None


class ChatDatabase:
    """One worker's connection. Every statement commits by itself, outside of `transaction()`.

    Args:
        path: The database file, shared by all workers.
        one_active_session: Whether a partial unique index allows a user one active session per table.
    """

    def __init__(self, path: Path, *, one_active_session: bool) -> None:
        self._connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        _write_ahead(self._connection)
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(_SCHEMA + (_ONE_ACTIVE_SESSION if one_active_session else ""))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything inside together, or nothing. No `await` belongs inside: all tasks share the connection."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def find(self, scope: str, user: str) -> StoredSession | None:
        """Find the user's newest active session."""
        found = self._connection.execute(_NEWEST_ACTIVE[scope], (user,)).fetchone()
        return StoredSession(*found) if found else None

    def insert(self, scope: str, user: str, *conversation: str) -> StoredSession:
        """Insert an active session; a progress update names the conversation it belongs to."""
        session_id = str(uuid4())
        self._connection.execute(_INSERT[scope], (session_id, user, _now(), *conversation))
        return StoredSession(session_id)

    def insert_unless_active(self, scope: str, user: str, *conversation: str) -> tuple[StoredSession, bool]:
        """Insert an active session, or find the one that is there; needs the unique index, and a transaction.

        Returns:
            The session, and whether this call made it.
        """
        values = (str(uuid4()), user, _now(), *conversation)
        inserted = self._connection.execute(_INSERT[scope] + _UNLESS_ACTIVE, values)
        row = self._connection.execute(_NEWEST_ACTIVE[scope], (user,)).fetchone()
        return StoredSession(*row), inserted.rowcount == 1

    def end(self, scope: str, session_id: str) -> None:
        """End a session."""
        self._connection.execute(_END[scope], (session_id,))

    def count_message(self, conversation: str) -> None:
        """Note that a conversation has one message more."""
        statement = "UPDATE conversation_sessions SET messages = messages + 1 WHERE id = ?"
        self._connection.execute(statement, (conversation,))

    def remember_project(self, conversation: str, project: str) -> None:
        """Note in a conversation what its user picked."""
        statement = "UPDATE conversation_sessions SET project = ? WHERE id = ?"
        self._connection.execute(statement, (project, conversation))

    def show_progress(self, progress_update: str, project: str) -> None:
        """Note in a progress update whose tasks were shown."""
        statement = "UPDATE progress_update_sessions SET project = ? WHERE id = ?"
        self._connection.execute(statement, (project, progress_update))

    def conversation_with_project(self, user: str) -> str | None:
        """Find an active conversation in which the user picked a project."""
        statement = (
            "SELECT id FROM conversation_sessions WHERE user_id = ? AND status = 'active' AND project IS NOT NULL"
        )
        found = self._connection.execute(statement, (user,)).fetchone()
        return str(found[0]) if found else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Turn the log on, which all workers do at once; whoever meets another at it is refused without a wait."""
    until_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > until_s:
                raise
            time.sleep(_RETRY_S)
        else:
            return
