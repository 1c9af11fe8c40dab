"""The sidecar's memory on disk: one SQLite database, one transaction per commit."""

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Final

import msgspec

from session_exporter.core.checkpoint import Changes, OwnerRow, SessionRow, Waiting
from session_exporter.core.db_sessions import DbUse
from session_exporter.core.population import Known
from session_exporter.core.recollection import Remembered
from session_exporter.core.scopes import Limits
from session_exporter.core.totals import LedgerTotals
from session_exporter.errors import StateError
from session_exporter.journal.ownership import Ownership
from session_exporter.sidecar import incidents, lookups, positions, schema
from session_exporter.sidecar.positions import Positions
from session_exporter.sidecar.records import ExporterState, Identity, T, read_meta
from session_exporter.stream.positions import Place, Position

SHARED_DIRECTORY: Final = Path("/var/lib/session-exporter")
LOCK_NAME: Final = "lock"
MINUTES_KEPT: Final = 32 * 24 * 60
# At most so many rows are forgotten in one commit, so that none of them takes long.
FORGET_ROWS: Final = 20_000
# Of what is remembered of an id, behind the 56 bits that say whose it was.
_FOUND_BIT: Final = 58

_encode = msgspec.msgpack.Encoder().encode


def default_directory() -> Path:
    """Where the state is, when nobody says: the shared place when it can be written, else the user's own."""
    place = SHARED_DIRECTORY if SHARED_DIRECTORY.exists() else SHARED_DIRECTORY.parent
    if os.access(place, os.W_OK | os.X_OK):
        return SHARED_DIRECTORY
    home = os.environ.get("XDG_STATE_HOME")
    if home:
        return Path(home) / "session-exporter"
    own = Path("~/.local/state").expanduser()
    if own.is_absolute():
        return own / "session-exporter"
    return Path(tempfile.gettempdir()) / f"session-exporter-state-{os.geteuid()}"


class State:
    """What was committed last; owned by one process at a time.

    Args:
        directory: Made, for its owner only, when it is missing.
        limits: How much is kept.

    Raises:
        StateLocked: Another sidecar owns it; the message names it.
        StateIncompatible: It was written by a newer version, or is no state.
        StateError: It cannot be opened or written.
    """

    def __init__(self, directory: Path, limits: Limits) -> None:
        self.directory = directory
        self.limits = limits
        self._ownership = Ownership(directory, LOCK_NAME, StateError)
        self._ownership.take()
        try:
            self._connection = schema.open_to_write(directory)
        except BaseException:
            self._ownership.give_up()
            raise
        self._known_count: int | None = None

    def close(self) -> None:
        """Close the database and give the lock back."""
        self._connection.close()
        self._ownership.give_up()

    def identity(self) -> Identity | None:
        """Whose state it is; None for one that was just made."""
        return self._meta("identity", Identity)

    def totals(self) -> LedgerTotals:
        """The ledger's counts at the last commit."""
        return self._meta("totals", LedgerTotals) or LedgerTotals()

    def waiting(self) -> Waiting:
        """What had not been judged at the last commit."""
        return self._meta("waiting", Waiting) or Waiting()

    def exporter(self) -> ExporterState | None:
        """The exporter's own counts at the last commit."""
        return self._meta("exporter", ExporterState)

    def numbers(self) -> dict[str, int]:
        """The numbers of the scopes."""
        return self._meta("numbers", dict[str, int]) or {}

    def positions(self) -> dict[tuple[str, int], int]:
        """How far each segment of the journal had been read."""
        with self._reading() as connection:
            return positions.read_journal(connection)

    def stream_positions(self) -> dict[Place, Position]:
        """How far each writer had been read in each stream."""
        with self._reading() as connection:
            return positions.read_streams(connection)

    def sessions(self) -> Iterator[SessionRow]:
        """All rows of sessions."""
        decode = msgspec.msgpack.Decoder(SessionRow).decode
        with self._reading() as connection:
            for (data,) in connection.execute("SELECT data FROM sessions"):
                yield decode(data)

    def owners(self) -> Iterator[OwnerRow]:
        """All rows of users."""
        decode = msgspec.msgpack.Decoder(OwnerRow).decode
        with self._reading() as connection:
            for (data,) in connection.execute("SELECT data FROM owners"):
                yield decode(data)

    def db_uses(self) -> list[DbUse]:
        """The newest uses of database sessions."""
        return self._meta("db_uses", list[DbUse]) or []

    def trail(self) -> list[Remembered]:
        """The events that the last clean stop handed on, when there was no commit since."""
        return self._meta("trail", list[Remembered]) or []

    def requests(self) -> Iterator[tuple[int, dict[bytes, int]]]:
        """The request memory, in the order of the commits."""
        decode = msgspec.msgpack.Decoder(dict[bytes, int]).decode
        with self._reading() as connection:
            for epoch, data in connection.execute("SELECT epoch, data FROM requests ORDER BY number"):
                yield epoch, decode(data)

    def find(self, scope: int, session: bytes) -> Known | None:
        """What is remembered of a session that has left the ledger.

        Raises:
            StateError: The database cannot be read.
        """
        sql = "SELECT last_us, flags FROM known WHERE scope = ? AND id = ?"
        try:
            row = self._connection.execute(sql, (scope, session)).fetchone()
        except sqlite3.Error as error:
            raise StateError(f"{self.directory}: {error}") from error
        return _known(*row) if row else None

    def forget_ids(self, identity: Identity) -> None:
        """Forget all that names sessions and users, whose ids are from now on written in another way; counts stay.

        Raises:
            StateError: It could not be written.
        """
        totals = self.totals()
        for scope in totals.scopes.values():
            scope.forget_names()
        try:
            with self._transaction() as connection:
                for table in ("sessions", "owners", "known", "requests", "incidents"):
                    connection.execute(f"DELETE FROM {table}")  # noqa: S608 - the names stand above
                connection.execute("DELETE FROM meta WHERE name IN ('waiting', 'db_uses', 'trail')")
                self._store_meta(connection, "totals", _encode(totals))
                self._store_meta(connection, "identity", _encode(identity))
            # What was deleted would stay readable in free pages and in the log.
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise StateError(f"{self.directory}: {error}; expected a state that can be written") from error

    def commit(
        self,
        changes: Changes,
        read: Positions,
        exporter: ExporterState,
        numbers: dict[str, int],
        identity: Identity | None = None,
    ) -> bytes:
        """Store all changes, and how far events were read, or nothing; the identity when it is given.

        Returns:
            The ledger's counts as they were stored.

        Raises:
            StateError: Nothing was stored: the disk is full, or the database was tampered with.
        """
        totals = _encode(changes.totals)
        with self._transaction() as connection:
            self._store_rows(connection, changes)
            self._store_window(connection, changes)
            positions.store(connection, read)
            self._store_meta(connection, "totals", totals)
            self._store_meta(connection, "waiting", _encode(changes.waiting))
            self._store_meta(connection, "exporter", _encode(exporter))
            self._store_meta(connection, "numbers", _encode(numbers))
            if changes.db_uses is not None:
                self._store_meta(connection, "db_uses", _encode(changes.db_uses))
            self._store_trail(connection, changes.trail)
            if identity is not None:
                self._store_meta(connection, "identity", _encode(identity))
        return totals

    def forget_old(self, now_us: int) -> bool:
        """Forget known ids, minutes and lookups that are too old or too many, a bounded number of ids at a time.

        Returns:
            Whether all is forgotten that should be; when not, there is more for the next call.

        Raises:
            StateError: Nothing was forgotten.
        """
        oldest_us = now_us - self.limits.known_ids_retention_us
        with self._transaction() as connection:
            if self._known_count is None:
                self._known_count = connection.execute("SELECT count(*) FROM known").fetchone()[0]
            surplus = min(max(self._known_count - self.limits.known_ids_max, 0), FORGET_ROWS)
            oldest = "SELECT scope, id FROM known"
            gone = connection.execute(
                f"DELETE FROM known WHERE (scope, id) IN ({oldest} WHERE last_us < ? ORDER BY last_us LIMIT ?)",  # noqa: S608
                (oldest_us, FORGET_ROWS),
            ).rowcount
            gone += connection.execute(
                f"DELETE FROM known WHERE (scope, id) IN ({oldest} ORDER BY last_us LIMIT ?)",  # noqa: S608
                (max(surplus - gone, 0),),
            ).rowcount
            incidents.forget(connection, now_us - self.limits.incident_retention_us)
            connection.execute("DELETE FROM minutes WHERE minute < ?", (now_us // 60_000_000 - MINUTES_KEPT,))
            lookups.forget(connection, now_us - MINUTES_KEPT * 60_000_000)
        self._known_count -= gone
        return gone < FORGET_ROWS

    def _store_rows(self, connection: sqlite3.Connection, changes: Changes) -> None:
        for table, rows in (("sessions", changes.sessions), ("owners", changes.owners)):
            connection.executemany(
                f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)",  # noqa: S608 - the names stand above
                # In the order of the key, so that rows of one page are written together.
                # Stable: of two rows of one session, which left and came back, the newer stays the later.
                sorted(((row.scope, row.id, _encode(row)) for row in rows), key=itemgetter(0, 1)),
            )
        left = changes.left_sessions
        connection.executemany("DELETE FROM sessions WHERE scope = ? AND id = ?", ((each[0], each[1]) for each in left))
        known_before = connection.executemany(
            "DELETE FROM known WHERE scope = ? AND id = ?", ((each[0], each[1]) for each in left)
        ).rowcount
        connection.executemany(
            "INSERT INTO known VALUES (?, ?, ?, ?)",
            ((scope, id_, each.last_us, _flags(each)) for scope, id_, each in left if each is not None),
        )
        if left and self._known_count is not None:
            self._known_count += len(left) - known_before
        connection.executemany("DELETE FROM owners WHERE scope = ? AND id = ?", changes.left_owners)
        epoch = changes.waiting.epoch
        if changes.requests:
            connection.execute("INSERT INTO requests (epoch, data) VALUES (?, ?)", (epoch, _encode(changes.requests)))
        connection.execute("DELETE FROM requests WHERE epoch < ?", (epoch - 1,))

    def _store_window(self, connection: sqlite3.Connection, changes: Changes) -> None:
        counts = (
            (number, scope, name, count)
            for scope, number, minute in changes.minutes
            for name, count in (*minute.counts.items(), ("reuses", minute.reuses))
            if count
        )
        connection.executemany(
            "INSERT INTO minutes VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count", counts
        )
        if changes.lookups:
            lookups.store(connection, changes.lookups)
        if changes.incidents:
            incidents.store(connection, changes.incidents, self.limits.max_incidents)

    def _store_trail(self, connection: sqlite3.Connection, trail: list[Remembered]) -> None:
        """What a clean stop hands on is there for the next start alone: once that has committed, it is out of date."""
        if trail:
            self._store_meta(connection, "trail", _encode(trail))
        else:
            connection.execute("DELETE FROM meta WHERE name = 'trail'")

    @staticmethod
    def _store_meta(connection: sqlite3.Connection, name: str, value: bytes) -> None:
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def _meta(self, name: str, kind: type[T]) -> T | None:
        with self._reading() as connection:
            return read_meta(connection, name, kind)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Whatever is wrong with the rows is a StateError."""
        try:
            yield self._connection
        except (sqlite3.Error, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StateError(f"{self.directory}: {error}; expected a state that can be read") from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; takes the write lock at its beginning."""
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except BaseException as error:
            self._known_count = None
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise StateError(f"{self.directory}: {error}; nothing was committed") from error
            raise


def _known(last_us: int, flags: int) -> Known:
    user = flags >> 2 & (1 << _FOUND_BIT - 2) - 1
    return Known(last_us, bool(flags & 1), bool(flags & 2), user, bool(flags >> _FOUND_BIT & 1))


def _flags(known: Known) -> int:
    return known.ended | known.born << 1 | known.user << 2 | known.found << _FOUND_BIT
