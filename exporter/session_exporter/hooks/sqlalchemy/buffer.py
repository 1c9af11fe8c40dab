"""What one database transaction will have done once it is committed, and what of it a rollback takes back."""

from collections.abc import Callable
from typing import Final

from session_exporter.errors import SessionExporterError
from session_exporter.reporter import Reporter

Commit = Callable[[int], None]
Undo = Callable[[], None]

# More rows than a transaction makes that serves a user; a bulk load beyond it is counted as failures.
ENTRIES_MAX: Final = 100_000


class TransactionTooLong(SessionExporterError):
    """More sessions were made in one transaction than are kept until its commit."""


class Buffer:
    """The entries of one transaction in the order they were made; exactly one callback of each is called, once.

    A callback that raises is counted under the reporter's name, and the next one is called.

    Args:
        number: Identifies the transaction.
        reporter: The hook's.

    Attributes:
        number: As given.
        aborted: Whether the database has refused a statement, and will answer a commit with a rollback.
        shield: The reporter's, for whoever calls this on the application's way.
        over: Whether it was committed or rolled back, or belongs to the process that this one was forked from.
    """

    __slots__ = ("__weakref__", "_entries", "_reporter", "_savepoints", "aborted", "number", "over", "shield")

    def __init__(self, number: int, reporter: Reporter) -> None:
        self.number = number
        self.aborted = False
        self.over = False
        self.shield = reporter.shield
        self._reporter = reporter
        self._entries: list[tuple[Commit, Undo]] = []
        self._savepoints: list[tuple[str, int]] = []

    def add(self, commit: Commit, undo: Undo) -> None:
        """Keep an entry until the transaction settles; one too many is undone at once, and counted."""
        if len(self._entries) < ENTRIES_MAX:
            self._entries.append((commit, undo))
            return
        self._reporter.count_failure(TransactionTooLong(f"more than {ENTRIES_MAX} entries in one transaction"))
        with self.shield:
            undo()

    def savepoint(self, name: str) -> None:
        """Note that what comes now may be rolled back to here."""
        if len(self._savepoints) < ENTRIES_MAX:
            self._savepoints.append((name, len(self._entries)))

    def release(self, name: str) -> None:
        """Note that a savepoint, and those made after it, are no more; entries stay."""
        position = self._position(name)
        if position is not None:
            del self._savepoints[position:]

    def roll_back_to(self, name: str) -> None:
        """Undo what was added since the savepoint, which stays; all, when it was made before the first entry."""
        self.aborted = False
        position = self._position(name)
        if position is None:
            self._savepoints.clear()
            self._undo_from(0)
        else:
            del self._savepoints[position + 1 :]
            self._undo_from(self._savepoints[position][1])

    def commit(self) -> None:
        """Settle all entries: they have been committed now."""
        self.over = True
        at_us = self._reporter.now_us()
        entries, self._entries = self._entries, []
        for commit, _ in entries:
            with self.shield:
                commit(at_us)

    def undo(self) -> None:
        """Undo all entries, the last one first."""
        self.over = True
        self._undo_from(0)

    def forget(self) -> None:
        """Call nothing: the entries are those of another process."""
        self.over = True
        self._entries = []

    def _undo_from(self, length: int) -> None:
        undone = self._entries[length:]
        del self._entries[length:]
        for _, undo in reversed(undone):
            with self.shield:
                undo()

    def _position(self, name: str) -> int | None:
        """Where the latest savepoint of this name is; names may come again."""
        for position in range(len(self._savepoints) - 1, -1, -1):
            if self._savepoints[position][0] == name:
                return position
        return None

    def __len__(self) -> int:
        return len(self._entries)

    def __del__(self) -> None:
        # Its connection is gone, in a way that no event tells of, and nothing can be committed any more.
        if self._entries:
            with self.shield:
                self.undo()
