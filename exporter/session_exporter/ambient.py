"""The request that a call belongs to."""

from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from session_exporter.contexts import make_context
from session_exporter.core.context import RequestContext
from session_exporter.course import Course
from session_exporter.identity import canonical_id
from session_exporter.patches import OnFailure
from session_exporter.shortfalls import Shortfall, Teller

# Of one request, who wants to know of its end at the same time.
WHEN_ENDED_MAX: Final = 10_000
# More than anybody nests; and somebody's own kind of request may be its own outer one.
OUTER_MAX: Final = 64

# Holds the request, not its context: a user who is bound in a task or thread of the request (where changes of the
# variable itself would stay) is bound for all of it.
current: ContextVar["Request | None"] = ContextVar("session_exporter_request", default=None)


Verdict: TypeAlias = "tuple[Request, list[Shortfall]]"


class Request:
    """One unit of work (an HTTP request, a websocket message, a job): a context manager, also an asynchronous one.

    May be used from every task and thread of the request. What goes wrong is counted, nothing is raised.

    Attributes:
        context: Who the request belongs to; replaced when something is bound.
        request_id: The same as the context's.
        user_id: The same as the context's, `""` when not known.
        ended: Whether the block was left; whoever still runs in the request's contextvars is then no longer in it.
        course: What it has found, missed and used so far.
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
        "course",
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
        self._take(make_context(given, None if outer is None else outer.context, on_failure))
        if outer is not None and outer.user_id and self.user_id and outer.user_id != self.user_id:
            self.late_session = None  # which is the other one's
        is_inherited = outer is not None and given.get("session_id") is None
        self.course = Course(self.context.session_id or "", inherited=is_inherited)

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
        """Name the session that the request expects to get from now on; None changes nothing.

        Where one was expected before, that one stays what the request is judged by.
        """
        if session is None:
            return
        self.find_session()
        self._expect(session, lasting=False)

    def learn_session(self, session: object) -> None:
        """Name the session that the request has expected since it began, as has turned out; None changes nothing."""
        if session is not None:
            self._expect(session, lasting=True)

    def _expect(self, session: object, *, lasting: bool) -> None:
        try:
            expected = canonical_id(session, "session")
            self._take(replace(self.context, session_id=expected))
            self.course.expect(expected, lasting=lasting)
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
        if ask is not None and ask is not _being_asked and not self.context.session_id:
            self.late_session = _being_asked  # whoever answers may come back here, as may another thread
            try:
                self.learn_session(ask())
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

    def note(  # noqa: PLR0917 - by position is faster
        self,
        teller: Teller,
        how: int,
        scope: str,
        session: str,
        at_us: int,
        user: str,
        trace: bytes,
        sites: tuple[str, ...] | None = None,
    ) -> None:
        """Take note of what the request does with a session, as `Course.note` does; `teller` tells of it."""
        course = self.course
        if scope not in course.entered and course.enter(scope, teller):
            self._enter(scope, teller, at_us, trace)
        is_lasting = self.late_session is not None
        course.note(how, scope, session, at_us, user, trace, sites, lasting=is_lasting)
        if self._outer is not None:
            for outer in self._around():
                outer.course.hear(how, scope, session, teller)

    def expected_before(self, scope: str, session: str) -> str:
        """The session that the request expected and had in this scope before it came to this one; `""` for none."""
        expected = self.course.expected
        if not expected or expected == session:
            return ""
        courses = (request.course for request in (self, *self._around()))
        return expected if any(each.expected == expected and each.is_found(scope) for each in courses) else ""

    @property
    def is_settled(self) -> bool:
        """Whether the verdict on it, and on each request around it, is certain: there is nothing to tell."""
        return self.course.settled and (self._outer is None or all(each.course.settled for each in self._around()))

    def _enter(self, scope: str, teller: Teller, at_us: int, trace: bytes) -> None:
        if not self.course.expected:
            self.find_session()
        context = self.context
        if context.thread_id or context.run_id:
            teller.identified(self, scope, at_us, trace)

    def _around(self) -> list["Request"]:
        """The requests around this one, the nearest first."""
        found: list[Request] = []
        outer = self._outer
        while outer is not None and len(found) < OUTER_MAX:
            found.append(outer)
            outer = outer._outer  # noqa: SLF001 - of the same class
        return found

    def _judge(self) -> None:
        """Give the verdict on the course, once; where a request around expects the same session, together with it."""
        course = self.course
        if course.over:
            return
        if not course.expected and not course.is_blank:
            self.find_session()
        course.over = True
        if course.settled or course.is_blank:
            return
        verdicts = [*course.held, (self, course.shortfalls())]
        judge = self._judged_with()
        if judge is None:
            _tell(course.expected, verdicts)
        elif not judge.course.settled:
            judge._hold(verdicts)  # noqa: SLF001 - of the same class

    def _judged_with(self) -> "Request | None":
        """The nearest request around this one that expects the same session, and may still get it, or has got it."""
        for outer in self._around():
            if not outer.course.expected:
                outer.find_session()
            if outer.course.expected == self.course.expected:
                return outer if outer.course.settled or not outer.course.over else None
        return None

    def _hold(self, verdicts: "list[Verdict]") -> None:
        self.course.hold(verdicts)

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
        try:
            self._judge()
        except Exception as judging:  # noqa: BLE001 - counted by the tracker
            self._on_failure(judging)
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


def _being_asked() -> None:
    """Stands for a question that has no answer yet."""


def _tell(expected: str, verdicts: list[Verdict]) -> None:
    for request, shortfalls in verdicts:
        for shortfall in shortfalls:
            shortfall.teller.unmet(request, expected, shortfall)


def current_request() -> Request | None:
    """The innermost request that the calling task or thread runs in and that has not ended."""
    innermost = request = current.get()
    while request is not None and request.ended:
        request = request._outer  # noqa: SLF001 - of the same class's making
    if innermost is not None and innermost.ended:
        innermost._outer = request  # noqa: SLF001 - not walked again
    return request
