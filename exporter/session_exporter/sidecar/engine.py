"""The one consumer: journal in, ledger, state out. Belongs to one thread at a time."""

import gc
import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from session_exporter.config import Config
from session_exporter.core.checkpoint import Changes, restore, take_changes
from session_exporter.core.incidents import Incident
from session_exporter.core.ledger import Ledger
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.totals import LedgerTotals
from session_exporter.core.trail import Trail
from session_exporter.errors import SessionExporterError
from session_exporter.journal import Batch, JournalReader, Mark
from session_exporter.sidecar import alarms
from session_exporter.sidecar.identity import JournalMark, open_ids
from session_exporter.sidecar.positions import Positions
from session_exporter.sidecar.records import ExporterState, Identity
from session_exporter.sidecar.snapshot import Snapshot
from session_exporter.sidecar.state import State
from session_exporter.sidecar.workers import Reloads, absorb, expose, hooks_of, memory_mb

logger = logging.getLogger(__name__)

# A backlog is committed in pieces of about this many events: a second's work, some hundred bytes of memory each.
EVENTS_PER_COMMIT: Final = 250_000
MAINTENANCE_EVERY_US: Final = 60_000_000
# How far the events of one worker may be out of order in a backlog: a thread reads the clock, and is interrupted before
# it appends; and the first event of a worker is older than its file. All else is granted the whole lateness.
DISORDER_US: Final = 20_000

# What goes wrong around the sidecar, not in an event: a disk, a lock, memory.
SURROUNDINGS: Final = (SessionExporterError, OSError, sqlite3.Error, MemoryError)


class Engine:
    """Drains the journal into the ledger and commits what comes of it.

    Args:
        config: The configuration in force.
        journal_directory: Where the workers write.
        state_directory: Where the state is.
        reloads: What to expose of the configuration's reloads.
        on_incident: Told each incident once it is committed, with its scope's duplicate window in microseconds.
        clock_ns: Nanoseconds since the Unix epoch.

    Attributes:
        snapshot: What was committed last; None before the first commit.
        names: Digests of ids, as incidents have them.

    Raises:
        StateLocked: Another sidecar owns the state or reads the journal.
        StateError: The state cannot be opened.
        JournalUnavailable: The journal's directory cannot be made or written.

    What was committed last is read in the first cycle: with a million sessions that takes seconds.
    """

    def __init__(
        self,
        config: Config,
        journal_directory: Path,
        state_directory: Path,
        *,
        reloads: Reloads,
        on_incident: Callable[[Incident, int], None],
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.snapshot: Snapshot | None = None
        self._config = config
        self._journal_directory = journal_directory
        self._state_directory = state_directory
        self._reloads = reloads
        self._on_incident = on_incident
        self._clock_ns = clock_ns
        self._maintained_us = 0
        self._scanned_us = 0
        self._committed: tuple[object, ...] = ()
        self._stale = True
        self._careful = False
        self._mark = JournalMark(journal_directory)
        self._state = State(state_directory, config.limits)
        try:
            self._identity, self.names = self._open_ids(config)
            self._trail = Trail(self.names, config.limits)
            self._reader = self._open_reader()
            self._exporter, self._ledger = ExporterState(), self._empty_ledger()
            self._drains = self._exporter.drains
        except BaseException:
            self._state.close()
            raise

    def close(self) -> None:
        """Judge what waits, commit, and give the locks back."""
        try:
            self.cycle(budget_s=float("inf"), final=True)
        finally:
            self._reader.close()
            self._state.close()

    def cycle(self, budget_s: float, *, final: bool = False) -> Snapshot | None:
        """Read what the workers have committed by now, judge what can be judged, and commit.

        Args:
            budget_s: After this long what has been read is committed, and the rest is left for later.
            final: Nothing more will come for now: judge what waits as well.

        Returns:
            The newest committed snapshot.

        Raises:
            SessionExporterError: Nothing was committed; the next call starts again from the last commit.
        """
        begun_s = time.monotonic()
        try:
            if self._stale:
                self._go_on()
            mark = self._scan()
            while self._read(begun_s + budget_s) and not self._reader.passed(mark):
                self._commit()
            if final:
                self._ledger.finish(self._now_us())
            self._exporter.drains.observe(time.monotonic() - begun_s)
            self._commit(final=final)
        except Exception as error:
            self._stale = True
            # What is not the fault of a disk or a lock lies in an event; the next time they are taken one by one.
            self._careful = not isinstance(error, SURROUNDINGS)
            raise
        self._careful = False
        if self._now_us() - self._maintained_us > MAINTENANCE_EVERY_US:
            now_us = self._now_us()
            if self._state.forget_old(now_us):
                self._maintained_us = now_us
        return self.snapshot

    def reload(self, config: Config) -> None:
        """Go on under another configuration.

        Raises:
            SessionExporterError: The state could not be written or read; the next cycle tries again.
        """
        self.cycle(budget_s=0.0)
        self._identity, self.names = self._open_ids(config)
        self._trail.go_under(self.names, config.limits)
        self._config, self._state.limits = config, config.limits
        self._stale = True
        self._go_on()

    def backlog(self) -> bool:
        """Whether there was more to read than the last cycle had time for."""
        return self._reader.behind_us() is not None

    def _read(self, until_s: float) -> bool:
        """Apply up to `EVENTS_PER_COMMIT` events; False when time is up or nothing is left."""
        ledger, reader = self._ledger, self._reader
        unknown = ledger.totals.events["unknown"]
        count = 0
        more = True
        while more and count < EVENTS_PER_COMMIT:
            batch = reader.read()
            if batch is None:
                more = False
                break
            count += len(batch.events)
            unknown += batch.unknown
            self._apply(batch)
            self._count_unusable(batch.unknown, batch.malformed)
            more = time.monotonic() < until_s
            self._advance()
        ledger.totals.events["unknown"] = unknown
        self._advance()
        return more

    def _apply(self, batch: Batch) -> None:
        if not self._careful:
            self._ledger.apply(batch.events, batch.writer)
            return
        for event in batch.events:
            try:
                self._ledger.apply([event], batch.writer)
            except SURROUNDINGS:
                raise
            except Exception:  # noqa: BLE001 - one event must not stop all others for ever
                self._pass_over(type(event).__name__)

    def _advance(self) -> None:
        waiting = self._ledger.waiting
        while True:
            before = len(waiting)
            try:
                self._ledger.advance(self._watermark_us())
            except Exception as error:
                # What could not be judged waits no longer; when nothing has left, trying again would not end.
                if not self._careful or isinstance(error, SURROUNDINGS) or len(waiting) == before:
                    raise
                self._pass_over("a judgement")
            else:
                return

    def _pass_over(self, what: str) -> None:
        logger.error("passed over %s, which could not be taken in", what, exc_info=True)  # noqa: LOG014 - called in handlers
        self._count_unusable(0, 1)

    def _scan(self) -> Mark:
        # What is written after this moment is not seen, however long the reading takes.
        self._scanned_us = self._now_us()
        if self._ledger.watermark_us > self._scanned_us:
            logger.warning("the clock was ahead by %.1f s", (self._ledger.watermark_us - self._scanned_us) / 1e6)
            self._ledger.set_back(self._scanned_us - self._config.lateness_us)
        return self._reader.mark()

    def _watermark_us(self) -> int:
        punctual_us = self._scanned_us - self._config.lateness_us
        behind_us = self._reader.behind_us()
        return punctual_us if behind_us is None else min(punctual_us, behind_us - DISORDER_US)

    def _count_unusable(self, unknown: int, malformed: int) -> None:
        lost = self._exporter.lost
        for reason, count in (("unknown_kind", unknown), ("malformed", malformed)):
            if count:
                lost[f"{reason}/unknown"] = lost.get(f"{reason}/unknown", 0) + count

    def _commit(self, *, final: bool = False) -> None:
        controls = self._reader.controls()
        exporter = self._exporter
        last_words = absorb(exporter, controls, self._reader.gone(list(exporter.writers)))
        exporter.workers = sum(control.alive for control in controls)
        exporter.rules = [judge.rules for judge in self._ledger.judges.values()]
        exporter.memory_mb = memory_mb()
        exporter.committed_at_us = self._now_us()
        exporter.hooks = [hooks_of(control) for control in controls if control.alive]
        changes = take_changes(self._ledger)
        alarms.log_untold(self._trail.take_untold())
        changes.trail = self._trail.kept() if final else []
        positions = self._reader.positions()
        if changes.trail or self._differs(changes, positions):
            totals = self._state.commit(changes, Positions(positions), exporter, self._ledger.numbers, self._identity)
            self._mark.write(self._identity)
            self._committed = self._compared(changes, positions)
            self._drains = msgspec.structs.replace(exporter.drains, counts=list(exporter.drains.counts))
            kept = msgspec.msgpack.decode(totals, type=LedgerTotals)
        else:
            kept = self.snapshot.ledger if self.snapshot else self._state.totals()
        self._trail.settle()
        behind_us = self._reader.behind_us()
        exposed = expose(
            exporter,
            controls,
            drains=self._drains,
            born_us=self._identity.born_us,
            journal_bytes=self._reader.size_bytes(),
            lag_us=self._now_us() - behind_us if behind_us is not None else 0,
            reloads=self._reloads,
        )
        self.snapshot = Snapshot(kept, exporter.committed_at_us, exposed)
        self._reader.release(positions)
        self._reader.retire(last_words)
        for incident in changes.incidents:
            self._on_incident(incident, self._ledger.judges[incident.scope].rules.duplicate_window_us)

    def _differs(self, changes: Changes, positions: dict[tuple[str, int], int]) -> bool:
        return self.snapshot is None or changes.any_rows() or self._compared(changes, positions) != self._committed

    def _compared(self, changes: Changes, positions: dict[tuple[str, int], int]) -> tuple[object, ...]:
        exporter = self._exporter
        by_name = (dict(exporter.lost), dict(exporter.hook_errors), dict(exporter.counts))
        counts = (by_name, list(exporter.pool_waits.counts), len(changes.waiting.reports))
        return positions, counts, exporter.hooks

    def _go_on(self) -> None:
        """Go on from the last commit; what was read since is read again."""
        self._reader.close()
        self._reader = self._open_reader()
        self._ledger = self._empty_ledger()  # a million sessions are not held twice
        stored = self._state.identity()
        if stored is not None and stored.ids != self._identity.ids:
            self._change_ids()
        self._exporter, self._ledger = self._restored()
        self._trail.go_on(self._state.trail())
        self._trail.careful = self._careful
        self._drains = self._exporter.drains
        if stored is None and self._mark.names_another(self._identity):
            self._seed()
        self._stale = False
        # A million objects that stay are not looked at again by the garbage collector.
        gc.collect()
        gc.freeze()

    def _now_us(self) -> int:
        return self._clock_ns() // 1000

    def _open_reader(self) -> JournalReader:
        reader = JournalReader(self._journal_directory, self._state.positions())
        reader.lock()
        return reader

    def _restored(self) -> tuple[ExporterState, Ledger]:
        state = self._state
        exporter = state.exporter() or ExporterState()
        exporter.journal_directory = str(self._journal_directory)
        self._committed = ()
        ledger = self._empty_ledger()
        restore(ledger, state.owners(), state.sessions(), state.waiting(), state.requests(), db_uses=state.db_uses())
        return exporter, ledger

    def _empty_ledger(self) -> Ledger:
        return Ledger(
            self._config.scopes,
            names=self.names,
            known=self._state,
            limits=self._config.limits,
            lateness_us=self._config.lateness_us,
            born_us=self._now_us(),
            numbers=self._state.numbers(),
            totals=self._state.totals(),
            listener=alarms.reuse_listener(self.names),
            trail=self._trail,
        )

    def _change_ids(self) -> None:
        """Judge what waits under its old ids, so that its counts stay, and then forget all that names somebody."""
        exporter, ledger = self._restored()
        ledger.finish(self._now_us())
        self._state.commit(take_changes(ledger), Positions(self._state.positions()), exporter, ledger.numbers)
        self._state.forget_ids(self._identity)

    def _open_ids(self, config: Config) -> tuple[Identity, Pseudonyms]:
        return open_ids(self._state, config.privacy, now_us=self._now_us())

    def _seed(self) -> None:
        """The state was lost: learn from what is still in the journal without counting what may have been counted."""
        mark = self._scan()
        while not self._reader.passed(mark) and self._read(float("inf")):
            pass
        self._ledger.finish(self._now_us())
        events = sum(self._ledger.totals.events.values())
        self._ledger.forget_counts(self._now_us())
        absorb(self._exporter, self._reader.controls())
        self._exporter.lost, self._exporter.hook_errors = {}, {}
        logger.warning(
            "the state that had read this journal is lost: counters start anew, what is left of it is not counted",
            extra={"journal": str(self._journal_directory), "events": events},
        )
