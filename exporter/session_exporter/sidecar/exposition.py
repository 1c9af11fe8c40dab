"""Every metric: its name, type, help, labels and where its value comes from; one table, and nothing is named elsewhere.

`sidecar/reference.py` writes docs/metrics.md from the same table.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, Literal, NamedTuple, TypeAlias

from session_exporter.core.scopes import CAUSES, END_REASONS, LOSS_REASONS
from session_exporter.core.totals import Exemplar, Histogram, ScopeTotals
from session_exporter.sidecar.snapshot import EVENT_KINDS, HOOK_STATES, LOST, ExporterTotals, Snapshot

__all__ = ["METRICS", "Metric", "Row", "SampleSource", "sample_names"]


class Row(NamedTuple):
    """One label set of a metric.

    Attributes:
        labels: The values, in the order of the metric's labels.
        value: A number, or the whole histogram.
        born_us: When its counting began, microseconds; 0 when that has no meaning.
        exemplar: An event that it counts.
    """

    labels: tuple[str, ...]
    value: float | Histogram
    born_us: int = 0
    exemplar: Exemplar | None = None


Rows: TypeAlias = Callable[[Snapshot], Iterable[Row]]


class SampleSource(NamedTuple):
    """Where a metric comes from: its label names, and what gives all its label sets from the first snapshot on."""

    labels: tuple[str, ...]
    rows: Rows


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: As it is queried: a counter ends in `_total`, an info in `_info`.
        kind: Its type in OpenMetrics.
        help: One sentence.
        source: Its labels and its rows.
        called: What the race remediation document calls it; `""` when it has no such name.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    help: str
    source: SampleSource
    called: str = ""


def _per_scope(value: Callable[[ScopeTotals], float | Histogram], exemplar: str = "") -> SampleSource:
    def rows(snapshot: Snapshot) -> Iterable[Row]:
        for name, totals in sorted(snapshot.ledger.scopes.items()):
            yield Row((name,), value(totals), totals.born_us, totals.exemplars.get(exemplar))

    return SampleSource(("scope",), rows)


def _per_scope_and(
    label: str, words: Sequence[str], counts: Callable[[ScopeTotals], dict[str, int]], exemplar: str = ""
) -> SampleSource:
    def rows(snapshot: Snapshot) -> Iterable[Row]:
        for name, totals in sorted(snapshot.ledger.scopes.items()):
            known = counts(totals)
            for word in words:
                seen = totals.exemplars.get(f"{exemplar}:{word}")
                yield Row((name, word), known.get(word, 0), totals.born_us, seen)

    return SampleSource(("scope", label), rows)


def _one(value: Callable[[Snapshot], float | Histogram]) -> SampleSource:
    return SampleSource((), lambda snapshot: [Row((), value(snapshot), snapshot.exporter.born_us)])


def _build_info(snapshot: Snapshot) -> Iterable[Row]:
    return [Row((snapshot.exporter.version, snapshot.exporter.python_version), 1)]


def _events(snapshot: Snapshot) -> Iterable[Row]:
    return [Row((kind,), snapshot.ledger.events.get(kind, 0), snapshot.exporter.born_us) for kind in EVENT_KINDS]


def _events_lost(snapshot: Snapshot) -> Iterable[Row]:
    exporter = snapshot.exporter
    return [Row(pair, exporter.events_lost.get(pair, 0), exporter.born_us) for pair in LOST]


def _hooks(exporter: ExporterTotals) -> list[str]:
    return sorted({*exporter.hook_errors, *(hook for hook, _ in exporter.hook_workers)})


def _hook_workers(snapshot: Snapshot) -> Iterable[Row]:
    exporter = snapshot.exporter
    pairs = [(hook, state) for hook in _hooks(exporter) for state in HOOK_STATES]
    return [Row(pair, exporter.hook_workers.get(pair, 0)) for pair in pairs]


def _hook_errors(snapshot: Snapshot) -> Iterable[Row]:
    exporter = snapshot.exporter
    return [Row((hook,), exporter.hook_errors.get(hook, 0), exporter.born_us) for hook in _hooks(exporter)]


METRICS: Final[tuple[Metric, ...]] = (
    Metric(
        "session_creates_total",
        "counter",
        "Sessions that came into existence, each counted once however many hooks reported it.",
        _per_scope(attrgetter("creates"), "creates"),
        called="session_creates_total{user_id}",
    ),
    Metric(
        "session_reuses_total",
        "counter",
        "Times that work went on with a session that existed.",
        _per_scope(attrgetter("reuses")),
        called="session_reuses_total{user_id}",
    ),
    Metric(
        "session_adopted_total",
        "counter",
        "Sessions that existed before they were first seen: neither created nor reused.",
        _per_scope(attrgetter("adopted")),
    ),
    Metric(
        "session_lookups_total",
        "counter",
        "Times the application asked for the session of a user.",
        _per_scope(attrgetter("lookups")),
    ),
    Metric(
        "session_redundant_lookups_total",
        "counter",
        "Lookups beyond the first of one request, scope and user: the early warning of a race.",
        _per_scope(attrgetter("redundant_lookups")),
    ),
    Metric(
        "session_rapid_duplicate_creates_total",
        "counter",
        "Creates whose user had another create, or adoption, less than the scope's duplicate window before.",
        _per_scope_and("cause", CAUSES, attrgetter("duplicates"), "duplicates"),
    ),
    Metric(
        "session_context_loss_total",
        "counter",
        "Times the session that a request expected was not the one it got.",
        _per_scope_and("reason", LOSS_REASONS, attrgetter("losses"), "losses"),
        called="context_loss_total{user_id}",
    ),
    Metric(
        "session_ends_total",
        "counter",
        "Sessions that were closed, deleted or expired.",
        _per_scope_and("reason", END_REASONS, attrgetter("ends")),
    ),
    Metric(
        "session_reuse_ratio",
        "gauge",
        "reuses / (creates + reuses) since counting began, NaN before traffic; alerts use the recording rule.",
        _per_scope(attrgetter("reuse_ratio")),
        called="session_reuse_ratio{user_id}",
    ),
    Metric(
        "session_active_sessions",
        "gauge",
        "Sessions that have not ended and were active within the scope's idle timeout.",
        _per_scope(attrgetter("active_sessions")),
    ),
    Metric(
        "session_active_users",
        "gauge",
        "Users who have at least one active session.",
        _per_scope(attrgetter("active_users")),
    ),
    Metric(
        "session_duration_seconds",
        "histogram",
        "How long sessions lived that have ended.",
        _per_scope(attrgetter("durations")),
    ),
    Metric(
        "session_create_interval_seconds",
        "histogram",
        "Time between a create and the previous create of the same user.",
        _per_scope(attrgetter("intervals")),
    ),
    Metric(
        "session_lookup_duration_seconds",
        "histogram",
        "How long lookups took that report it.",
        _per_scope(attrgetter("lookup_durations")),
    ),
    Metric(
        "session_exporter_build_info",
        "info",
        "The running version, and the Python it runs on.",
        SampleSource(("version", "python_version"), _build_info),
    ),
    Metric(
        "session_exporter_workers",
        "gauge",
        "Worker processes of the application whose journal is open.",
        _one(lambda snapshot: snapshot.exporter.workers),
    ),
    Metric(
        "session_exporter_events_total",
        "counter",
        "Events received from hooks.",
        SampleSource(("kind",), _events),
    ),
    Metric(
        "session_exporter_events_lost_total",
        "counter",
        "Events that were recorded and will never be counted: anything above 0 makes the other counters too low.",
        SampleSource(("reason", "kind"), _events_lost),
    ),
    Metric(
        "session_exporter_late_events_total",
        "counter",
        "Events that arrived after the watermark had passed them; counted exactly, judged on arrival.",
        _one(lambda snapshot: snapshot.ledger.late_events),
    ),
    Metric(
        "session_exporter_journal_bytes",
        "gauge",
        "Size of all journal segments.",
        _one(lambda snapshot: snapshot.exporter.journal_bytes),
    ),
    Metric(
        "session_exporter_journal_lag_seconds",
        "gauge",
        "Age of the oldest event in the journal that is not committed yet.",
        _one(lambda snapshot: snapshot.exporter.journal_lag_s),
    ),
    Metric(
        "session_exporter_drain_seconds",
        "histogram",
        "How long it took to read the journal to its end and commit.",
        _one(lambda snapshot: snapshot.exporter.drains),
    ),
    Metric(
        "session_exporter_hook_workers",
        "gauge",
        "Worker processes in which a hook is installed (active), or could not be (inactive).",
        SampleSource(("hook", "state"), _hook_workers),
    ),
    Metric(
        "session_exporter_hook_errors_total",
        "counter",
        "Failures inside a hook, kept away from the application.",
        SampleSource(("hook",), _hook_errors),
    ),
    Metric(
        "session_exporter_tracked_sessions",
        "gauge",
        "Sessions held in the ledger, ended ones that are still remembered included.",
        _one(lambda snapshot: snapshot.ledger.tracked_sessions),
    ),
    Metric(
        "session_exporter_evicted_sessions_total",
        "counter",
        "Sessions that left the ledger because limits.max_tracked_sessions was reached.",
        _one(lambda snapshot: snapshot.ledger.evicted_sessions),
    ),
    Metric(
        "session_exporter_config_last_reload_successful",
        "gauge",
        "1 when the newest attempt to load the configuration succeeded, 0 when the previous one stayed in force.",
        _one(lambda snapshot: snapshot.exporter.config_last_reload_successful),
    ),
    Metric(
        "session_exporter_config_last_reload_success_timestamp_seconds",
        "gauge",
        "When the configuration in force was loaded, seconds since the epoch.",
        _one(lambda snapshot: snapshot.exporter.config_last_reload_success_at_s),
    ),
)

_SUFFIXES: Final = {"histogram": ("_bucket", "_count", "_sum")}


def sample_names() -> frozenset[str]:
    """Name every series a query may ask for: counters, gauges and infos as they are, histograms with their suffixes."""
    return frozenset(f"{metric.name}{suffix}" for metric in METRICS for suffix in _SUFFIXES.get(metric.kind, ("",)))
