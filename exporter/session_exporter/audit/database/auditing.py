"""The audit of a database, table by table."""

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy.engine import Connection

from session_exporter.audit.database.actives import RowCounts, count_rows, read_actives
from session_exporter.audit.database.guards import find_guards
from session_exporter.audit.database.history import read_history
from session_exporter.audit.database.mapped import find_subject
from session_exporter.audit.database.remedy import find_remedy
from session_exporter.audit.database.results import ActiveFindings, Guards, Remedy, TableAudit
from session_exporter.audit.database.rowtexts import RowTexts
from session_exporter.audit.database.subject import Subject
from session_exporter.core.scopes import ScopeRules
from session_exporter.errors import TableUnusable
from session_exporter.mappings import TableMapping
from session_exporter.watch.database import Database


class ActiveState(NamedTuple):
    """What is to be said of active rows."""

    active: ActiveFindings | None = None
    guards: Guards | None = None
    remedy: Remedy | None = None


def audit_tables(
    database: Database, tables: Iterable[tuple[TableMapping, ScopeRules]], *, since_us: int | None = None
) -> list[TableAudit]:
    """Audit tables; one that cannot be read does not keep the others from it.

    Args:
        database: Where they are.
        tables: Each with the rules of its scope.
        since_us: What was created before is left out of the history; None for all of it.

    Raises:
        DatabaseUnavailable: It is not there, or a statement took too long.
        DatabaseRefused: It does not let us in, or not there.
    """
    return [_audit_or_problem(database, mapping, rules, since_us) for mapping, rules in tables]


def _audit_or_problem(database: Database, mapping: TableMapping, rules: ScopeRules, since_us: int | None) -> TableAudit:
    try:
        with database.reading() as connection:
            return _audit(connection, find_subject(connection, mapping, rules), since_us)
    except TableUnusable as error:
        return TableAudit(mapping.table, mapping.scope, rules.duplicate_window_us, problem=str(error))


def _audit(connection: Connection, subject: Subject, since_us: int | None) -> TableAudit:
    texts, counts = RowTexts(subject), count_rows(connection, subject)
    has_history = subject.is_one and subject.user is not None and subject.created_us is not None
    state = _active_state(connection, subject, counts, texts)
    return TableAudit(
        subject.mapping.table,
        subject.mapping.scope,
        subject.rules.duplicate_window_us,
        is_many=not subject.is_one,
        gaps=tuple(_gaps(subject)),
        rows=counts.rows,
        without_user=counts.without_user,
        undated=counts.undated,
        active=state.active,
        history=read_history(connection, subject, since_us=since_us, texts=texts) if has_history else None,
        guards=state.guards,
        remedy=state.remedy,
    )


def _active_state(connection: Connection, subject: Subject, counts: RowCounts, texts: RowTexts) -> ActiveState:
    if subject.mapping.rows != "sessions":
        return ActiveState()
    guards = find_guards(connection, subject) if subject.may_have_indexes else None
    if subject.active is None or subject.user is None or not subject.is_one:
        return ActiveState(guards=guards)
    active = read_actives(connection, subject, counts.active, texts=texts)
    remedy = find_remedy(connection, subject, guards or Guards(), is_crowded=active.users > 0)
    return ActiveState(active, guards, remedy)


def _gaps(subject: Subject) -> Iterable[str]:
    """What cannot be told of a table, and why."""
    mapping = subject.mapping
    if not subject.may_have_indexes:
        yield "It is a view: what has to be done is to be done in its tables."
    if not subject.is_one:
        yield f"Users may have many sessions of scope {mapping.scope}: duplicates are no fault here."
        return
    if not mapping.user:
        yield "No column names the user (user): duplicates cannot be told."
        return
    if not mapping.created_at:
        yield "No column says when a session was created (created_at): its history cannot be told."
    if mapping.rows != "sessions":
        yield "Its rows are messages: whether a session is active cannot be told."
    elif not mapping.active:
        yield "No column says which sessions are active (active): duplicate active sessions cannot be told."
