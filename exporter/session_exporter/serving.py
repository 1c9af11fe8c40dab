"""How a middleware begins a request, hands it to the application, and ends it."""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from session_exporter.ambient import Request, current, current_request
from session_exporter.core.carriers import REQUEST_ID, REQUEST_KEY, RUN_ID, THREAD_ID, request_token, usable_id
from session_exporter.core.context import RequestContext
from session_exporter.inquiries import Expect, Inquiry, Questions, User
from session_exporter.patches import Method, OnFailure, Patches, Replacements
from session_exporter.tracker import SessionTracker
from session_exporter.wrapped_calls import Call, current_call

if TYPE_CHECKING:
    from contextvars import Token

Said = Mapping[str, str]

# The headers that name ids, the fields of a RequestContext that take them, and what is accepted of strangers.
_IDS: Final[Mapping[str, tuple[str, Callable[[str], str]]]] = {
    REQUEST_ID: ("request_id", request_token),
    THREAD_ID: ("thread_id", usable_id),
    RUN_ID: ("run_id", usable_id),
}


class WebRequest(Request):
    """A request that a middleware has begun.

    Attributes:
        inquiry: What may be asked about it later.
    """

    __slots__ = ("inquiry",)

    def __init__(self, given: Mapping[str, Any], inquiry: Inquiry, on_failure: OnFailure) -> None:
        # A server goes from one request to the next, and an event loop may begin a task with the context variables of
        # another (https://github.com/python/cpython/issues/140947): what surrounds this one has nothing to do with it.
        token = current.set(None)
        try:
            super().__init__(given, on_failure)
        finally:
            current.reset(token)
        self.inquiry = inquiry

    @property
    def innermost_context(self) -> RequestContext:
        """The context of what is being worked on: of this request, or of one that was begun inside of it."""
        innermost = request = current_request()
        while request is not None and request is not self:
            request = request.outer
        found = self if innermost is None or request is None else innermost
        found.find_user()
        found.find_session()
        return found.context


class Stay:
    """The time that a task or thread spends in a request; a request that is worked on in steps is entered for each.

    Args:
        request: The request.

    Attributes:
        request: As given.
    """

    __slots__ = ("_call", "_inside", "_tokens", "request")

    def __init__(self, request: WebRequest) -> None:
        self.request = request
        self._inside: Request | None = request
        self._call: Call | None = None
        self._tokens: tuple[Token[Request | None], Token[Call | None]] | None = None

    def enter(self) -> None:
        """Be in the request, and in what was begun in it before the last `leave`."""
        self._tokens = current.set(self._inside), current_call.set(self._call)

    def leave(self) -> None:
        """Be where the task or thread was before."""
        tokens, self._tokens = self._tokens, None
        if tokens is None:
            return
        self._inside, self._call = current.get(), current_call.get()
        try:
            current.reset(tokens[0])
            current_call.reset(tokens[1])
        except ValueError:
            # Left in another context than it was entered in, as happens to generators that are thrown away.
            return


class Serving:
    """What all requests of one middleware share.

    Args:
        hook: The hook's name.
        tracker: Whose requests these are; its own when None.
        expect: Where to look for the expected session.
        user: Where to look for the user.

    Attributes:
        headers: The headers that `begin` wants to know, in lower case.
        active: Whether requests are to be begun: not after `close`, nor when nothing is to be recorded.
        count_failure: Counts a failure of the hook.

    Raises:
        TypeError: `expect` or `user` is nothing of the kind.
    """

    def __init__(self, hook: str, tracker: SessionTracker | None, expect: Expect, user: User) -> None:
        tracker = SessionTracker() if tracker is None else tracker
        self._reporter: Final = tracker.reporter(hook)
        self.count_failure: Final = self._reporter.count_failure
        self._questions: Final = Questions(expect, user, self.count_failure)
        self.headers: Final = frozenset({*_IDS, *self._questions.headers})
        self.active = not tracker.disabled
        self._releases: list[Callable[[], None]] = []
        if self._questions.asks_user or self._questions.asks_late_session:
            self.need(_DJANGO)
            self.need(_FLASK)
        self._reporter.register(active=True)

    def close(self) -> None:
        """Begin no further request."""
        self.active = False
        while self._releases:
            self._releases.pop()()
        self._reporter.register(active=False)

    def need(self, patches: Patches) -> None:
        """Have methods replaced until `close`."""
        if self.active:
            self._releases.append(patches.need(self.count_failure))

    def begin(self, said: Said, subject: Any) -> WebRequest:
        """Begin a request.

        Args:
            said: What it says in those of `headers` that it has.
            subject: The ASGI scope, the WSGI environment or aiohttp's request.
        """
        given = {"session_id": self._questions.session_said(said, subject)}
        for name in said:
            if name in _IDS:
                field, read = _IDS[name]
                given[field] = read(said[name]) or None
        request = WebRequest(given, Inquiry(subject, self._questions, said), self.count_failure)
        self._ask_later(request)
        return request

    def join(self, request: WebRequest, said: Said, subject: Any) -> None:
        """Find out about a request that another middleware has begun what that one was not told to."""
        if not request.inquiry.add(self._questions, said):
            return
        if not request.context.session_id:
            request.learn_session(self._questions.session_said(said, subject))
        self._ask_later(request)

    def end(self, request: WebRequest) -> None:
        """End a request; the session that it expected is what is known by now."""
        try:
            request.inquiry.is_over = True
            request.find_session()
            request.late_session = None  # nobody is to be asked any more
        finally:
            request.__exit__(None, None, None)

    def _ask_later(self, request: WebRequest) -> None:
        if self._questions.asks_user:
            request.late_user = request.inquiry.user
        if self._questions.asks_late_session and not request.context.session_id:
            request.late_session = request.inquiry.session


def request_of(notes: Mapping[Any, Any]) -> WebRequest | None:
    """The request that a middleware has begun and noted, unless that has ended: environments are used again."""
    noted = notes.get(REQUEST_KEY)
    return noted if isinstance(noted, WebRequest) and not noted.ended else None


def _django_methods(module: ModuleType, on_failure: OnFailure) -> Replacements:
    """Django's request knows user and route, but neither the scope nor the environment leads to it."""

    def noting(get_response: Method) -> Method:
        def replacement(handler: Any, django_request: Any) -> Any:  # the asynchronous one returns a coroutine
            try:
                request = request_of(django_request.META) or request_of(getattr(django_request, "scope", {}))
                if request is not None:
                    request.inquiry.subject = django_request
            except Exception as error:  # noqa: BLE001 - counted; the user stays unknown
                on_failure(error)
            return get_response(handler, django_request)

        return replacement

    return [(module.BaseHandler, name, noting) for name in ("get_response", "get_response_async")]


def _flask_methods(module: ModuleType, on_failure: OnFailure) -> Replacements:
    """Flask makes its environment forget the request, and with it the route, before the middleware sees the end."""

    def noting(dispatch: Method) -> Method:
        def replacement(*arguments: Any, **options: Any) -> Any:
            try:
                request = current_request()
                if request is not None:
                    request.find_session()
            except Exception as error:  # noqa: BLE001 - counted; the session stays unknown
                on_failure(error)
            return dispatch(*arguments, **options)

        return replacement

    return [(module.Flask, "full_dispatch_request", noting)]


_DJANGO: Final = Patches("django.core.handlers.base", _django_methods)
_FLASK: Final = Patches("flask.app", _flask_methods)
