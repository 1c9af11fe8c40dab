"""The databases that an engine's sidecar reads itself: what is found in them goes into its ledger and its commits.

SQLAlchemy is imported when there is something to read, and not before.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from session_exporter.config import Config
from session_exporter.core.ledger import Ledger
from session_exporter.core.rows import take_rows
from session_exporter.core.shares import Share
from session_exporter.sidecar.census import active_rows, duplicate_users, forget_tables, take_census
from session_exporter.sidecar.progress import SURROUNDINGS
from session_exporter.sidecar.records import ExporterState
from session_exporter.sidecar.snapshot import UNKNOWN_KIND, WatchedTables
from session_exporter.watch.findings import Findings, place_of

if TYPE_CHECKING:
    from session_exporter.watch.watcher import Watcher

logger = logging.getLogger(__name__)

# A backlog is taken in no faster than a cycle, which a scrape may wait for, can judge it later: about half of what one
# core can. And while so many reports wait for their time, all of which every commit stores, no more are taken.
ROWS_PER_S: Final = 5_000
WAITING_MAX: Final = 100_000
# Who owns it counts the rows that are active, once for a whole fleet.
CENSUS_PARTITION: Final = 0
# How far was read without finding anything is stored so often; what lies between is read again after a kill.
_STEP_US: Final = 60_000_000
_PASSED_OVER: Final = f"malformed/{UNKNOWN_KIND}"


class _Plan(NamedTuple):
    """Who reads under one configuration, and how ids are written there."""

    config: Config
    ids: str
    watchers: Mapping[str, "Watcher"]


class Watching:
    """The watches of one engine; for its thread alone.

    Args:
        environ: For the variables in URLs.

    Attributes:
        is_unsettled: Whether something was taken in since the last commit.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self.is_unsettled = False
        self._is_careful = False
        self._environ = environ
        self._now = self._next = _Plan(Config(), "", {})
        self._leaving: list[Watcher] = []
        self._room = float(ROWS_PER_S)
        self._room_at_s = time.monotonic()
        self._errors: dict[str, Mapping[str, int]] = {}
        self._uncommitted_errors: Counter[str] = Counter()

    def plan(self, config: Config, share: Share | None, ids: str) -> None:
        """Be ready to read under a configuration from the next `go_on` on; until then nothing changes.

        Args:
            config: The configuration.
            share: Of a fleet; None for all there is.
            ids: How ids are written; what was known under others is of no use.

        Raises:
            ConfigError: A watch can never work.
        """
        counts = share is None or CENSUS_PARTITION in share.owned
        watchers = {}
        for number, settings in enumerate(config.watch):
            from session_exporter.watch.watcher import Watcher  # noqa: PLC0415 - SQLAlchemy is an extra

            watchers[settings.name] = Watcher(
                settings,
                config.watched_tables(settings),
                config.scopes,
                retention_us=config.limits.known_ids_retention_us,
                key=f"watch[{number}].url",
                counts=counts,
                environ=self._environ,
            )
        self._next = _Plan(config, ids, {name: self._running(made, name, ids) for name, made in watchers.items()})

    def go_on(self, exporter: ExporterState) -> None:
        """Read on from a commit: what was taken in after it is in no ledger any more, and is read again."""
        before, self._now = self._now, self._next
        kept = [each for each in before.watchers.values() if each in self._now.watchers.values()]
        # Nobody waits for them: they may be busy with a database that hangs.
        leaving = [each for each in before.watchers.values() if each not in kept]
        for watcher in leaving:
            watcher.stop_soon()
        self._leaving += leaving
        for name, watcher in self._now.watchers.items():
            if watcher not in kept:
                self._errors[name] = {}
                watcher.start(exporter.watches)
            elif self.is_unsettled:
                watcher.rewind(exporter.watches)
        forget_tables(exporter, self._places())
        _add(exporter.watch_errors, self._uncommitted_errors)
        self.is_unsettled = False

    def take_in(self, ledger: Ledger, exporter: ExporterState, now_us: int, *, careful: bool) -> None:
        """Take in what has been found, as much as one cycle can bear.

        Args:
            ledger: Where to.
            exporter: To be committed together with the ledger.
            now_us: The clock by which the ledger judges.
            careful: Take rows one by one, and pass over one that trips over a defect.
        """
        watchers = list(self._now.watchers.values())
        self._make_room()
        while self._room > 0 and watchers and len(ledger.waiting) < WAITING_MAX:
            watcher = watchers.pop(0)
            findings = watcher.take()
            if findings is None:
                continue
            watchers.append(watcher)
            self._room -= len(findings.rows)
            self._take(findings, ledger, exporter, now_us, careful=careful)

    def has_more(self, ledger: Ledger) -> bool:
        """Whether there is more to take in at once."""
        has_room = self._room > 0 and len(ledger.waiting) < WAITING_MAX
        return has_room and any(each.has_more() for each in self._now.watchers.values())

    def count(self, exporter: ExporterState) -> None:
        """Add the failures since the last time; before each commit."""
        # Who has been told to stop, and hangs, is cut off when it is looked at.
        self._leaving = [each for each in self._leaving if each.is_running() and each.figures()]
        for name, watcher in self._now.watchers.items():
            before, now = self._errors[name], watcher.figures().errors
            growth = Counter({f"{name}/{reason}": count - before.get(reason, 0) for reason, count in now.items()})
            self._errors[name] = now
            self._uncommitted_errors += growth
            _add(exporter.watch_errors, growth)

    def compared(self, exporter: ExporterState) -> object:
        """What is to be committed though nothing was taken in, when it changes."""
        steps = {
            place: (each.since_us, each.is_known, each.created_us // _STEP_US, each.updated_us // _STEP_US)
            for place, each in exporter.watches.items()
        }
        return steps, dict(exporter.watch_errors)

    def settle(self, judged_us: int) -> None:
        """Note that everything was committed, and up to when all was judged that hooks told of."""
        if self.is_unsettled:
            self.is_unsettled = self._is_careful = False
        self._uncommitted_errors.clear()
        for watcher in self._now.watchers.values():
            watcher.judged(judged_us)

    def figures(self, exporter: ExporterState) -> WatchedTables:
        """What is to be shown; of counters, what was committed."""
        shown = {}
        for name, watcher in self._now.watchers.items():
            of_this = {place: count for place, count in exporter.watch_errors.items() if place.startswith(f"{name}/")}
            errors = {place.rpartition("/")[2]: count for place, count in of_this.items()}
            shown[name] = watcher.figures()._replace(errors=errors, rows=exporter.watch_rows.get(name, 0))
        counted = exporter.census.values()
        scopes = frozenset(table.scope for _, table in self._tables())
        return WatchedTables(shown, scopes, active_rows(counted), duplicate_users(counted))

    def close(self) -> None:
        """Stop reading; what was not taken is found again after the next start."""
        watchers = [*self._leaving, *self._now.watchers.values()]
        for watcher in watchers:
            watcher.stop_soon()
        for watcher in watchers:
            watcher.stop()
        self._now = self._next = self._now._replace(watchers={})

    def _make_room(self) -> None:
        now_s = time.monotonic()
        self._room = min(self._room + (now_s - self._room_at_s) * ROWS_PER_S, ROWS_PER_S)
        self._room_at_s = now_s

    def _running(self, made: "Watcher", name: str, ids: str) -> "Watcher":
        """The one that does the same already, else the one that was made."""
        running = self._now.watchers.get(name)
        return running if running is not None and running.terms == made.terms and ids == self._now.ids else made

    def _take(self, findings: Findings, ledger: Ledger, exporter: ExporterState, now_us: int, *, careful: bool) -> None:
        settings = {each.name: each for each in self._now.config.watch}[findings.watch]
        times = {"since_us": findings.position.since_us, "due_us": _due_us(findings, settings.grace_us, now_us)}
        if findings.rows or findings.census is not None:
            self.is_unsettled = True
        if careful or self._is_careful:
            exporter.lost[_PASSED_OVER] = exporter.lost.get(_PASSED_OVER, 0) + _take_carefully(findings, ledger, times)
        else:
            # What trips over a defect is read again; from then on until a commit, rows are taken one by one.
            self._is_careful = True
            take_rows(ledger, findings.scope, findings.rows, **times)
            self._is_careful = False
        take_census(exporter, ledger, findings)
        exporter.watches[place_of(findings.watch, findings.table, findings.scope)] = findings.position
        exporter.watch_rows[findings.watch] = exporter.watch_rows.get(findings.watch, 0) + len(findings.rows)

    def _tables(self) -> list[tuple[str, Any]]:
        config = self._now.config
        return [(settings.name, table) for settings in config.watch for table in config.watched_tables(settings)]

    def _places(self) -> set[str]:
        return {place_of(name, table.table, table.scope) for name, table in self._tables()}


def _due_us(findings: Findings, grace_us: int, now_us: int) -> int:
    """When rows are judged: all of one look together, so that they are in the order in which they happened.

    Half of the grace remains, however long the look goes on, for the hook of a row that was made during it.
    """
    seen_us = now_us - max(time.time_ns() // 1000 - findings.seen_us, 0)
    return seen_us + max(grace_us - findings.look_us, grace_us // 2)


def _take_carefully(findings: Findings, ledger: Ledger, times: Mapping[str, int]) -> int:
    """Take rows one by one; returns how many were passed over."""
    passed_over = 0
    for row in findings.rows:
        try:
            take_rows(ledger, findings.scope, [row], **times)
        except SURROUNDINGS:
            raise
        except Exception:
            passed_over += 1
            logger.exception("passed over a row of %s, which could not be taken in", findings.table)
    return passed_over


def _add(counts: dict[str, int], growth: Mapping[str, int]) -> None:
    for name, count in growth.items():
        counts[name] = counts.get(name, 0) + count
