"""How an engine goes on from its last commit: with all that the state knows, and nothing else."""

import logging
from typing import Final, NamedTuple

from session_exporter.config import Config
from session_exporter.core.checkpoint import restore, take_changes
from session_exporter.core.ledger import Ledger
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.trail import Trail
from session_exporter.sidecar import alarms
from session_exporter.sidecar.intake import Intake
from session_exporter.sidecar.positions import Positions
from session_exporter.sidecar.progress import Counting
from session_exporter.sidecar.records import ExporterState, Identity
from session_exporter.sidecar.state import State

logger = logging.getLogger(__name__)

_STARTS_ANEW: Final = (
    "the state that had counted these events is lost: counters start anew, what is left of what it knew is not counted"
)


class Terms(NamedTuple):
    """Under which an engine works, until the next reload."""

    config: Config
    identity: Identity
    names: Pseudonyms


class Resumption:
    """Brings an engine to where it had committed.

    Args:
        state: What was committed.
        intake: Where the events come from.
        trail: Remembers events.
    """

    def __init__(self, state: State, intake: Intake, trail: Trail) -> None:
        self._state = state
        self._intake = intake
        self._trail = trail
        self._is_open = False

    def open(self, terms: Terms) -> None:
        """Be ready to go on, which then needs no opening; raises as `Intake.open`."""
        self._intake.open(self._state, terms.config, terms.identity)
        self._is_open = True

    def nothing(self, terms: Terms) -> Counting:
        """Where an engine is that has not read anything, not even its state."""
        return self._progress(terms, self._empty_ledger(terms), ExporterState(), careful=False)

    def go_on(self, terms: Terms, *, careful: bool) -> Counting:
        """Go on from the last commit; what was read since will be read again.

        Args:
            terms: Under which.
            careful: Take events one by one.

        Raises:
            SessionExporterError: The state cannot be read or written, or there is nothing to read from.
        """
        if not self._is_open:
            self.open(terms)
        self._is_open = False
        stored = self._state.identity()
        if stored is not None and stored.ids != terms.identity.ids:
            self._change_ids(terms)
        exporter, ledger = self._restored(terms)
        self._trail.go_on(self._state.trail())
        self._trail.careful = careful
        progress = self._progress(terms, ledger, exporter, careful=careful)
        if stored is None and self._intake.was_read_by_another(terms.identity):
            self._learn(progress)
        return progress

    def _progress(self, terms: Terms, ledger: Ledger, exporter: ExporterState, *, careful: bool) -> Counting:
        return Counting(self._intake, ledger, exporter, lateness_us=terms.config.lateness_us, careful=careful)

    def _restored(self, terms: Terms) -> tuple[ExporterState, Ledger]:
        state = self._state
        ledger = self._empty_ledger(terms)
        restore(ledger, state.owners(), state.sessions(), state.waiting(), state.requests(), db_uses=state.db_uses())
        return state.exporter() or ExporterState(), ledger

    def _empty_ledger(self, terms: Terms) -> Ledger:
        config = terms.config
        return self._intake.ledger(
            config,
            config.scopes,
            names=terms.names,
            known=self._state,
            limits=config.limits,
            lateness_us=config.lateness_us,
            born_us=self._intake.now_us(),
            numbers=self._state.numbers(),
            totals=self._state.totals(),
            listener=alarms.reuse_listener(terms.names),
            trail=self._trail,
        )

    def _change_ids(self, terms: Terms) -> None:
        """Judge what waits under its old ids, so that its counts stay, and then forget all that names somebody."""
        exporter, ledger = self._restored(terms)
        ledger.finish(self._intake.now_us())
        # Which rows have been found is forgotten as well: tables are looked at as for the first time.
        exporter.watches, exporter.census = {}, {}
        self._state.commit(take_changes(ledger), Positions(self._state.positions()), exporter, ledger.numbers)
        self._state.forget_ids(terms.identity)

    def _learn(self, progress: Counting) -> None:
        self._intake.learn(progress)
        events = progress.start_counting(self._intake.now_us())
        logger.warning(
            _STARTS_ANEW,
            extra={"source": self._intake.place, "events": events},
        )
