"""The canonical metrics: one definition, checked whenever it is set, and an error path that cannot fail."""

import copy
import dataclasses
import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.core import model
from session_exporter.core.model import (
    BaseSessionMetrics,
    DatabaseSessionMetrics,
    SessionState,
    SystemSessionMetrics,
    create_database_session_metrics,
    create_system_session_metrics,
)

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 11, 21, tzinfo=UTC)
SECOND = timedelta(seconds=1)
KINDS = [BaseSessionMetrics, DatabaseSessionMetrics, SystemSessionMetrics]
DATABASE_COUNTS = ["error_count", "query_count", "transaction_count", "total_time_ms"]
SYSTEM_COUNTS = [
    *("error_count", "total_sessions", "active_sessions", "expired_sessions_cleaned", "sessions_created_today"),
    *("sessions_reused_today", "average_session_duration_minutes", "memory_usage_mb"),
]
COUNTS = [(DatabaseSessionMetrics, name) for name in DATABASE_COUNTS] + [
    (SystemSessionMetrics, name) for name in SYSTEM_COUNTS
]
any_kind = pytest.mark.parametrize("kind", KINDS)


def strictly_as_json(metrics: BaseSessionMetrics) -> Any:
    shown = metrics.to_dict()
    text = json.dumps(shown, allow_nan=False)
    assert json.loads(msgspec.json.encode(shown)) == json.loads(text) == shown
    return shown


def test_the_old_class_names_are_the_same_objects() -> None:
    assert model.SessionMetrics is model.DatabaseMetrics is DatabaseSessionMetrics
    assert model.SystemMetrics is SystemSessionMetrics


def test_the_states_are_texts() -> None:
    words = ["created", "active", "idle", "committed", "rolled_back", "closing", "closed", "error"]
    assert [state.value for state in SessionState] == words
    assert all(isinstance(state, str) for state in SessionState)


def test_ids_are_given_by_position_in_their_order_or_by_name() -> None:
    by_position = DatabaseSessionMetrics("s1", "r1", "u1", created_at=NOON)
    assert (by_position.session_id, by_position.request_id, by_position.user_id) == ("s1", "r1", "u1")
    assert by_position == DatabaseSessionMetrics(user_id="u1", request_id="r1", session_id="s1", created_at=NOON)
    assert (DatabaseSessionMetrics().session_id, DatabaseSessionMetrics().user_id) == ("", "")


def test_only_the_ids_are_positional() -> None:
    with pytest.raises(TypeError, match="positional"):
        DatabaseSessionMetrics("s1", "r1", "u1", SessionState.ACTIVE)  # type: ignore[misc]  # which is refused


def test_the_factories_make_what_the_constructors_make() -> None:
    made = create_database_session_metrics("s1", "r1", user_id="u1")
    assert (type(made), made.session_id, made.request_id, made.user_id) == (DatabaseSessionMetrics, "s1", "r1", "u1")
    assert type(create_system_session_metrics()) is SystemSessionMetrics


def test_ids_become_text() -> None:
    id_ = UUID("7d444840-9dc0-41d1-b245-5ffdce74fad2")
    metrics = DatabaseSessionMetrics(id_, 17, None)  # type: ignore[arg-type]  # what applications have at hand
    assert (metrics.session_id, metrics.request_id, metrics.user_id) == (str(id_), "17", "")
    metrics.user_id = "x" * 1_000
    assert len(metrics.user_id) < 256
    with pytest.raises(TypeError, match="user_id: an id must be text"):
        metrics.user_id = 1.5  # type: ignore[assignment]  # which is refused


@any_kind
def test_without_a_time_it_is_now_in_utc(kind: type[BaseSessionMetrics]) -> None:
    before = datetime.now(tz=UTC)
    metrics = kind()
    assert before <= metrics.created_at <= datetime.now(tz=UTC)
    assert metrics.created_at.tzinfo is UTC
    assert metrics.last_activity_at == metrics.created_at


@any_kind
def test_times_are_kept_in_utc(kind: type[BaseSessionMetrics]) -> None:
    metrics = kind(created_at=NOON.astimezone(timezone(timedelta(hours=5, minutes=30))))
    assert metrics.created_at == NOON
    assert metrics.created_at.isoformat() == "2026-11-20T12:00:00+00:00"


@any_kind
@pytest.mark.parametrize("name", ["created_at", "last_activity_at"])
def test_a_naive_datetime_is_refused_by_name(kind: type[BaseSessionMetrics], name: str) -> None:
    naive = NOON.replace(tzinfo=None)
    with pytest.raises(ValueError, match=f"{name} must have a time zone, got the naive 2026-11-20T12:00:00"):
        kind(**{name: naive})
    metrics = kind(created_at=NOON)
    with pytest.raises(ValueError, match=f"{name} must have a time zone"):
        setattr(metrics, name, naive)
    assert metrics.created_at == metrics.last_activity_at == NOON


NOW_TAKERS: list[tuple[type[BaseSessionMetrics], str, tuple[Any, ...]]] = [
    (DatabaseSessionMetrics, "mark_activity", ()),
    (DatabaseSessionMetrics, "get_age_seconds", ()),
    (DatabaseSessionMetrics, "get_inactivity_seconds", ()),
    (DatabaseSessionMetrics, "increment_query_count", ()),
    (DatabaseSessionMetrics, "increment_transaction_count", ()),
    (DatabaseSessionMetrics, "close_session", ()),
    (DatabaseSessionMetrics, "close", ()),
    (DatabaseSessionMetrics, "to_dict", ()),
    (SystemSessionMetrics, "increment_total_sessions", ()),
    (SystemSessionMetrics, "increment_active_sessions", ()),
    (SystemSessionMetrics, "decrement_active_sessions", ()),
    (SystemSessionMetrics, "record_session_cleanup", (2,)),
    (SystemSessionMetrics, "record_session_reuse", ()),
    (SystemSessionMetrics, "update_memory_usage", (1.0,)),
    (SystemSessionMetrics, "update_average_duration", (1.0,)),
    (SystemSessionMetrics, "to_dict", ()),
]


@pytest.mark.parametrize(("kind", "method", "arguments"), NOW_TAKERS)
def test_a_naive_now_is_refused_and_changes_nothing(
    kind: type[BaseSessionMetrics], method: str, arguments: tuple[Any, ...]
) -> None:
    metrics = kind(created_at=NOON)
    before = copy.copy(metrics)
    with pytest.raises(ValueError, match="now must have a time zone"):
        getattr(metrics, method)(*arguments, now=NOON.replace(tzinfo=None))
    assert metrics == before


@pytest.mark.parametrize("value", [datetime.min.replace(tzinfo=timezone(SECOND)), "2026-11-20", 0, NOON.date()])
def test_what_is_no_time_in_utc_is_refused(value: object) -> None:
    with pytest.raises((ValueError, TypeError), match="created_at"):
        BaseSessionMetrics(created_at=value)  # type: ignore[arg-type]  # which is refused


def test_closed_at_may_be_missing_and_may_not_be_naive() -> None:
    assert DatabaseSessionMetrics(closed_at=None).closed_at is None
    with pytest.raises(ValueError, match="closed_at must have a time zone"):
        DatabaseSessionMetrics(closed_at=NOON.replace(tzinfo=None))


@pytest.mark.parametrize(("kind", "name"), COUNTS)
def test_a_negative_count_is_refused_by_name(kind: type[BaseSessionMetrics], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be .*0 or more, got -1"):
        kind(**{name: -1})
    metrics = kind()
    before = getattr(metrics, name)
    with pytest.raises(ValueError, match=f"^{name} must be .*0 or more, got -1"):
        setattr(metrics, name, -1)
    assert getattr(metrics, name) == before


@pytest.mark.parametrize(("kind", "name"), COUNTS)
@pytest.mark.parametrize("value", [True, "1", float("nan"), float("inf"), [1]], ids=repr)
def test_what_is_no_count_is_refused_by_name(kind: type[BaseSessionMetrics], name: str, value: object) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^{name} must be"):
        kind(**{name: value})


def test_a_number_too_large_for_a_float_is_refused() -> None:
    with pytest.raises(ValueError, match="memory_usage_mb must be finite"):
        SystemSessionMetrics(memory_usage_mb=10**400)


def test_a_state_may_be_given_by_its_value_and_must_exist() -> None:
    assert DatabaseSessionMetrics(state="active").state is SessionState.ACTIVE  # type: ignore[arg-type]  # as old code
    with pytest.raises(ValueError, match=r"state must be one of created, active, .*, got 'gone'"):
        DatabaseSessionMetrics(state="gone")  # type: ignore[arg-type]  # which is refused


@any_kind
def test_the_old_field_names_answer_silently_and_cannot_be_set(kind: type[BaseSessionMetrics]) -> None:
    metrics = kind(created_at=NOON, error_count=3)
    assert (metrics.last_activity, metrics.errors) == (NOON, 3)
    for name in ("last_activity", "errors"):
        with pytest.raises(AttributeError):
            setattr(metrics, name, getattr(metrics, name))
        with pytest.raises(AttributeError):
            delattr(metrics, name)


def test_operations_count_is_an_old_name_of_the_database_kind_only() -> None:
    metrics = DatabaseSessionMetrics(query_count=2, transaction_count=1)
    assert metrics.operations_count == 2
    with pytest.raises(AttributeError):
        metrics.operations_count = 3  # type: ignore[misc]  # which is refused
    assert not hasattr(SystemSessionMetrics(), "operations_count")


@any_kind
def test_the_old_names_are_no_arguments(kind: type[BaseSessionMetrics]) -> None:
    with pytest.raises(TypeError, match="last_activity"):
        kind(last_activity=NOON)  # type: ignore[call-arg]  # which is refused


@any_kind
def test_activity_never_goes_back(kind: type[BaseSessionMetrics]) -> None:
    metrics = kind(created_at=NOON)
    metrics.mark_activity(now=NOON + 5 * SECOND)
    metrics.mark_activity(now=NOON + 3 * SECOND)
    assert metrics.last_activity_at == NOON + 5 * SECOND


@any_kind
def test_ages_are_seconds_and_never_negative(kind: type[BaseSessionMetrics]) -> None:
    metrics = kind(created_at=NOON, last_activity_at=NOON + 4 * SECOND)
    later = NOON + 10 * SECOND
    assert (metrics.get_age_seconds(now=later), metrics.get_inactivity_seconds(now=later)) == (10.0, 6.0)
    assert metrics.get_age_seconds(now=NOON - SECOND) == metrics.get_inactivity_seconds(now=NOON) == 0.0
    assert kind().get_age_seconds() < 60


def test_an_error_puts_a_database_session_into_the_state_error() -> None:
    metrics = DatabaseSessionMetrics(state=SessionState.ACTIVE)
    metrics.record_error("boom")
    assert metrics.state is SessionState.ERROR


def test_queries_and_transactions_are_counted_and_are_activity() -> None:
    metrics = DatabaseSessionMetrics(created_at=NOON)
    metrics.increment_query_count(now=NOON + SECOND)
    metrics.increment_query_count(now=NOON + 2 * SECOND)
    metrics.increment_transaction_count(now=NOON + 3 * SECOND)
    assert (metrics.query_count, metrics.transaction_count) == (2, 1)
    assert metrics.last_activity_at == NOON + 3 * SECOND


@pytest.mark.parametrize("method", ["close", "close_session"])
def test_closing_takes_the_time_since_creation(method: str) -> None:
    metrics = DatabaseSessionMetrics(created_at=NOON)
    getattr(metrics, method)(now=NOON + 1.5 * SECOND)
    assert (metrics.state, metrics.closed_at, metrics.total_time_ms) == (
        SessionState.CLOSED,
        NOON + 1.5 * SECOND,
        1500.0,
    )


def test_closing_takes_the_time_that_is_given() -> None:
    metrics = DatabaseSessionMetrics(created_at=NOON)
    metrics.close_session(12.5, now=NOON + SECOND)
    assert (metrics.total_time_ms, metrics.closed_at) == (12.5, NOON + SECOND)


def test_closing_again_changes_nothing() -> None:
    metrics = DatabaseSessionMetrics(created_at=NOON)
    metrics.close_session(12.5, now=NOON + SECOND)
    before = copy.copy(metrics)
    metrics.close(now=NOON + 9 * SECOND)
    assert metrics == before


def test_a_refused_closing_changes_nothing() -> None:
    metrics = DatabaseSessionMetrics(created_at=NOON)
    with pytest.raises(ValueError, match="total_time_ms must be finite and 0 or more"):
        metrics.close_session(-1.0, now=NOON)
    assert metrics == DatabaseSessionMetrics(created_at=NOON)


def test_closing_before_creation_takes_no_time() -> None:
    metrics = DatabaseSessionMetrics(created_at=NOON)
    metrics.close(now=NOON - SECOND)
    assert metrics.total_time_ms == 0.0


def test_a_database_session_is_shown_with_all_its_fields() -> None:
    metrics = DatabaseSessionMetrics("s1", "r1", "u1", created_at=NOON)
    metrics.increment_query_count(now=NOON + SECOND)
    metrics.close(now=NOON + 2 * SECOND)
    assert metrics.to_dict(now=NOON + 3 * SECOND) == {
        "session_id": "s1",
        "request_id": "r1",
        "user_id": "u1",
        "state": "closed",
        "created_at": "2026-11-20T12:00:00+00:00",
        "last_activity_at": "2026-11-20T12:00:01+00:00",
        "last_activity": "2026-11-20T12:00:01+00:00",
        "closed_at": "2026-11-20T12:00:02+00:00",
        "query_count": 1,
        "transaction_count": 0,
        "error_count": 0,
        "last_error": None,
        "total_time_ms": 2000.0,
        "age_seconds": 3.0,
        "inactivity_seconds": 2.0,
    }


def test_every_field_is_shown() -> None:
    for kind in KINDS:
        shown = strictly_as_json(kind())
        names = {field.name for field in dataclasses.fields(kind)} - {"today"}
        assert shown.keys() == names | {"last_activity", "age_seconds", "inactivity_seconds"}


@given(st.text(), st.one_of(st.text(), st.binary(), st.integers(), st.uuids()), st.floats(0, allow_infinity=False))
def test_whatever_it_holds_it_is_json(error: str, id_: Any, amount: float) -> None:
    database = DatabaseSessionMetrics(id_, id_, id_, last_error=error, total_time_ms=amount)
    system = SystemSessionMetrics(memory_usage_mb=amount, average_session_duration_minutes=amount, last_error=error)
    strictly_as_json(database)
    strictly_as_json(system)


COPIES: list[Callable[[Any], Any]] = [
    copy.copy,
    copy.deepcopy,
    dataclasses.replace,
    lambda metrics: pickle.loads(pickle.dumps(metrics)),
]


@any_kind
@pytest.mark.parametrize("made", COPIES, ids=["copy", "deepcopy", "replace", "pickle"])
def test_copies_are_equal_separate_and_checked_like_the_original(
    kind: type[BaseSessionMetrics], made: Callable[[Any], Any]
) -> None:
    metrics = kind(created_at=NOON)
    metrics.record_error("boom", now=MIDNIGHT)
    twin = made(metrics)
    assert twin == metrics
    twin.record_error("again", now=MIDNIGHT)
    assert (metrics.error_count, twin.error_count) == (1, 2)
    with pytest.raises(ValueError, match="error_count"):
        twin.error_count = -1


@any_kind
def test_a_record_is_inspected_as_any_dataclass(kind: type[BaseSessionMetrics]) -> None:
    metrics = kind(created_at=NOON)
    assert dataclasses.asdict(metrics)["created_at"] == NOON
    assert kind(**dataclasses.asdict(metrics)) == metrics
    assert repr(metrics).startswith(f"{kind.__name__}(created_at=")
