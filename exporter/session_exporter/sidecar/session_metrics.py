"""What is counted of the application's sessions, and of its database sessions."""

from collections.abc import Iterable
from operator import attrgetter
from typing import Final

from session_exporter.core.scopes import CAUSES, DB_ERRORS, END_REASONS, FAILURES, LOSS_REASONS, OUTCOMES, VIOLATIONS
from session_exporter.core.totals import ID_CHECKS
from session_exporter.sidecar.metric import (
    POD,
    LabelledValue,
    Metric,
    SampleSource,
    one,
    per_scope,
    per_scope_and,
    per_word,
)
from session_exporter.sidecar.snapshot import POOL_STATES, Snapshot


def _ids_checked(snapshot: Snapshot) -> Iterable[LabelledValue]:
    for name, totals in sorted(snapshot.ledger.scopes.items()):
        for pair in ID_CHECKS:
            yield LabelledValue((name, *pair.split("/")), totals.ids_checked.get(pair, 0), totals.born_us)


SESSION_METRICS: Final[tuple[Metric, ...]] = (
    Metric(
        "session_creates_total",
        "counter",
        "Sessions that came into existence, each counted once however many hooks reported it.",
        per_scope(attrgetter("creates"), "creates"),
        called="session_creates_total{user_id}",
    ),
    Metric(
        "session_reuses_total",
        "counter",
        "Times that work went on with a session that existed.",
        per_scope(attrgetter("reuses")),
        called="session_reuses_total{user_id}",
    ),
    Metric(
        "session_adopted_total",
        "counter",
        "Sessions that existed before they were first seen: neither created nor reused.",
        per_scope(attrgetter("adopted")),
    ),
    Metric(
        "session_lookups_total",
        "counter",
        "Times the application asked for the session of a user.",
        per_scope(attrgetter("lookups")),
    ),
    Metric(
        "session_redundant_lookups_total",
        "counter",
        "Lookups beyond the first of one request, scope and user: the early warning of a race.",
        per_scope(attrgetter("redundant_lookups")),
    ),
    Metric(
        "session_rotations_total",
        "counter",
        "Creates that only gave a session another id, as at a login: counted as creates, but as no duplicate or loss.",
        per_scope(attrgetter("rotations")),
    ),
    Metric(
        "session_stale_expected_total",
        "counter",
        "Requests that expected a session which had ended or was never known: strangers, and old cookies.",
        per_scope(attrgetter("stale_expected")),
    ),
    Metric(
        "session_rapid_duplicate_creates_total",
        "counter",
        "Creates whose user had another create, or adoption, less than the scope's duplicate window before.",
        per_scope_and("cause", CAUSES, attrgetter("duplicates"), "duplicates"),
    ),
    Metric(
        "session_context_loss_total",
        "counter",
        "Times the session that a request expected was not the one it got.",
        per_scope_and("reason", LOSS_REASONS, attrgetter("losses"), "losses"),
        called="context_loss_total{user_id}",
    ),
    Metric(
        "session_create_conflicts_total",
        "counter",
        "Creates that a unique index refused: the race was there, and the database stopped it.",
        per_scope(attrgetter("conflicts")),
    ),
    Metric(
        "session_create_failures_total",
        "counter",
        "Creates that failed, conflicts aside.",
        per_scope_and("reason", FAILURES, attrgetter("failures")),
    ),
    Metric(
        "session_isolation_violations_total",
        "counter",
        "Times that something of one user, request or task was used by another; of database sessions in scope default.",
        per_scope_and("kind", VIOLATIONS, attrgetter("violations")),
    ),
    Metric(
        "session_ids_checked_total",
        "counter",
        "Ids that were compared with the format that their scope declares for their kind, each once.",
        SampleSource(("scope", "id_kind", "format"), _ids_checked),
    ),
    Metric(
        "session_id_mismatches_total",
        "counter",
        "Requests whose thread, run and request ids were not generated together.",
        per_scope(attrgetter("id_mismatches")),
    ),
    Metric(
        "session_ends_total",
        "counter",
        "Sessions that were closed, deleted or expired.",
        per_scope_and("reason", END_REASONS, attrgetter("ends")),
    ),
    Metric(
        "session_reuse_ratio",
        "gauge",
        "reuses / (creates + reuses) since counting began, NaN before traffic; alerts use the recording rule.",
        per_scope(attrgetter("reuse_ratio")),
        called="session_reuse_ratio{user_id}",
    ),
    Metric(
        "session_active_sessions",
        "gauge",
        "Sessions that have not ended and were active within the scope's idle timeout.",
        per_scope(attrgetter("active_sessions")),
    ),
    Metric(
        "session_active_users",
        "gauge",
        "Users who have at least one active session.",
        per_scope(attrgetter("active_users")),
    ),
    Metric(
        "session_duration_seconds",
        "histogram",
        "How long sessions lived that have ended.",
        per_scope(attrgetter("durations")),
    ),
    Metric(
        "session_create_interval_seconds",
        "histogram",
        "Time between a create and the previous create of the same user.",
        per_scope(attrgetter("intervals")),
    ),
    Metric(
        "session_lookup_duration_seconds",
        "histogram",
        "How long lookups took that report it.",
        per_scope(attrgetter("lookup_durations")),
    ),
)

DATABASE_METRICS: Final[tuple[Metric, ...]] = (
    Metric(
        "session_db_sessions_opened_total",
        "counter",
        "Uses of database sessions that began: from the first transaction until it is closed.",
        one(attrgetter("exporter.db.opened")),
        shown_by=POD,
    ),
    Metric(
        "session_db_sessions_closed_total",
        "counter",
        "Uses of database sessions that ended.",
        per_word("outcome", OUTCOMES, attrgetter("ledger.db.closed")),
    ),
    Metric(
        "session_db_open_sessions",
        "gauge",
        "Database sessions in use in living workers.",
        one(attrgetter("exporter.db.open_sessions")),
        shown_by=POD,
    ),
    Metric(
        "session_db_peak_open_sessions",
        "gauge",
        "Most database sessions seen in use at once: in all workers at a commit, or in one worker at any time.",
        one(attrgetter("exporter.db.peak_open_sessions")),
        shown_by=POD,
    ),
    Metric(
        "session_db_leaked_sessions_total",
        "counter",
        "Database sessions that were open for longer than limits.max_db_session_lifetime, or when their worker died.",
        one(attrgetter("exporter.db.leaked")),
        shown_by=POD,
    ),
    Metric(
        "session_db_queries_total",
        "counter",
        "Statements executed in uses of database sessions that ended.",
        one(attrgetter("ledger.db.queries")),
    ),
    Metric(
        "session_db_transactions_total",
        "counter",
        "Root transactions in uses of database sessions that ended.",
        one(attrgetter("ledger.db.transactions")),
    ),
    Metric(
        "session_db_errors_total",
        "counter",
        "Errors in uses of database sessions that ended.",
        per_word("kind", DB_ERRORS, attrgetter("ledger.db.errors")),
    ),
    Metric(
        "session_db_session_duration_seconds",
        "histogram",
        "How long database sessions were used.",
        one(attrgetter("ledger.db.durations")),
    ),
    Metric(
        "session_db_pool_wait_seconds",
        "histogram",
        "How long the application waited for a connection of a pool.",
        one(attrgetter("exporter.db.pool_waits")),
        shown_by=POD,
    ),
    Metric(
        "session_db_pool_connections",
        "gauge",
        "Connections in the pools of living workers.",
        per_word("state", POOL_STATES, attrgetter("exporter.db.pool_connections"), is_counter=False),
        shown_by=POD,
    ),
)
