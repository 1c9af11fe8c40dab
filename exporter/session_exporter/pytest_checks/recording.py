"""The journal of a test run: every process that a test starts writes into it, and it is gone with the run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Final, TypeAlias

from session_exporter.core.events import Event, Writer
from session_exporter.journal import JournalReader
from session_exporter.journal.directory import ENVIRONMENT_KEY
from session_exporter.journal.reader import NOT_YET_MAX
from session_exporter.outlet import divert
from session_exporter.pytest_checks.known import KnownSessions

# Of one test; some 400 bytes each.
EVENTS_MAX: Final = 1_000_000

Piece: TypeAlias = tuple[list[Event], Writer]


class Recording:
    """Has all trackers of this process and its children write to a directory of its own, and reads it.

    Trackers that are open already, as those of an application that was imported before, are diverted as well.

    Attributes:
        directory: Of the journal.
        known: Sessions that are older than the test.

    Raises:
        JournalError: The directory cannot be made, or not read.
    """

    def __init__(self) -> None:
        self.directory = Path(mkdtemp(prefix="session-exporter-"))
        self.known = KnownSessions()
        self._pid = os.getpid()
        self._before = os.environ.get(ENVIRONMENT_KEY)
        self._pieces: list[Piece] = []
        self._size = self._surplus = self._lost_before = 0
        self._is_aside = False
        self._lost_of: dict[str, int] = {}
        self._reader = JournalReader(self.directory, {})
        self._reader.lock()
        os.environ[ENVIRONMENT_KEY] = str(self.directory)
        self._diverted_before = divert(self.directory)

    def begin_test(self) -> None:
        """Forget what was recorded, but for the ids of the sessions."""
        self._collect()
        self._forget(lasting=False)
        self._lost_before = self._lost()

    def pieces(self) -> list[Piece]:
        """What was recorded since the test began, in pieces of one writer each."""
        self._collect()
        return list(self._pieces)

    def lost(self) -> int:
        """How many events of the test could not be recorded, or are too many to be judged."""
        return self._lost() - self._lost_before

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Record nothing of the test in the block: a fixture is set up that several tests share."""
        if self._is_aside:  # one such fixture asks for another
            yield
            return
        self._collect()
        begun = self._pieces, self._size
        self._pieces, self._size, self._is_aside = [], 0, True
        try:
            yield
        finally:
            self._is_aside = False
            self._collect()
            self._forget(lasting=True)
            self._pieces, self._size = begun

    def close(self) -> None:
        """Have trackers write where they wrote before, and remove what was written."""
        if os.getpid() != self._pid:  # a forked child that ends as its parent would
            return
        divert(self._diverted_before)
        os.environ.pop(ENVIRONMENT_KEY, None)
        if self._before is not None:
            os.environ[ENVIRONMENT_KEY] = self._before
        self._reader.close()
        rmtree(self.directory, ignore_errors=True)

    def _forget(self, *, lasting: bool) -> None:
        for events, _ in self._pieces:
            self.known.learn(events, lasting=lasting)
        self._pieces, self._size = [], 0

    def _collect(self) -> None:
        """Read all that is committed by now."""
        reader = self._reader
        for _ in range(NOT_YET_MAX + 1):
            reader.scan()
            while (batch := reader.read()) is not None:
                self._add(batch.events, batch.writer)
            if reader.behind_us() is None:
                break
        reader.release(reader.positions())
        controls = reader.controls()
        self._lost_of.update((control.writer.id, sum(control.lost.values())) for control in controls)
        reader.retire([control.writer.id for control in controls if not control.alive])

    def _add(self, events: list[Event], writer: Writer) -> None:
        room = EVENTS_MAX - self._size
        self._surplus += max(0, len(events) - room)
        self._pieces.append((events[:room], writer))
        self._size += len(self._pieces[-1][0])

    def _lost(self) -> int:
        return sum(self._lost_of.values()) + self._surplus
