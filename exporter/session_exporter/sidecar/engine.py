"""The one consumer: events in, ledger, state out. Belongs to one thread at a time."""

import gc
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from session_exporter.config import Config
from session_exporter.core.checkpoint import Changes, take_changes
from session_exporter.core.incidents import Incident
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.totals import LedgerTotals
from session_exporter.core.trail import Trail
from session_exporter.errors import PartitionTaken, StreamRefused, StreamUnavailable
from session_exporter.sidecar import alarms
from session_exporter.sidecar.identity import open_ids
from session_exporter.sidecar.intake import Intake
from session_exporter.sidecar.positions import Positions
from session_exporter.sidecar.progress import SURROUNDINGS
from session_exporter.sidecar.resuming import Resumption, Terms
from session_exporter.sidecar.snapshot import Snapshot
from session_exporter.sidecar.state import State
from session_exporter.sidecar.summary import Sight
from session_exporter.sidecar.watching import Watching
from session_exporter.sidecar.workers import Reloads, expose, memory_mb

logger = logging.getLogger(__name__)

MAINTENANCE_EVERY_US: Final = 60_000_000


class Engine:
    """Drains an intake into the ledger and commits what comes of it.

    Args:
        config: The configuration in force.
        intake: Where the events come from.
        state_directory: Where the state is.
        reloads: What to expose of the configuration's reloads.
        on_incident: Told each incident once it is committed, with its scope's duplicate window in microseconds.

    Attributes:
        snapshot: What was committed last; None before the first commit.

    Raises:
        ConfigError: The configuration will not do for this intake, or a watch can never work.
        StateLocked: Another sidecar owns the state, or reads the journal.
        StateIncompatible: The state is of another intake.
        StateError: The state cannot be opened.
        JournalUnavailable: The journal's directory cannot be made or written.
        StreamError: The streams cannot be read, and will not be later either.

    What was committed last is read in the first cycle: with a million sessions that takes seconds.
    """

    def __init__(
        self,
        config: Config,
        intake: Intake,
        state_directory: Path,
        *,
        reloads: Reloads,
        on_incident: Callable[[Incident, int], None],
    ) -> None:
        self.snapshot: Snapshot | None = None
        self._intake = intake
        self._reloads = reloads
        self._on_incident = on_incident
        self._maintained_us = 0
        self._committed: tuple[object, ...] = ()
        self._stale = True
        self._careful = False
        self._is_ours = True
        self._watching = Watching()
        intake.check(config)
        self._state = State(state_directory, config.limits)
        try:
            self._terms = self._terms_of(config)
            self._plan(self._terms)
            self._trail = Trail(self.names, config.limits)
            self._resumption = Resumption(self._state, intake, self._trail)
            self._open()
            self._progress = self._resumption.nothing(self._terms)
            self._drains = self._progress.exporter.drains
        except BaseException:
            intake.close()
            self._state.close()
            raise

    @property
    def names(self) -> Pseudonyms:
        """Digests of ids, as incidents have them."""
        return self._terms.names

    def sight(self) -> Sight:
        """What its state may not say of where the events come from. Any thread may ask."""
        snapshot, intake = self.snapshot, self._intake
        if intake.role != "stream":
            return Sight()
        return Sight(intake.place, is_cut_off=not intake.up or (snapshot is not None and not snapshot.stream.up))

    def close(self) -> None:
        """Judge what waits, unless more of its time may come from elsewhere; commit, and give the locks back."""
        self._watching.close()
        try:
            # What is read of streams and not committed is in no memory but theirs.
            if self._is_ours and (self._intake.is_whole or not self._stale):
                self.cycle(budget_s=float("inf") if self._intake.is_whole else 0.0, final=True)
        finally:
            self._intake.close()
            self._state.close()

    def cycle(self, budget_s: float, *, final: bool = False) -> Snapshot | None:
        """Read what there is by now, judge what can be judged, and commit.

        Args:
            budget_s: After this long what has been read is committed, and the rest is left for later.
            final: This is the last one for now.

        Returns:
            The newest committed snapshot.

        Raises:
            PartitionTaken: Another consumer counts what was counted here; nothing is exposed any more.
            SessionExporterError: Nothing was committed; the next call starts again from the last commit.
        """
        begun_s = time.monotonic()
        try:
            if self._stale:
                self._go_on()
            progress, reader = self._progress, self._intake.reader
            self._take_rows()
            mark = progress.scan()
            while progress.read(begun_s + budget_s) and not reader.passed(mark):
                self._commit()
            if final and self._intake.is_whole:
                progress.ledger.finish(self._intake.now_us())
            progress.exporter.drains.observe(time.monotonic() - begun_s)
            self._commit(final=final)
        except Exception as error:
            self._stale = True
            if isinstance(error, PartitionTaken):
                self._is_ours, self.snapshot = False, None
            # What is not the fault of a disk or a lock lies in an event; the next time they are taken one by one.
            self._careful = not isinstance(error, SURROUNDINGS)
            raise
        self._careful = False
        now_us = self._intake.now_us()
        if now_us - self._maintained_us > MAINTENANCE_EVERY_US and self._state.forget_old(now_us):
            self._maintained_us = now_us
        return self.snapshot

    def reload(self, config: Config) -> None:
        """Go on under another configuration.

        Raises:
            SessionExporterError: The state could not be written or read; the next cycle tries again. Or the
                configuration will not do: then the previous one stays in force.
        """
        self._intake.check(config)
        self.cycle(budget_s=0.0)
        before = self._terms
        self._go_under(self._terms_of(config))
        try:
            self._go_on()
        except StreamRefused:
            self._go_under(before)
            raise

    def _plan(self, terms: Terms) -> None:
        self._watching.plan(terms.config, self._intake.share(terms.config), terms.identity.ids)

    def _go_under(self, terms: Terms) -> None:
        self._plan(terms)
        self._terms = terms
        self._trail.go_under(self.names, terms.config.limits)
        self._state.limits = terms.config.limits
        self._stale = True

    def backlog(self) -> bool:
        """Whether there was more to read than the last cycle had time for."""
        return self._intake.reader.has_more() or self._watching.has_more(self._progress.ledger)

    def _take_rows(self) -> None:
        progress = self._progress
        self._watching.take_in(progress.ledger, progress.exporter, self._intake.now_us(), careful=self._careful)

    def _commit(self, *, final: bool = False) -> None:
        intake, ledger, exporter = self._intake, self._progress.ledger, self._progress.exporter
        intake.count(exporter)
        self._watching.count(exporter)
        exporter.rules = [judge.rules for judge in ledger.judges.values()]
        exporter.memory_mb = memory_mb()
        exporter.committed_at_us = intake.now_us()
        changes = take_changes(ledger)
        alarms.log_untold(self._trail.take_untold())
        changes.trail = self._trail.kept() if final else []
        positions = intake.positions()
        if changes.trail or self._differs(changes, positions):
            totals = self._state.commit(changes, positions, exporter, ledger.numbers, self._terms.identity)
            self._committed = self._compared(changes, positions)
            self._drains = msgspec.structs.replace(exporter.drains, counts=list(exporter.drains.counts))
            kept = msgspec.msgpack.decode(totals, type=LedgerTotals)
        else:
            kept = self.snapshot.ledger if self.snapshot else self._state.totals()
        self._trail.settle()
        self.snapshot = self._snapshot(kept)
        intake.settle(positions, self._terms.identity, ledger.watermark_us)
        self._watching.settle(ledger.watermark_us)
        for incident in changes.incidents:
            self._on_incident(incident, ledger.judges[incident.scope].rules.duplicate_window_us)

    def _snapshot(self, kept: LedgerTotals) -> Snapshot:
        intake, exporter = self._intake, self._progress.exporter
        behind_us = intake.reader.behind_us()
        exposed = expose(
            exporter,
            intake.controls(),
            drains=self._drains,
            born_us=self._terms.identity.born_us,
            journal_bytes=intake.journal_bytes(),
            lag_us=intake.now_us() - behind_us if behind_us is not None else 0,
            reloads=self._reloads,
        )
        figures = intake.stream_figures(exporter)
        watched = self._watching.figures(exporter)
        return Snapshot(kept, exporter.committed_at_us, exposed, role=intake.role, stream=figures, watched=watched)

    def _differs(self, changes: Changes, positions: Positions) -> bool:
        if self.snapshot is None or changes.any_rows() or positions.streams or self._watching.is_unsettled:
            return True
        return self._compared(changes, positions) != self._committed

    def _compared(self, changes: Changes, positions: Positions) -> tuple[object, ...]:
        exporter = self._progress.exporter
        by_name = (dict(exporter.lost), dict(exporter.hook_errors), dict(exporter.counts), dict(exporter.skipped))
        counts = (by_name, list(exporter.pool_waits.counts), exporter.redelivered, len(changes.waiting.reports))
        return positions.journal, counts, exporter.hooks, self._watching.compared(exporter)

    def _go_on(self) -> None:
        """Go on from the last commit; what was read since is read again."""
        self._committed = ()
        self._progress = self._resumption.nothing(self._terms)  # a million sessions are not held twice
        self._progress = self._resumption.go_on(self._terms, careful=self._careful)
        self._drains = self._progress.exporter.drains
        self._watching.go_on(self._progress.exporter)
        self._stale = False
        # A million objects that stay are not looked at again by the garbage collector.
        gc.collect()
        gc.freeze()

    def _open(self) -> None:
        try:
            self._resumption.open(self._terms)
        except StreamUnavailable as error:
            logger.warning("nothing is exposed until the first commit: %s", error)

    def _terms_of(self, config: Config) -> Terms:
        return Terms(config, *open_ids(self._state, config, self._intake))
