"""What a fleet must have counted: by the oracle, circle by circle; the rest by adding up, or by one ledger for all.

Keys are a sample's name and its labels, in the order of their names; what is 0 is not there.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeAlias

import continuity_oracle
from histories import SHARED, UNDECLARED, WORKERS, Circle, Pace, Told
from ledgers import Memory

from session_exporter.core import events as wire
from session_exporter.core.checkpoint import take_changes
from session_exporter.core.ids import generations_of
from session_exporter.core.ledger import Ledger
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.scopes import OTHER_SCOPE, ScopeRules
from session_exporter.core.totals import Histogram, ScopeTotals

Key: TypeAlias = tuple[str, ...]
Counts: TypeAlias = Counter[Key]

# A year after the first event, all have expired that can.
YEAR_US: Final = 365 * 86_400 * 1_000_000
COMMIT_EVERY: Final = 10_000
VIOLATIONS: Final = "session_isolation_violations_total"
EVENTS: Final = "session_exporter_events_total"
# What is told of a session that two users use is counted with both; only that they do is known exactly.
KNOWN_OF_SHARED: Final = frozenset(
    (VIOLATIONS, "session_lookups_total", "session_redundant_lookups_total", "session_create_conflicts_total")
)
# By metric, the attribute of a scope's totals; and the label of those that have a further one.
_COUNTED: Final = {
    "session_creates_total": ("creates", ""),
    "session_reuses_total": ("reuses", ""),
    "session_adopted_total": ("adopted", ""),
    "session_lookups_total": ("lookups", ""),
    "session_redundant_lookups_total": ("redundant_lookups", ""),
    "session_rotations_total": ("rotations", ""),
    "session_stale_expected_total": ("stale_expected", ""),
    "session_create_conflicts_total": ("conflicts", ""),
    "session_id_mismatches_total": ("id_mismatches", ""),
    "session_active_sessions": ("active_sessions", ""),
    "session_active_users": ("active_users", ""),
    "session_rapid_duplicate_creates_total": ("duplicates", "cause"),
    "session_context_loss_total": ("losses", "reason"),
    "session_create_failures_total": ("failures", "reason"),
    VIOLATIONS: ("violations", "kind"),
    "session_ends_total": ("ends", "reason"),
}
_HISTOGRAMS: Final = {
    "session_duration_seconds": "durations",
    "session_create_interval_seconds": "intervals",
    "session_lookup_duration_seconds": "lookup_durations",
}
METRICS: Final = frozenset(
    (
        *_COUNTED,
        *(f"{name}{suffix}" for name in _HISTOGRAMS for suffix in ("_count", "_bucket")),
        "session_ids_checked_total",
        "session_db_sessions_closed_total",
        "session_db_queries_total",
        EVENTS,
    )
)


def key_of(name: str, labels: Mapping[str, str]) -> Key:
    return (name, *(f"{label}={value}" for label, value in sorted(labels.items())))


def by_oracle(circles: Iterable[Circle], pace: Pace) -> Counts:
    """What the oracle finds, and what is counted without any judgement."""
    counts: Counts = Counter()
    for circle in circles:
        for key, value in _judged(circle, pace):
            counts[key] += value
    _add_up(counts, [told for circle in circles for told in circle.told], pace)
    return +counts


def scope_of(name: str) -> str:
    """The scope that something of a scope of this name is counted under."""
    return OTHER_SCOPE if name == UNDECLARED else name


def _judged(circle: Circle, pace: Pace) -> Iterator[tuple[Key, int]]:
    rules = pace.rules()[scope_of(circle.scope)]
    reports = [(event, WORKERS[worker]) for event, worker in circle.told]
    if reports and rules.idle_timeout_us < pace.settles_us:
        # What is open expires long before.
        reports.append((wire.Conflicted(reports[-1][0].at_us + YEAR_US, circle.scope), WORKERS[0]))
    found = continuity_oracle.judge(
        reports,
        window_us=rules.duplicate_window_us,
        idle_us=rules.idle_timeout_us,
        lateness_us=pace.lateness_us,
        sessions_per_user=rules.sessions_per_user,
        end_reasons=rules.end_reasons,
    )
    if circle.scope == SHARED:
        yield key_of(VIOLATIONS, {"scope": rules.name, "kind": "session_of_two_users"}), found.violations
        return
    single = {
        "session_creates_total": found.creates,
        "session_adopted_total": found.adopted,
        "session_reuses_total": found.reuses,
        "session_rotations_total": found.rotations,
        "session_stale_expected_total": found.stale,
    }
    yield from ((key_of(name, {"scope": rules.name}), value) for name, value in single.items())
    for name, label, values in (
        ("session_ends_total", "reason", found.ends),
        ("session_rapid_duplicate_creates_total", "cause", found.duplicates),
        ("session_context_loss_total", "reason", found.losses),
    ):
        yield from ((key_of(name, {"scope": rules.name, label: word}), value) for word, value in values.items())


class _Sums:
    """What is counted as it is told."""

    def __init__(self, counts: Counts, rules: Mapping[str, ScopeRules]) -> None:
        self._counts, self._rules = counts, rules
        self._seen: set[tuple[object, ...]] = set()

    def take(self, event: wire.Event) -> None:
        scope = scope_of(event.scope)
        self._add(EVENTS, kind=wire.KINDS[type(event)])
        if isinstance(event, wire.LookedUp) or (isinstance(event, wire.Observed) and event.origin == wire.RESULT):
            self._add("session_lookups_total", scope=scope)
            looking = ("looked", event.request, scope, event.user, event.key)
            if event.request and not self._is_new(looking):
                self._add("session_redundant_lookups_total", scope=scope)
        elif isinstance(event, wire.Conflicted):
            self._add("session_create_conflicts_total", scope=scope)
        elif isinstance(event, wire.ContextLost):
            self._add("session_context_loss_total", scope=scope, reason="reported")
        elif isinstance(event, wire.CreateFailed):
            self._add("session_create_failures_total", scope=scope, reason=event.reason)
        elif isinstance(event, wire.Violated):
            self._add(VIOLATIONS, scope=scope, kind=event.kind)
        elif isinstance(event, wire.DbSession):
            self._add("session_db_sessions_closed_total", outcome=event.outcome)
            self._add("session_db_queries_total", event.queries)
        elif isinstance(event, wire.Identified):
            self._mismatch(event, scope)
        self._check(event, scope)

    def _mismatch(self, event: wire.Identified, scope: str) -> None:
        is_one = len(generations_of(event.thread, event.run, event.request)) <= 1
        if not is_one and self._is_new(("mismatch", scope, event.request or (event.thread, event.run))):
            self._add("session_id_mismatches_total", scope=scope)

    def _check(self, event: wire.Event, scope: str) -> None:
        if isinstance(event, wire.DbSession):
            return
        for kind, declared in self._rules[scope].id_formats.items():
            id_ = getattr(event, kind, "")
            if kind == "session" and isinstance(event, wire.Unmet | wire.Violated):
                continue
            if id_ and self._is_new(("checked", scope, kind, id_)):
                self._add("session_ids_checked_total", scope=scope, id_kind=kind, format=declared.classify(id_))

    def _is_new(self, what: tuple[object, ...]) -> bool:
        is_new = what not in self._seen
        self._seen.add(what)
        return is_new

    def _add(self, name: str, amount: int = 1, /, **labels: str) -> None:
        self._counts[key_of(name, labels)] += amount


def _add_up(counts: Counts, told: Iterable[Told], pace: Pace) -> None:
    sums = _Sums(counts, pace.rules())
    for event, _ in told:
        sums.take(event)


def by_one_ledger(circles: Iterable[Circle], pace: Pace) -> Counts:
    """What a single ledger finds that hears of everything in order."""
    memory = Memory()
    rules = {name: each for name, each in pace.rules().items() if name != OTHER_SCOPE}
    ledger = Ledger(rules, names=Pseudonyms(b"k" * 32), known=memory, lateness_us=pace.lateness_us)
    told = sorted((told for circle in circles for told in circle.told), key=lambda each: each.event.at_us)
    last_us = told[-1].event.at_us
    for number, (event, worker) in enumerate(told):
        ledger.apply([event], WORKERS[worker])
        if number % 100 == 0:
            ledger.advance(event.at_us - pace.lateness_us)
        if number % COMMIT_EVERY == 0:
            _commit(ledger, memory)
    ledger.finish()
    ledger.advance(last_us + pace.settles_us)
    _commit(ledger, memory)
    return ledger_counts(ledger)


def _commit(ledger: Ledger, memory: Memory) -> None:
    for scope, session, known in take_changes(ledger).left_sessions:
        memory.known[scope, session] = known
    ledger.forget_changes()


def ledger_counts(ledger: Ledger) -> Counts:
    """What a ledger has counted, as it is exposed."""
    counts: Counts = Counter()
    for scope, totals in ledger.totals.scopes.items():
        for key, value in _of_scope(scope, totals):
            counts[key] += value
    for outcome, closed in ledger.totals.db.closed.items():
        counts[key_of("session_db_sessions_closed_total", {"outcome": outcome})] += closed
    counts[key_of("session_db_queries_total", {})] += ledger.totals.db.queries
    for kind, events in ledger.totals.events.items():
        counts[key_of(EVENTS, {"kind": kind})] += events
    return +counts


def _of_scope(scope: str, totals: ScopeTotals) -> Iterator[tuple[Key, int]]:
    for name, (attribute, label) in _COUNTED.items():
        value = getattr(totals, attribute)
        for word, number in value.items() if label else [("", value)]:
            yield key_of(name, {"scope": scope, **({label: word} if label else {})}), number
    for name, attribute in _HISTOGRAMS.items():
        yield from _of_histogram(name, scope, getattr(totals, attribute))
    for pair, number in totals.ids_checked.items():
        kind, form = pair.split("/")
        yield key_of("session_ids_checked_total", {"scope": scope, "id_kind": kind, "format": form}), number


def _of_histogram(name: str, scope: str, histogram: Histogram) -> Iterator[tuple[Key, int]]:
    cumulative = 0
    for bound_s, number in zip((*histogram.bounds_s, float("inf")), histogram.counts, strict=True):
        cumulative += number
        bound = "+Inf" if bound_s == float("inf") else str(bound_s)
        yield key_of(f"{name}_bucket", {"scope": scope, "le": bound}), cumulative
    yield key_of(f"{name}_count", {"scope": scope}), cumulative


def differences(counted: Counts, expected: Counts, names: Iterable[str]) -> list[str]:
    """Sentences about what differs in these metrics; of the scope in which users share sessions, what is exact."""
    wanted = set(names)
    keys = sorted(key for key in {*counted, *expected} if key[0] in wanted and not _is_vague(key))
    return [
        f"{key[0]}{{{', '.join(key[1:])}}}: {counted[key]} counted, expected {expected[key]}"
        for key in keys
        if counted[key] != expected[key]
    ]


def _is_vague(key: Key) -> bool:
    return f"scope={SHARED}" in key and key[0] not in KNOWN_OF_SHARED
