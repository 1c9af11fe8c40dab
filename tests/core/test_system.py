"""A scope's counts as the canonical SystemSessionMetrics."""

from datetime import UTC, datetime

from ledgers import Book, at

from session_exporter.core.model import SystemSessionMetrics
from session_exporter.core.system import system_metrics
from session_exporter.core.totals import DAY_US, ScopeTotals

MIDNIGHT_US = 20_000 * DAY_US


def metrics(totals: ScopeTotals, at_us: int) -> SystemSessionMetrics:
    return system_metrics(totals, at_us=at_us, memory_mb=42.5)


def test_the_counts_of_a_scope_are_put_into_the_model() -> None:
    book = Book()
    book.created(0, "s1")
    book.observed(0, "s2", "bob")
    book.reused(60, "s1")
    book.ended(180, "s1")
    found = metrics(book.judged(), at(200))
    assert (found.total_sessions, found.active_sessions, found.expired_sessions_cleaned) == (2, 1, 0)
    assert (found.sessions_created_today, found.sessions_reused_today) == (1, 1)
    assert (found.average_session_duration_minutes, found.memory_usage_mb) == (3.0, 42.5)


def test_a_scope_without_traffic_has_zeros() -> None:
    found = metrics(ScopeTotals(), MIDNIGHT_US)
    assert (found.total_sessions, found.active_sessions, found.average_session_duration_minutes) == (0, 0, 0.0)


def test_expired_sessions_were_cleaned_up() -> None:
    book = Book()
    book.created(0, "s1")
    book.advance(4000)
    assert metrics(book.committed(), at(4000)).expired_sessions_cleaned == 1


def test_today_ends_with_the_utc_day() -> None:
    totals = ScopeTotals()
    totals.count_minute(MIDNIGHT_US + DAY_US - 1, reuses=3, creates=2)
    late = metrics(totals, MIDNIGHT_US + DAY_US - 1)
    assert (late.sessions_created_today, late.sessions_reused_today) == (2, 3)
    next_day = metrics(totals, MIDNIGHT_US + DAY_US)
    assert (next_day.sessions_created_today, next_day.sessions_reused_today) == (0, 0)
    assert next_day.to_dict(now=datetime(2024, 10, 5, tzinfo=UTC))["sessions_created_today"] == 0


def test_times_are_aware_and_in_utc() -> None:
    totals = ScopeTotals(born_us=MIDNIGHT_US)
    found = metrics(totals, MIDNIGHT_US + 60_000_000)
    assert found.created_at == datetime(2024, 10, 4, tzinfo=UTC)
    assert found.last_activity_at == datetime(2024, 10, 4, 0, 1, tzinfo=UTC)


def test_a_clock_that_stands_before_the_birth_of_the_state_breaks_nothing() -> None:
    found = metrics(ScopeTotals(born_us=MIDNIGHT_US), MIDNIGHT_US - 1)
    assert found.last_activity_at == found.created_at
