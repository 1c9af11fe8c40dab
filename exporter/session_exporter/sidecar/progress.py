"""What was read since an engine last went on from a commit, and what the ledger has made of it."""

import logging
import sqlite3
import time
from typing import TYPE_CHECKING, Any, Final

from session_exporter.core.events import TIME_MAX_US
from session_exporter.core.ledger import Ledger
from session_exporter.errors import SessionExporterError
from session_exporter.sidecar.records import ExporterState
from session_exporter.sidecar.snapshot import UNKNOWN_KIND

if TYPE_CHECKING:
    from session_exporter.sidecar.intake import Intake, Piece

logger = logging.getLogger(__name__)

# A backlog is committed in pieces of about this many events: a second's work, some hundred bytes of memory each.
EVENTS_PER_COMMIT: Final = 250_000
# How far the events of one worker may be out of order in a backlog: a thread reads the clock, and is interrupted before
# it appends; and the first event of a worker is older than its file. All else is granted the whole lateness.
DISORDER_US: Final = 20_000

# What goes wrong around the sidecar, not in an event: a disk, a lock, memory.
SURROUNDINGS: Final = (SessionExporterError, OSError, sqlite3.Error, MemoryError)


class Counting:
    """Takes events from an intake into a ledger.

    Args:
        intake: Open.
        ledger: As of the last commit.
        exporter: The exporter's own counts, likewise.
        lateness_us: How long an event may be under way.
        careful: Take events one by one, and pass over one that trips over a defect.

    Attributes:
        ledger: As given.
        exporter: As given.
        until_us: Nothing is judged that is of this time or later.
    """

    def __init__(
        self, intake: "Intake", ledger: Ledger, exporter: ExporterState, *, lateness_us: int, careful: bool
    ) -> None:
        self.ledger = ledger
        self.exporter = exporter
        self._intake = intake
        self._reader = intake.reader
        self._lateness_us = lateness_us
        self._careful = careful
        self._scanned_us = 0
        self.until_us = TIME_MAX_US

    def scan(self) -> Any:
        """See what there is at this moment, for `passed` of the reader."""
        ledger = self.ledger
        # What is written after this moment is not seen, however long the reading takes.
        self._scanned_us = self._intake.now_us() if self._intake.shows_time else ledger.watermark_us
        if ledger.watermark_us > self._scanned_us:
            logger.warning("the clock was ahead by %.1f s", (ledger.watermark_us - self._scanned_us) / 1e6)
            ledger.set_back(self._scanned_us - self._lateness_us)
        return self._reader.mark()

    def read(self, until_s: float) -> bool:
        """Take in up to `EVENTS_PER_COMMIT` events; False when time is up or nothing is left.

        Args:
            until_s: Of `time.monotonic`.
        """
        ledger, reader = self.ledger, self._reader
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
            self.take(batch)
            more = time.monotonic() < until_s
            self._advance(self._watermark_us())
        ledger.totals.events["unknown"] = unknown
        self._advance(self._watermark_us())
        return more

    def take(self, batch: "Piece") -> None:
        """Take in the events of one batch."""
        if not self._careful:
            self.ledger.apply(batch.events, batch.writer)  # type: ignore[arg-type]  # the ledger is made for them
        else:
            self._take_carefully(batch)
        for reason, count in self._intake.missing(batch).items():
            self._lose(reason, count)

    def judge(self, until_us: int) -> None:
        """Judge what waits for any time before."""
        self._advance(until_us)

    def start_counting(self, now_us: int) -> int:
        """Take what was read for known, and count anew from now on; returns how many events were read."""
        events = sum(self.ledger.totals.events.values())
        self.ledger.forget_counts(now_us)
        self.exporter.lost, self.exporter.hook_errors = {}, {}
        self.exporter.states_lost += 1
        return events

    def _take_carefully(self, batch: "Piece") -> None:
        for event in batch.events:
            try:
                self.ledger.apply([event], batch.writer)  # type: ignore[list-item]  # as above
            except SURROUNDINGS:
                raise
            except Exception:  # noqa: BLE001 - one event must not stop all others for ever
                self._pass_over(type(event).__name__)

    def _advance(self, watermark_us: int) -> None:
        waiting = self.ledger.waiting
        while True:
            before = len(waiting)
            try:
                self.ledger.advance(watermark_us)
            except Exception as error:
                # What could not be judged waits no longer; when nothing has left, trying again would not end.
                if not self._careful or isinstance(error, SURROUNDINGS) or len(waiting) == before:
                    raise
                self._pass_over("a judgement")
            else:
                return

    def _pass_over(self, what: str) -> None:
        logger.error("passed over %s, which could not be taken in", what, exc_info=True)  # noqa: LOG014 - called in handlers
        self._lose("malformed", 1)

    def _watermark_us(self) -> int:
        punctual_us = self._scanned_us - self._lateness_us
        behind_us = self._reader.behind_us()
        return min(punctual_us if behind_us is None else min(punctual_us, behind_us - DISORDER_US), self.until_us)

    def _lose(self, reason: str, count: int) -> None:
        if count:
            name, lost = f"{reason}/{UNKNOWN_KIND}", self.exporter.lost
            lost[name] = lost.get(name, 0) + count
