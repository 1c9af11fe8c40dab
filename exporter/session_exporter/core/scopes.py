"""What a scope is, and the closed sets of words that every label is taken from."""

from dataclasses import dataclass, field
from typing import Final, Literal

from session_exporter.core.ids import IdFormat

DEFAULT_SCOPE: Final = "default"
OTHER_SCOPE: Final = "other"

END_REASONS: Final = ("completed", "user_request", "expired", "escalated", "deleted", "replaced", "rotated", "other")
LEGITIMATE_END_REASONS: Final = ("completed", "user_request", "expired", "escalated")
LOSS_REASONS: Final = ("missing", "switched", "replaced", "reported")
# Of creates that failed, and of errors of database sessions.
FAILURES: Final = ("connection", "timeout", "pool_timeout", "auth", "integrity", "other")
DB_ERRORS: Final = ("connection", "auth", "timeout", "pool_timeout", "integrity", "deadlock", "state", "other")
OUTCOMES: Final = ("committed", "rolled_back", "error")
VIOLATIONS: Final = (
    "session_of_two_users",
    "db_session_of_two_users",
    "db_session_crossed_requests",
    "db_session_crossed_tasks",
    "db_session_outlived_request",
)
ID_KINDS: Final = ("session", "user", "thread", "run", "request")
ID_FORMATS: Final = ("canonical", "legacy", "invalid")
# Each of them is a label value of some metrics, in each scope.
TOP_USERS_MAX: Final = 1000
CAUSES: Final = ("same_request", "same_worker", "cross_worker", "cross_replica", "unobserved")


@dataclass(frozen=True, slots=True)
class ScopeRules:
    """How sessions of one scope are judged.

    Attributes:
        name: The label value; one of a closed set that the configuration declares.
        sessions_per_user: `one` when a user (and key) is meant to have one current session, `many` otherwise.
        duplicate_window_us: A create less than this after another of its user is a rapid duplicate; microseconds.
        idle_timeout_us: A session without events for longer has expired; microseconds.
        reuse_target: The ratio of reuses to operations below which a scope is unhealthy, from 0 to 1.
        end_reasons: The reasons that are legitimate ends, a subset of `END_REASONS`.
        id_formats: What ids are to look like, by kind, of `ID_KINDS`; kinds that are not in it are not checked.
    """

    name: str = DEFAULT_SCOPE
    sessions_per_user: Literal["one", "many"] = "one"
    duplicate_window_us: int = 10_000_000
    idle_timeout_us: int = 1_800_000_000
    reuse_target: float = 0.95
    end_reasons: frozenset[str] = frozenset(LEGITIMATE_END_REASONS)
    id_formats: dict[str, IdFormat] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds the ledger, and how long a database session may be open.

    Attributes:
        max_tracked_sessions: Sessions held in the ledger at once; the least recently active ones leave first.
        max_incidents: Incidents kept in the state; the oldest leave first.
        incident_retention_us: How long they are kept; microseconds.
        known_ids_max: Ids remembered after their session left the ledger.
        known_ids_retention_us: How long they are remembered; microseconds.
        max_db_session_lifetime_us: A database session open for longer has leaked; microseconds.
        trail_events_per_user: Of the user of an incident, at most so many events are kept with it; 0 keeps none.
        trail_retention_us: How long events are remembered for an incident that may come; microseconds.
        top_users: Of each scope, at most so many users are counted by name; 0 counts nobody so.
    """

    max_tracked_sessions: int = 1_000_000
    max_incidents: int = 10_000
    incident_retention_us: int = 30 * 86_400_000_000
    known_ids_max: int = 10_000_000
    known_ids_retention_us: int = 30 * 86_400_000_000
    max_db_session_lifetime_us: int = 30_000_000
    trail_events_per_user: int = 20
    trail_retention_us: int = 900_000_000
    top_users: int = 0
