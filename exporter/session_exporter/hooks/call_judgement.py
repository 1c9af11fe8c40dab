"""What a wrapped call tells about a session: judged by its result, and by what was seen while it ran."""

from collections.abc import Callable
from inspect import Signature
from typing import Any, Final

from session_exporter import pending
from session_exporter.ambient import current_request
from session_exporter.hooks.call_invocation import Invocation
from session_exporter.hooks.call_paths import compile_readers
from session_exporter.mappings import CallMapping
from session_exporter.reporter import UPSERT, Reporter


class CallPlan:
    """How the calls of one function are judged for one mapping.

    Args:
        mapping: What is told about the function.
        signature: Of the function, as it is called; None when it has none.
        reporter: Of the hook.

    Attributes:
        mapping: As given.
        reporter: As given.
        scope: The mapping's.
        readers: What is read of each call.
        early: Whether user and key are read before the function runs, which may change its arguments.
        late: Whether they are read afterwards.
        session: Reads the session of a call.
        dated: Whether a result says when the session was created.
        judge: Reports what a call that returned tells.
        is_by_user: Whether no result means that the user has no session, as far as the mapping tells.
        asks: Whether no result means that no session was found, whatever was asked for.
        makes: Whether an error means that a create failed.
        surrounds: Whether statements inside of a call belong to it. What binds a user is no call about a session.

    Raises:
        PathError: A path of the mapping begins with nothing that the function has.
    """

    def __init__(self, mapping: CallMapping, signature: Signature | None, reporter: Reporter) -> None:
        self.mapping = mapping
        self.reporter = reporter
        self.scope = mapping.scope
        self.readers = compile_readers(mapping, signature)
        self.early = self.readers.early
        self.session = self.readers.session
        self.late = not self.early and bool(mapping.user or mapping.key)
        self.dated = bool(mapping.created_at)
        self.judge = _JUDGES[mapping.kind]
        self.is_by_user = bool(mapping.user) and self.readers.early
        self.asks = mapping.kind in ("get", "get_or_create")
        self.makes = mapping.kind in ("create", "get_or_create")
        self.surrounds = mapping.kind != "bind"


def _judge_get(call: Invocation, result: Any, took_us: int) -> None:
    session = call.session(result)
    if call.is_alone:
        call.looked_up(session, took_us)
    elif call.outermost is not None:
        if session:
            call.outermost.found.add(session)
        call.note(session)
    elif (created_at_us := call.take(session)) is not None:
        call.observed(session, created_at_us, took_us)
    else:
        call.looked_up(session, took_us, again=session in call.made)


def _judge_get_or_create(call: Invocation, result: Any, took_us: int) -> None:
    session = call.session(result)
    if call.is_alone:
        if not session or pending.is_pending(call.scope, session):
            call.looked_up("", took_us)
        else:
            call.observed(session, call.created_at_us(result) if call.plan.dated else 0, took_us)
        return
    holder = call.outermost or call
    inner_us = call.take(session)
    made = session in holder.made or pending.is_pending(call.scope, session)
    if call.outermost is not None:
        if session and not made:
            call.note(session)
        if session and not made and session not in holder.found:
            call.pass_on(session, inner_us or call.created_at_us(result))
    elif not session or made:
        call.looked_up("", took_us)
    elif inner_us is None and session in call.found:
        call.looked_up(session, took_us)
    else:
        call.observed(session, inner_us or call.created_at_us(result), took_us)


def _judge_create(call: Invocation, result: Any, _took_us: int) -> None:
    session = call.session(result)
    if not session:
        return
    holder = call.outermost or call
    made = session in holder.made
    holder.made.add(session)
    call.take(session)
    if made:
        return
    if not pending.is_watched(call.scope):
        call.plan.reporter.created(session, **call.about())
    elif not pending.is_pending(call.scope, session):
        call.plan.reporter.observed(session, origin=UPSERT, **call.about())


def _judge_end(call: Invocation, result: Any, _took_us: int) -> None:
    session = call.session(result)
    if session:
        call.plan.reporter.ended(session, reason=call.plan.mapping.reason, **call.about())


def _judge_bind(call: Invocation, result: Any, _took_us: int) -> None:
    user, session, request = call.user, call.session(result), current_request()
    if request is not None:
        request.bind_user(user)
        request.bind_session(session or None)
    if session and user is not None and user != "":
        call.plan.reporter.attributed(session, **call.about())


_JUDGES: Final[dict[str, Callable[[Invocation, Any, int], None]]] = {
    "get": _judge_get,
    "get_or_create": _judge_get_or_create,
    "create": _judge_create,
    "end": _judge_end,
    "bind": _judge_bind,
}
