"""What the ledger makes of the events of one test."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from session_exporter.config import Config
from session_exporter.core.documents import incident_document
from session_exporter.core.events import RESULT, LookedUp, Observed
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.scopes import ScopeRules
from session_exporter.core.totals import ScopeTotals
from session_exporter.inprocess import InProcessLedger
from session_exporter.pytest_checks.known import KnownSessions
from session_exporter.pytest_checks.recording import Piece

Counts: TypeAlias = dict[str, int]


@dataclass(frozen=True, slots=True)
class RepeatedLookups:
    """A request that asked for the session of one user more than once.

    Attributes:
        scope: Of the session.
        user: Whose session.
        request: The request's id, or its trace id.
        sites: Of each lookup, in order: the nearest frames of the application, innermost first.
    """

    scope: str
    user: str
    request: str
    sites: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a test's sessions have come to; ids are shown as they are.

    Attributes:
        counts: Of all scopes together: `creates`, `reuses`, `adopted`, `lookups`, `redundant_lookups`, `rotations`,
            `stale_expected`, `ends`, `rapid_duplicate_creates`, `context_losses`, `isolation_violations`,
            `create_conflicts`, `create_failures`.
        scopes: The same of each scope that has counted something.
        incidents: In order of time, each as `/api/v1/incidents` tells it.
        repeated: The requests with redundant lookups.
        lost: Events that could not be recorded; when there are any, all else may be too little.
    """

    counts: Counts
    scopes: Mapping[str, Counts]
    incidents: list[dict[str, Any]]
    repeated: list[RepeatedLookups]
    lost: int = 0

    @property
    def reuse_ratio(self) -> float | None:
        """The share of reuses: reuses / (creates + reuses), from 0 to 1; None while there was neither."""
        operations = self.counts["creates"] + self.counts["reuses"]
        return self.counts["reuses"] / operations if operations else None


def judge(pieces: Iterable[Piece], config: Config | None, known: KnownSessions, *, lost: int = 0) -> Judgement:
    """Judge a test as if nothing would follow.

    Args:
        pieces: The events of the test.
        config: Scopes, lateness and limits; None for the defaults, with whatever scopes there are.
        known: Sessions that are older than the test.
        lost: How many events are missing.
    """
    pieces = list(pieces)
    if config is None:
        config = Config(scopes={event.scope: ScopeRules(event.scope) for events, _ in pieces for event in events})
    names = Pseudonyms(bytes(16), show_ids=True)
    numbers: dict[str, int] = {}
    ledger = InProcessLedger(
        config.scopes,
        names,
        known=known.of(numbers),
        numbers=numbers,
        limits=config.limits,
        lateness_us=config.lateness_us,
        with_story=True,
    )
    for events, writer in pieces:
        ledger.take(events, writer)
    incidents = ledger.judge()
    scopes = {name: counts for name, totals in ledger.totals.items() if any((counts := _counts(totals)).values())}
    return Judgement(
        counts={name: sum(counts[name] for counts in scopes.values()) for name in _counts(ScopeTotals())},
        scopes=scopes,
        incidents=[
            incident_document(each.id, each.kind, each.at_us, each.scope, each.detail)
            for each in sorted(incidents, key=lambda incident: incident.at_us)
        ],
        repeated=_repeated(pieces),
        lost=lost,
    )


def _counts(totals: ScopeTotals) -> Counts:
    return {
        "creates": totals.creates,
        "reuses": totals.reuses,
        "adopted": totals.adopted,
        "lookups": totals.lookups,
        "redundant_lookups": totals.redundant_lookups,
        "rotations": totals.rotations,
        "stale_expected": totals.stale_expected,
        "ends": sum(totals.ends.values()),
        "rapid_duplicate_creates": totals.duplicate_creates,
        "context_losses": sum(totals.losses.values()),
        "isolation_violations": sum(totals.violations.values()),
        "create_conflicts": totals.conflicts,
        "create_failures": sum(totals.failures.values()),
    }


def _repeated(pieces: Iterable[Piece]) -> list[RepeatedLookups]:
    """The lookups of each request, scope and user of which there are several."""
    found: dict[tuple[str, str, str, str], list[tuple[str, ...]]] = {}
    for events, writer in pieces:
        for event in events:
            is_lookup = isinstance(event, LookedUp) or (isinstance(event, Observed) and event.origin == RESULT)
            request = event.request or (f"{event.trace.hex()}@{writer.id}" if event.trace else "")
            if request and is_lookup:
                found.setdefault((event.scope, event.user, event.key, request), []).append(getattr(event, "sites", ()))
    return [
        RepeatedLookups(scope, f"{user}/{key}" if key else user, request, tuple(sites))
        for (scope, user, key, request), sites in found.items()
        if len(sites) > 1
    ]
