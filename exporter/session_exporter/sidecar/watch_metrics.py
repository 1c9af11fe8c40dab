"""What the database says of sessions, and how the reading of it goes: only where the configuration has a `watch`."""

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Final

from session_exporter.sidecar.metric import LabelledValue, Metric, SampleSource
from session_exporter.sidecar.snapshot import Snapshot
from session_exporter.watch.findings import REASONS, WatchFigures


def _unreported(snapshot: Snapshot) -> Iterable[LabelledValue]:
    for name, totals in sorted(snapshot.ledger.scopes.items()):
        if totals.watched_since_us or name in snapshot.watched.scopes:
            yield LabelledValue((name,), totals.unreported, totals.born_us)


def _counted(value: Callable[[Snapshot], Mapping[str, int]]) -> SampleSource:
    """One row for each scope whose rows have been counted."""

    def rows(snapshot: Snapshot) -> Iterable[LabelledValue]:
        return [LabelledValue((scope,), count) for scope, count in sorted(value(snapshot).items())]

    return SampleSource(("scope",), rows)


def _per_watch(value: Callable[[WatchFigures], float], *, is_counter: bool = False) -> SampleSource:
    """One row for each database that is to be read."""

    def rows(snapshot: Snapshot) -> Iterable[LabelledValue]:
        born_us = snapshot.exporter.born_us if is_counter else 0
        return [
            LabelledValue((name,), value(figures), born_us)
            for name, figures in sorted(snapshot.watched.watches.items())
        ]

    return SampleSource(("watch",), rows)


def _errors(snapshot: Snapshot) -> Iterable[LabelledValue]:
    for name, figures in sorted(snapshot.watched.watches.items()):
        for reason in REASONS:
            yield LabelledValue((name, reason), figures.errors.get(reason, 0), snapshot.exporter.born_us)


WATCH_METRICS: Final[tuple[Metric, ...]] = (
    Metric(
        "session_unreported_creates_total",
        "counter",
        "Sessions that were found in the database and that no hook had reported, though hooks report others.",
        SampleSource(("scope",), _unreported),
    ),
    Metric(
        "session_db_active_rows",
        "gauge",
        "Rows in the database of sessions that are active, when they were counted last.",
        _counted(attrgetter("watched.active_rows")),
    ),
    Metric(
        "session_db_duplicate_active_users",
        "gauge",
        "Users with more than one active row in the database, where one is all they may have.",
        _counted(attrgetter("watched.duplicate_users")),
    ),
    Metric(
        "session_exporter_watch_up",
        "gauge",
        "1 when the last look at every table of a database succeeded.",
        _per_watch(attrgetter("up")),
    ),
    Metric(
        "session_exporter_watch_last_success_timestamp_seconds",
        "gauge",
        "When a database was last read without a failure, seconds since the epoch; 0 before.",
        _per_watch(attrgetter("last_success_at_s")),
    ),
    Metric(
        "session_exporter_watch_errors_total",
        "counter",
        "Looks at a database that failed; what they would have found is found later.",
        SampleSource(("watch", "reason"), _errors),
    ),
    Metric(
        "session_exporter_watch_rows_total",
        "counter",
        "What was read of sessions in a database: new rows, changed ones, ends.",
        _per_watch(attrgetter("rows"), is_counter=True),
    ),
    Metric(
        "session_exporter_watch_clock_skew_seconds",
        "gauge",
        "A database's clock minus that of this host.",
        _per_watch(attrgetter("clock_skew_s")),
    ),
)
