"""The canonical session metrics: the only definition of these classes in the project.

Every field is checked whenever it is set, by the constructor or later: times are aware and kept in UTC, counts are
never negative, ids are texts, errors are short printable lines. So whatever an object holds can be written as JSON.

Nothing here locks: an object belongs to the thread that counts with it. Methods that need the time take it as `now`
and read the system's clock when it is not given.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum
from typing import Any, ClassVar, Final, TypeAlias

from session_exporter.core import fields
from session_exporter.core.context import RequestContext
from session_exporter.core.idtext import shown

__all__ = [
    "BaseSessionMetrics",
    "DatabaseMetrics",
    "DatabaseSessionMetrics",
    "RequestContext",
    "SessionMetrics",
    "SessionState",
    "SystemMetrics",
    "SystemSessionMetrics",
    "create_database_session_metrics",
    "create_system_session_metrics",
]

_Check: TypeAlias = Callable[[str, Any], object]


class SessionState(str, Enum):  # noqa: UP042 - str() of a StrEnum's member differs from what logs hold so far
    """Where a database session is in its life."""

    CREATED = "created"
    ACTIVE = "active"
    IDLE = "idle"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"
    CLOSING = "closing"
    CLOSED = "closed"
    ERROR = "error"


def _state(name: str, value: object) -> SessionState:
    try:
        return SessionState(value)
    except ValueError as error:
        expected = ", ".join(state.value for state in SessionState)
        raise ValueError(f"{name} must be one of {expected}, got {shown(value)}") from error


_BASE_CHECKS: Final[Mapping[str, _Check]] = {
    "created_at": fields.utc_time,
    "last_activity_at": fields.utc_time,
    "error_count": fields.count_of,
    "last_error": fields.optional_error,
}


@dataclass(kw_only=True)
class BaseSessionMetrics:
    """What all session metrics share.

    Attributes:
        created_at: Aware, kept in UTC; now when not given.
        last_activity_at: Aware, kept in UTC; `created_at` when not given.
        error_count: From 0.
        last_error: The last error in one line of at most 500 characters; None before the first.

    Raises:
        ValueError: A datetime is naive or a count negative; also when a field is set later.
        TypeError: A value has the wrong type.
    """

    created_at: datetime = field(default_factory=fields.utc_now)
    last_activity_at: datetime = None  # type: ignore[assignment]  # setting None stores created_at
    error_count: int = 0
    last_error: str | None = None

    _checks: ClassVar[Mapping[str, _Check]] = _BASE_CHECKS

    def __setattr__(self, name: str, value: object) -> None:
        if name == "last_activity_at" and value is None:
            value = self.created_at
        check = self._checks.get(name)
        super().__setattr__(name, check(name, value) if check else value)

    @property
    def last_activity(self) -> datetime:
        """The old name of `last_activity_at`; read-only."""
        return self.last_activity_at

    @property
    def errors(self) -> int:
        """The old name of `error_count`; read-only."""
        return self.error_count

    def mark_activity(self, *, now: datetime | None = None) -> None:
        """Note that something happened; `last_activity_at` never goes back, however late one is told."""
        self.last_activity_at = max(self.last_activity_at, _at(now))

    def record_error(self, error: object, *, now: datetime | None = None) -> None:
        """Count an error and keep its class and text; takes any object, also one whose text cannot be had."""
        self.error_count += 1
        self.last_error = fields.error_text(error)
        self.mark_activity(now=now)

    def get_age_seconds(self, *, now: datetime | None = None) -> float:
        """Seconds since `created_at`, never negative."""
        return max(0.0, (_at(now) - self.created_at).total_seconds())

    def get_inactivity_seconds(self, *, now: datetime | None = None) -> float:
        """Seconds since `last_activity_at`, never negative."""
        return max(0.0, (_at(now) - self.last_activity_at).total_seconds())

    def to_dict(self, *, now: datetime | None = None) -> dict[str, Any]:
        """All fields, ready for JSON: times in ISO 8601, ages in seconds, `last_activity` beside `last_activity_at`."""
        at = _at(now)
        last_activity_at = self.last_activity_at.isoformat()
        return {
            "created_at": self.created_at.isoformat(),
            "last_activity_at": last_activity_at,
            "last_activity": last_activity_at,
            "error_count": self.error_count,
            "last_error": self.last_error,
            "age_seconds": self.get_age_seconds(now=at),
            "inactivity_seconds": self.get_inactivity_seconds(now=at),
        }


@dataclass
class DatabaseSessionMetrics(BaseSessionMetrics):
    """One use of a database session, from its first transaction until it is closed.

    Attributes:
        session_id: Text, as `request_id` and `user_id`; ints and UUIDs become text, None becomes `""`.
        state: A `SessionState` or its value.
        query_count: From 0.
        transaction_count: Root transactions, from 0.
        total_time_ms: From creation to close, milliseconds; None until then.
        closed_at: Aware, kept in UTC; None until then.
    """

    session_id: str = ""
    request_id: str = ""
    user_id: str = ""
    state: SessionState = field(default=SessionState.CREATED, kw_only=True)
    query_count: int = field(default=0, kw_only=True)
    transaction_count: int = field(default=0, kw_only=True)
    total_time_ms: float | None = field(default=None, kw_only=True)
    closed_at: datetime | None = field(default=None, kw_only=True)

    _checks: ClassVar[Mapping[str, _Check]] = {
        **_BASE_CHECKS,
        **dict.fromkeys(("session_id", "request_id", "user_id"), fields.id_of),
        **dict.fromkeys(("query_count", "transaction_count"), fields.count_of),
        "state": _state,
        "total_time_ms": fields.optional_amount,
        "closed_at": fields.optional_time,
    }

    @property
    def operations_count(self) -> int:
        """The old name of `query_count`; read-only."""
        return self.query_count

    def increment_query_count(self, *, now: datetime | None = None) -> None:
        """Count a query."""
        self.mark_activity(now=now)
        self.query_count += 1

    def increment_transaction_count(self, *, now: datetime | None = None) -> None:
        """Count a root transaction."""
        self.mark_activity(now=now)
        self.transaction_count += 1

    def record_error(self, error: object, *, now: datetime | None = None) -> None:
        """Count an error as every session does, and take the state `error`."""
        self.state = SessionState.ERROR
        super().record_error(error, now=now)

    def close_session(self, total_time_ms: float | None = None, *, now: datetime | None = None) -> None:
        """Take the state `closed`.

        Closing again changes neither `closed_at` nor, unless another one is given, the total time.

        Args:
            total_time_ms: How long the session was used; the time since `created_at` when not given.
            now: When it was closed.

        Raises:
            ValueError: The time is negative or not finite; nothing has changed then.
        """
        at = _at(now) if self.closed_at is None else self.closed_at
        if total_time_ms is not None or self.total_time_ms is None:
            self.total_time_ms = self.get_age_seconds(now=at) * 1000 if total_time_ms is None else total_time_ms
        self.closed_at = at
        self.state = SessionState.CLOSED

    def close(self, *, now: datetime | None = None) -> None:
        """Do what `close_session()` does."""
        self.close_session(now=now)

    def to_dict(self, *, now: datetime | None = None) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return super().to_dict(now=now) | {
            "session_id": self.session_id,
            "request_id": self.request_id,
            "user_id": self.user_id,
            "state": self.state.value,
            "query_count": self.query_count,
            "transaction_count": self.transaction_count,
            "total_time_ms": self.total_time_ms,
            "closed_at": None if self.closed_at is None else self.closed_at.isoformat(),
        }


@dataclass(kw_only=True)
class SystemSessionMetrics(BaseSessionMetrics):
    """All sessions of one system, or of one scope of it.

    Attributes:
        total_sessions: Sessions that came into existence, from 0.
        active_sessions: From 0.
        expired_sessions_cleaned: From 0.
        sessions_created_today: Since the UTC day began; what is counted later for an earlier day is not among them.
        sessions_reused_today: The same.
        average_session_duration_minutes: From 0.
        memory_usage_mb: From 0.
        today: The UTC day of the two counters; the day of the first activity when not given.
    """

    total_sessions: int = 0
    active_sessions: int = 0
    expired_sessions_cleaned: int = 0
    sessions_created_today: int = 0
    sessions_reused_today: int = 0
    average_session_duration_minutes: float = 0.0
    memory_usage_mb: float = 0.0
    today: date | None = None

    _checks: ClassVar[Mapping[str, _Check]] = {
        **_BASE_CHECKS,
        **dict.fromkeys(("total_sessions", "active_sessions", "expired_sessions_cleaned"), fields.count_of),
        **dict.fromkeys(("sessions_created_today", "sessions_reused_today"), fields.count_of),
        **dict.fromkeys(("average_session_duration_minutes", "memory_usage_mb"), fields.amount_of),
        "today": fields.optional_day,
    }

    def __post_init__(self) -> None:
        if self.today is None and (self.sessions_created_today or self.sessions_reused_today):
            self.today = self.last_activity_at.date()

    def mark_activity(self, *, now: datetime | None = None) -> None:
        """Note that something happened; on a new UTC day the two counters of today begin again."""
        at = _at(now)
        if self.today is None or at.date() > self.today:
            self.sessions_created_today = self.sessions_reused_today = 0
            self.today = at.date()
        super().mark_activity(now=at)

    def increment_total_sessions(self, *, now: datetime | None = None) -> None:
        """Count a session that came into existence, in total and today."""
        at = _at(now)
        self.mark_activity(now=at)
        self.total_sessions += 1
        self.sessions_created_today += at.date() == self.today

    def increment_active_sessions(self, *, now: datetime | None = None) -> None:
        """Count a session that became active."""
        self.mark_activity(now=now)
        self.active_sessions += 1

    def decrement_active_sessions(self, *, now: datetime | None = None) -> None:
        """Count a session that is no longer active; never below 0."""
        self.mark_activity(now=now)
        self.active_sessions = max(0, self.active_sessions - 1)

    def record_session_cleanup(self, n: int = 1, *, now: datetime | None = None) -> None:
        """Count `n` expired sessions that were cleaned away; ValueError when `n` is negative."""
        cleaned = fields.count_of("n", n)
        self.mark_activity(now=now)
        self.expired_sessions_cleaned += cleaned

    def record_session_reuse(self, *, now: datetime | None = None) -> None:
        """Count a session that was used again today."""
        at = _at(now)
        self.mark_activity(now=at)
        self.sessions_reused_today += at.date() == self.today

    def update_memory_usage(self, mb: float, *, now: datetime | None = None) -> None:
        """Set the memory in use, megabytes; ValueError when it is negative or not finite."""
        at = _at(now)
        self.memory_usage_mb = mb
        self.mark_activity(now=at)

    def update_average_duration(self, minutes: float, *, now: datetime | None = None) -> None:
        """Set the average duration of a session, minutes; ValueError when it is negative or not finite."""
        at = _at(now)
        self.average_session_duration_minutes = minutes
        self.mark_activity(now=at)

    def to_dict(self, *, now: datetime | None = None) -> dict[str, Any]:
        """All fields, ready for JSON; the counters of today are 0 once `now` is on a later day than theirs."""
        at = _at(now)
        over = self.today is not None and at.date() > self.today
        return super().to_dict(now=at) | {
            "total_sessions": self.total_sessions,
            "active_sessions": self.active_sessions,
            "expired_sessions_cleaned": self.expired_sessions_cleaned,
            "sessions_created_today": 0 if over else self.sessions_created_today,
            "sessions_reused_today": 0 if over else self.sessions_reused_today,
            "average_session_duration_minutes": self.average_session_duration_minutes,
            "memory_usage_mb": self.memory_usage_mb,
        }


# The names that code written before these classes knows them by.
SessionMetrics = DatabaseSessionMetrics
DatabaseMetrics = DatabaseSessionMetrics
SystemMetrics = SystemSessionMetrics


def create_database_session_metrics(
    session_id: str = "", request_id: str = "", user_id: str = ""
) -> DatabaseSessionMetrics:
    """Begin the metrics of one use of a database session."""
    return DatabaseSessionMetrics(session_id, request_id, user_id)


def create_system_session_metrics() -> SystemSessionMetrics:
    """Begin the metrics of a system."""
    return SystemSessionMetrics()


def _at(now: datetime | None) -> datetime:
    return fields.utc_now() if now is None else fields.utc_time("now", now)
