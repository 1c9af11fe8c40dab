"""The SystemSessionMetrics of a scope, as the ledger's totals have it."""

from datetime import UTC, datetime, timedelta

from session_exporter.core.model import SystemSessionMetrics
from session_exporter.core.totals import DAY_US, ScopeTotals

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def system_metrics(totals: ScopeTotals, *, at_us: int, memory_mb: float) -> SystemSessionMetrics:
    """Put a scope's totals into the canonical model.

    Args:
        totals: Of one scope.
        at_us: Now, microseconds since the epoch; "today" is its UTC day.
        memory_mb: What the process that keeps the ledger uses, MiB.
    """
    today = at_us // DAY_US
    is_today = totals.day == today
    finished = sum(totals.durations.counts)
    return SystemSessionMetrics(
        created_at=_EPOCH + timedelta(microseconds=totals.born_us),
        last_activity_at=_EPOCH + timedelta(microseconds=max(at_us, totals.born_us)),
        total_sessions=totals.creates + totals.adopted,
        active_sessions=totals.active_sessions,
        expired_sessions_cleaned=totals.ends["expired"],
        sessions_created_today=totals.creates_today if is_today else 0,
        sessions_reused_today=totals.reuses_today if is_today else 0,
        average_session_duration_minutes=totals.durations.sum_s / finished / 60 if finished else 0.0,
        memory_usage_mb=memory_mb,
        today=(_EPOCH + timedelta(days=today)).date(),
    )
