"""The figures of a whole system: never below zero, and of today only what is of today."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.core.model import SystemSessionMetrics

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 11, 21, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def test_created_sessions_count_in_total_and_today() -> None:
    metrics = SystemSessionMetrics()
    metrics.increment_total_sessions()
    assert (metrics.total_sessions, metrics.sessions_created_today, metrics.active_sessions) == (1, 1, 0)


def test_active_sessions_are_never_below_zero() -> None:
    metrics = SystemSessionMetrics()
    metrics.increment_active_sessions()
    metrics.decrement_active_sessions()
    metrics.decrement_active_sessions()
    assert metrics.active_sessions == 0


def test_cleaned_sessions_add_up_and_are_never_negative() -> None:
    metrics = SystemSessionMetrics()
    metrics.record_session_cleanup()
    metrics.record_session_cleanup(4)
    metrics.record_session_cleanup(n=0)
    assert metrics.expired_sessions_cleaned == 5
    with pytest.raises(ValueError, match="n must be 0 or more, got -1"):
        metrics.record_session_cleanup(-1)
    assert metrics.expired_sessions_cleaned == 5


def test_memory_and_duration_are_set_and_never_negative() -> None:
    metrics = SystemSessionMetrics()
    metrics.update_memory_usage(128)
    metrics.update_average_duration(2.5)
    assert (metrics.memory_usage_mb, metrics.average_session_duration_minutes) == (128.0, 2.5)
    with pytest.raises(ValueError, match="memory_usage_mb must be finite and 0 or more"):
        metrics.update_memory_usage(-1)
    with pytest.raises(ValueError, match="average_session_duration_minutes must be finite and 0 or more"):
        metrics.update_average_duration(float("nan"))


def test_today_begins_again_at_midnight_utc() -> None:
    metrics = SystemSessionMetrics(created_at=NOON)
    metrics.increment_total_sessions(now=MIDNIGHT - SECOND)
    metrics.record_session_reuse(now=MIDNIGHT - SECOND)
    assert (metrics.sessions_created_today, metrics.sessions_reused_today) == (1, 1)
    metrics.increment_total_sessions(now=MIDNIGHT)
    assert (metrics.sessions_created_today, metrics.sessions_reused_today, metrics.total_sessions) == (1, 0, 2)


def test_today_is_the_day_in_utc_and_not_where_the_clock_hangs() -> None:
    metrics = SystemSessionMetrics(created_at=NOON)
    auckland = timezone(timedelta(hours=13))
    metrics.record_session_reuse(now=NOON)
    metrics.record_session_reuse(now=(NOON + 2 * SECOND).astimezone(auckland))  # already the 21st over there
    assert metrics.sessions_reused_today == 2


def test_what_is_told_late_about_yesterday_is_not_of_today() -> None:
    metrics = SystemSessionMetrics(created_at=NOON)
    metrics.increment_total_sessions(now=MIDNIGHT)
    metrics.increment_total_sessions(now=MIDNIGHT - SECOND)
    metrics.record_session_reuse(now=MIDNIGHT - SECOND)
    assert (metrics.total_sessions, metrics.sessions_created_today, metrics.sessions_reused_today) == (2, 1, 0)


def test_any_activity_begins_the_day() -> None:
    metrics = SystemSessionMetrics(created_at=NOON)
    metrics.record_session_reuse(now=NOON)
    metrics.record_error("boom", now=MIDNIGHT)
    assert metrics.sessions_reused_today == 0


def test_yesterdays_counts_are_not_shown_as_todays() -> None:
    metrics = SystemSessionMetrics(created_at=NOON)
    metrics.increment_total_sessions(now=NOON)
    metrics.record_session_reuse(now=NOON)
    evening, morning = metrics.to_dict(now=MIDNIGHT - SECOND), metrics.to_dict(now=MIDNIGHT)
    assert (evening["sessions_created_today"], evening["sessions_reused_today"]) == (1, 1)
    assert (morning["sessions_created_today"], morning["sessions_reused_today"], morning["total_sessions"]) == (0, 0, 1)
    assert metrics.sessions_created_today == 1


def test_counts_of_today_that_are_given_belong_to_the_last_activity() -> None:
    restored = SystemSessionMetrics(created_at=NOON, last_activity_at=MIDNIGHT, sessions_created_today=5)
    restored.increment_total_sessions(now=MIDNIGHT + SECOND)
    assert restored.sessions_created_today == 6
    assert restored.today == date(2026, 11, 21)


def test_today_is_a_date_and_no_time() -> None:
    with pytest.raises(TypeError, match="today must be a date"):
        SystemSessionMetrics(today=NOON)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4 * 86_400)), max_size=40))
def test_today_agrees_with_a_count_over_the_whole_history(history: list[tuple[bool, int]]) -> None:
    metrics = SystemSessionMetrics(created_at=NOON)
    creates_by_day: dict[date, int] = {}
    latest = None
    for is_create, offset_s in history:
        at = NOON + offset_s * SECOND
        latest = max(latest or at.date(), at.date())
        if is_create:
            metrics.increment_total_sessions(now=at)
            # What comes after its day is over is known in total only.
            creates_by_day[at.date()] = creates_by_day.get(at.date(), 0) + (at.date() == latest)
        else:
            metrics.mark_activity(now=at)
    assert metrics.sessions_created_today == (creates_by_day.get(latest, 0) if latest else 0)
    assert metrics.total_sessions == sum(is_create for is_create, _ in history)
