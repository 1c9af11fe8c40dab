"""What the exporter says of itself, wherever it runs."""

from collections.abc import Iterable
from typing import Final

from session_exporter.sidecar.metric import EVERYBODY, POD, LabelledValue, Metric, SampleSource, one, per_word
from session_exporter.sidecar.snapshot import EVENT_KINDS, HOOK_STATES, LOST, ExporterTotals, Snapshot


def _build_info(snapshot: Snapshot) -> Iterable[LabelledValue]:
    return [LabelledValue((snapshot.exporter.version, snapshot.exporter.python_version), 1)]


def _events_lost(snapshot: Snapshot) -> Iterable[LabelledValue]:
    exporter = snapshot.exporter
    return [LabelledValue(pair, exporter.events_lost.get(pair, 0), exporter.born_us) for pair in LOST[snapshot.role]]


def _hooks(exporter: ExporterTotals) -> list[str]:
    return sorted({*exporter.hook_errors, *(hook for hook, _ in exporter.hook_workers)})


def _hook_workers(snapshot: Snapshot) -> Iterable[LabelledValue]:
    exporter = snapshot.exporter
    pairs = [(hook, state) for hook in _hooks(exporter) for state in HOOK_STATES]
    return [LabelledValue(pair, exporter.hook_workers.get(pair, 0)) for pair in pairs]


def _hook_errors(snapshot: Snapshot) -> Iterable[LabelledValue]:
    exporter = snapshot.exporter
    return [LabelledValue((hook,), exporter.hook_errors.get(hook, 0), exporter.born_us) for hook in _hooks(exporter)]


EXPORTER_METRICS: Final[tuple[Metric, ...]] = (
    Metric(
        "session_exporter_build_info",
        "info",
        "The running version, and the Python it runs on.",
        SampleSource(("version", "python_version"), _build_info),
        shown_by=EVERYBODY,
    ),
    Metric(
        "session_exporter_workers",
        "gauge",
        "Worker processes of the application whose journal is open.",
        one(lambda snapshot: snapshot.exporter.workers),
        shown_by=POD,
    ),
    Metric(
        "session_exporter_events_total",
        "counter",
        "Events received from hooks.",
        per_word("kind", EVENT_KINDS, lambda snapshot: snapshot.ledger.events),
    ),
    Metric(
        "session_exporter_events_lost_total",
        "counter",
        "Events that were recorded and will never be counted: anything above 0 makes the other counters too low.",
        SampleSource(("reason", "kind"), _events_lost),
        shown_by=EVERYBODY,
    ),
    Metric(
        "session_exporter_late_events_total",
        "counter",
        "Events that arrived after the watermark had passed them; counted exactly, judged on arrival.",
        one(lambda snapshot: snapshot.ledger.late_events),
    ),
    Metric(
        "session_exporter_journal_bytes",
        "gauge",
        "Size of all journal segments.",
        one(lambda snapshot: snapshot.exporter.journal_bytes),
        shown_by=POD,
    ),
    Metric(
        "session_exporter_journal_lag_seconds",
        "gauge",
        "Age of the oldest event in the journal that is not committed yet.",
        one(lambda snapshot: snapshot.exporter.journal_lag_s),
        shown_by=POD,
    ),
    Metric(
        "session_exporter_drain_seconds",
        "histogram",
        "How long it took to read the journal, or the streams, to the end and commit.",
        one(lambda snapshot: snapshot.exporter.drains),
    ),
    Metric(
        "session_exporter_hook_workers",
        "gauge",
        "Worker processes in which a hook is installed (active), or could not be (inactive).",
        SampleSource(("hook", "state"), _hook_workers),
        shown_by=POD,
    ),
    Metric(
        "session_exporter_hook_errors_total",
        "counter",
        "Failures inside a hook, kept away from the application.",
        SampleSource(("hook",), _hook_errors),
        shown_by=POD,
    ),
    Metric(
        "session_exporter_tracked_sessions",
        "gauge",
        "Sessions held in the ledger, ended ones that are still remembered included.",
        one(lambda snapshot: snapshot.ledger.tracked_sessions),
    ),
    Metric(
        "session_exporter_evicted_sessions_total",
        "counter",
        "Sessions that left the ledger because limits.max_tracked_sessions was reached.",
        one(lambda snapshot: snapshot.ledger.evicted_sessions),
    ),
    Metric(
        "session_exporter_state_lost_total",
        "counter",
        "Times the state was lost: counting began anew, without what had been counted before.",
        one(lambda snapshot: snapshot.exporter.states_lost),
    ),
    Metric(
        "session_exporter_config_last_reload_successful",
        "gauge",
        "1 when the newest attempt to load the configuration succeeded, 0 when the previous one stayed in force.",
        one(lambda snapshot: snapshot.exporter.config_last_reload_successful),
        shown_by=EVERYBODY,
    ),
    Metric(
        "session_exporter_config_last_reload_success_timestamp_seconds",
        "gauge",
        "When the configuration in force was loaded, seconds since the epoch.",
        one(lambda snapshot: snapshot.exporter.config_last_reload_success_at_s),
        shown_by=EVERYBODY,
    ),
)
