"""What surrounds a call: the request it belongs to, the wrapped call it is made in, and the OpenTelemetry trace."""

import os
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from session_exporter.core.context import RequestContext
from session_exporter.identity import IdError, canonical_id

REQUEST_ID_BYTES: Final = 8
# Of one request, who wants to know of its end at the same time.
WHEN_ENDED_MAX: Final = 10_000
OPENTELEMETRY: Final = "opentelemetry.trace"

# Holds the request, not its context: a user who is bound in a task or thread of the request (where changes of the
# variable itself would stay) is bound for all of it.
current: ContextVar["Request | None"] = ContextVar("session_exporter_request", default=None)

OnFailure = Callable[[Exception], None]


class Call:
    """A wrapped call under way: a context manager. What statements inside of it find belongs to it.

    Args:
        scope: Whose session it is about.

    Attributes:
        scope: As given.
        failed: Whether a statement inside of it has reported that its create failed.
        ended: Whether the block was left; what it has started in the background is then no longer in it.
    """

    # What most calls never change is kept by the class: some are made many times per request.
    failed = False
    ended = False
    _found: set[str] | None = None
    _made: set[str] | None = None
    _outer: "Call | None" = None
    _token: "Token[Call | None] | None" = None

    def __init__(self, scope: str) -> None:
        self.scope = scope

    def __enter__(self) -> Self:
        if self._token is not None or self.ended:  # once is all: around itself it would never end
            return self
        outer = current_call.get()
        while outer is not None and outer.ended:  # as a chain of jobs leaves behind that each began in the one before
            outer = outer._outer  # noqa: SLF001 - of the same class
        self._outer = outer
        self._token = current_call.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended = True
        token, self._token = self._token, None
        if token is not None:
            try:
                current_call.reset(token)
            except ValueError:
                # Left in another context than it was entered in, as a coroutine that is thrown away; in that one some
                # other call may be under way.
                if current_call.get() is self:
                    current_call.set(self._outer)

    @property
    def found(self) -> set[str]:
        """Ids of sessions that statements inside of it found."""
        if self._found is None:
            self._found = set()
        return self._found

    @property
    def made(self) -> set[str]:
        """Ids of sessions that statements inside of it created; the transaction may still be open."""
        if self._made is None:
            self._made = set()
        return self._made

    @property
    def outer(self) -> "Call | None":
        """The wrapped call that this one was made in."""
        return self._outer


current_call: ContextVar[Call | None] = ContextVar("session_exporter_call", default=None)


def call_of(scope: str) -> Call | None:
    """The outermost wrapped call that is about this scope and has not ended."""
    found, call = None, current_call.get()
    while call is not None:
        if call.scope == scope and not call.ended:
            found = call
        call = call.outer
    return found


class _OpenTelemetry(NamedTuple):
    """The functions of OpenTelemetry that are needed, which the application has imported."""

    get_current: Callable[[], object]
    get_current_span: Callable[[], Any]


_opentelemetry: _OpenTelemetry | None = None
# Its contexts never change, and a new one comes with every span: a trace id is worked out once for each.
_trace_seen: tuple[object, bytes] = (None, b"")


class Request:
    """One unit of work (an HTTP request, a websocket message, a job): a context manager, also an asynchronous one.

    May be used from every task and thread of the request. What goes wrong is counted, nothing is raised.

    Attributes:
        context: Who the request belongs to; replaced when something is bound.
        request_id: The same as the context's.
        user_id: The same as the context's, `""` when not known.
        ended: Whether the block was left; whoever still runs in the request's contextvars is then no longer in it.
        late_user: Asked for the user whenever that is needed and not known yet; returns None while nobody knows.
        late_session: Likewise for the session that the request expects.
    """

    __slots__ = (
        "__weakref__",
        "_on_failure",
        "_outer",
        "_token",
        "_when_ended",
        "context",
        "ended",
        "late_session",
        "late_user",
        "request_id",
        "user_id",
    )

    def __init__(self, given: Mapping[str, Any], on_failure: OnFailure) -> None:
        self._on_failure = on_failure
        self._token: Token[Request | None] | None = None
        self._outer = current_request()
        self._when_ended: dict[Callable[[Request], None], None] | None = None
        self.ended = False
        outer = self._outer
        self.late_user: Callable[[], object] | None = None if outer is None else outer.late_user
        self.late_session: Callable[[], object] | None = None if outer is None else outer.late_session
        self._take(_context(given, None if outer is None else outer.context, on_failure))

    @property
    def outer(self) -> "Request | None":
        """The request that this one was begun in."""
        return self._outer

    def bind_user(self, user: object) -> None:
        """Name the user, who became known during the request; None (nobody logged in) changes nothing."""
        if user is None:
            return
        try:
            self._take(self.context.with_user(canonical_id(user, "user")))
        except Exception as error:  # noqa: BLE001 - counted by the tracker
            self._on_failure(error)

    def bind_session(self, session: object) -> None:
        """Name the session that the request expects to get; None changes nothing."""
        if session is None:
            return
        try:
            self._take(replace(self.context, session_id=canonical_id(session, "session")))
        except Exception as error:  # noqa: BLE001 - counted by the tracker
            self._on_failure(error)

    def find_user(self) -> str:
        """The user's id, asked for if need be; `""` when not known."""
        ask = self.late_user
        if ask is not None and not self.user_id:
            self.late_user = None  # whoever answers may come back here
            try:
                self.bind_user(ask())
            except Exception as error:  # noqa: BLE001 - counted by the tracker
                self._on_failure(error)
            finally:
                self.late_user = None if self.user_id else ask
        return self.user_id

    def find_session(self) -> str:
        """The id of the session that the request expects, asked for if need be; `""` when not known."""
        ask = self.late_session
        if ask is not None and not self.context.session_id:
            self.late_session = None
            try:
                self.bind_session(ask())
            except Exception as error:  # noqa: BLE001 - counted by the tracker
                self._on_failure(error)
            finally:
                self.late_session = None if self.context.session_id else ask
        return self.context.session_id or ""

    def when_ended(self, act: Callable[["Request"], None]) -> None:
        """Have something done when the block is left: called with the request, which has ended, where it is left.

        Given twice, it is done once. What it raises is counted; one that comes too late, or is one too many, is not
        called.
        """
        acts = self._when_ended
        if acts is None:
            acts = self._when_ended = {}
        if len(acts) < WHEN_ENDED_MAX:
            acts[act] = None

    def forget(self, act: Callable[["Request"], None]) -> None:
        """Take `when_ended` back."""
        if self._when_ended is not None:
            self._when_ended.pop(act, None)

    def _tell_ended(self) -> None:
        acts, self._when_ended = self._when_ended, None
        while acts:
            try:
                acts.popitem()[0](self)
            except Exception as error:  # noqa: BLE001 - counted by the tracker
                self._on_failure(error)

    def _take(self, context: RequestContext) -> None:
        self.context = context
        self.request_id = context.request_id or ""
        self.user_id = context.user_id or ""

    def __enter__(self) -> Self:
        self._token = current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended = True
        # What has ended has no say any more, and is not kept by a chain of jobs that each began in the one before.
        while self._outer is not None and self._outer.ended:
            self._outer = self._outer._outer  # noqa: SLF001 - of the same class
        if self._when_ended is not None:
            self._tell_ended()
        token, self._token = self._token, None
        if token is not None:
            try:
                current.reset(token)
            except ValueError:
                # Left in another context than it was entered in, as generators do that a framework closes elsewhere.
                return

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


def current_request() -> Request | None:
    """The innermost request that the calling task or thread runs in and that has not ended."""
    innermost = request = current.get()
    while request is not None and request.ended:
        request = request._outer  # noqa: SLF001 - of the same class's making
    if innermost is not None and innermost.ended:
        innermost._outer = request  # noqa: SLF001 - not walked again
    return request


def trace_id(on_failure: OnFailure) -> bytes:
    """The current OpenTelemetry trace id, 16 bytes; empty when there is none."""
    global _trace_seen  # noqa: PLW0603 - replaced as a whole, which is atomic
    try:
        opentelemetry = _opentelemetry or _find_opentelemetry()
        if opentelemetry is None:
            return b""
        surroundings = opentelemetry.get_current()
        seen, trace = _trace_seen
        if seen is not surroundings:
            trace = _valid_trace_id(opentelemetry.get_current_span().get_span_context())
            _trace_seen = surroundings, trace
    except Exception as error:  # noqa: BLE001 - counted by the tracker; the event is worth recording without it
        on_failure(error)
        return b""
    return trace


def _valid_trace_id(span_context: Any) -> bytes:
    number: int = span_context.trace_id if span_context.is_valid else 0
    return number.to_bytes(16, "big") if number else b""


def _find_opentelemetry() -> "_OpenTelemetry | None":
    global _opentelemetry  # noqa: PLW0603 - found once
    # Both are absent from modules that another thread is just importing.
    get_current = getattr(sys.modules.get("opentelemetry.context"), "get_current", None)
    get_current_span = getattr(sys.modules.get(OPENTELEMETRY), "get_current_span", None)
    if get_current is None or get_current_span is None:
        return None
    _opentelemetry = _OpenTelemetry(get_current, get_current_span)
    return _opentelemetry


def _context(given: Mapping[str, Any], outer: RequestContext | None, on_failure: OnFailure) -> RequestContext:
    """A context of everything given that is usable, with an id in any case."""
    try:
        return _joined({name: _canonical(name, value) for name, value in given.items() if value is not None}, outer)
    except Exception:  # noqa: BLE001 - what is unusable is found, and counted, one by one
        usable = _usable({name: value for name, value in given.items() if value is not None}, on_failure)
    try:
        return _joined(usable, outer)
    except Exception as error:  # noqa: BLE001 - counted by the tracker
        on_failure(error)
        return _joined({}, None)


def _usable(fields: Mapping[str, Any], on_failure: OnFailure) -> dict[str, Any]:
    usable: dict[str, Any] = {}
    for name, value in fields.items():
        try:
            canonical = _canonical(name, value)
            RequestContext(**{name: canonical})
        except IdError as error:
            on_failure(error)
        except Exception:  # noqa: BLE001 - its text may hold the value, which is not for logs
            on_failure(IdError(f"{name} of a request is empty, a placeholder, or cannot be copied"))
        else:
            usable[name] = canonical
    return usable


def _canonical(name: str, value: object) -> Any:
    return value if name == "metadata" else canonical_id(value, name)


def _joined(fields: dict[str, Any], outer: RequestContext | None) -> RequestContext:
    """The context of these fields, begun by an outer one unless that is another user's."""
    if "request_id" not in fields:
        fields["request_id"] = os.urandom(REQUEST_ID_BYTES).hex()
    user_id = fields.get("user_id")
    if outer is None or (user_id and outer.user_id and user_id != outer.user_id):
        return RequestContext(**fields)
    begun = outer.child(**{name: value for name, value in fields.items() if name != "user_id"})
    return begun.with_user(user_id) if user_id else begun
