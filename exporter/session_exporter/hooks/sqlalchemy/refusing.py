"""Creates that the database refused, or that failed otherwise."""

from typing import TYPE_CHECKING, Any

from session_exporter.core.scopes import FAILURES
from session_exporter.failures import failure_kind, is_conflict
from session_exporter.hooks.sqlalchemy.creating import Insert
from session_exporter.hooks.sqlalchemy.knowledge import FOUND
from session_exporter.hooks.sqlalchemy.work import Deed
from session_exporter.wrapped_calls import call_of

if TYPE_CHECKING:
    from collections.abc import Iterable


def refuse(insert: Insert, parameters: list[Any], error: BaseException) -> None:
    """Report the failure of an insert, at once: whatever becomes of the transaction, nothing was made.

    Of several rows nobody knows which one was refused: the session is named when there is only one.
    """
    table = insert.table
    proposed = _first_two(insert.proposed_by(parameters))
    deed = proposed[0] if len(proposed) == 1 else Deed(0, "", proposed[0].user if proposed else None)
    is_of_messages = table.mapping.rows == "messages"
    if is_of_messages and (is_conflict(error) or table.knowledge.state(table.scope, deed.session) == FOUND):
        return  # about the message, not about its session
    where = table.reporter.surroundings()
    call = call_of(table.scope)
    if call is not None:
        call.failed = True
    if is_conflict(error):
        table.reporter.conflicted(deed.session, scope=table.scope, user=deed.user, key=deed.key, where=where)
    else:
        kind = failure_kind(error)
        reason = kind if kind in FAILURES else "other"
        table.reporter.create_failed(reason, scope=table.scope, user=deed.user, key=deed.key, where=where)


def _first_two(deeds: "Iterable[Deed]") -> list[Deed]:
    return [deed for _, deed in zip(range(2), deeds, strict=False)]
