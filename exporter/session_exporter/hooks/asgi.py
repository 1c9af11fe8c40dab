"""Requests of ASGI applications: Starlette, FastAPI and all others.

The request ends when the application returns: streamed bodies and background tasks are within. Of a websocket, the
connection is a request, and every message that it receives is one of its own (see `session_exporter.messages`).
"""

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from inspect import Parameter, Signature
from typing import Any, Final, TypeAlias

from session_exporter.core.carriers import REQUEST_KEY
from session_exporter.core.context import RequestContext
from session_exporter.inquiries import Expect, User
from session_exporter.messages import Connection
from session_exporter.serving import Serving, Stay, WebRequest, request_of
from session_exporter.tracker import SessionTracker

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

HOOK: Final = "asgi"


class SessionExporterMiddleware:
    """ASGI middleware: begins a request for every HTTP request, websocket connection and message.

    Also for `add_middleware` of Starlette and FastAPI. Where two of them are around one application, there is one
    request; the inner one adds what the outer one was not told to look for.

    Args:
        app: The application.
        tracker: The application's, if it has one.
        expect: Where the request says which session it expects: `cookie("sid")`, `header("x-session")`, `path("id")`,
            a callable that takes the ASGI scope and returns an id or None, or several of them. Cookies and headers are
            read when the request begins, parameters of the route once it is routed; a callable is asked when it begins
            and, as long as it answers None, until it ends.
        user: Where the user's id is once somebody has found it out: a callable that takes the scope, or a path from the
            scope on, such as `user.identity` (from Django's request on, in Django). Asked whenever an event needs the
            user and nobody knows; never loads anything from a database by itself.

    Raises:
        TypeError: `expect` or `user` is nothing of the kind.
    """

    def __init__(
        self, app: Application, *, tracker: SessionTracker | None = None, expect: Expect = (), user: User = None
    ) -> None:
        self.app = app
        self._requests = AsgiRequests(tracker, expect, user)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        await self._requests.serve(self.app, scope, receive, send)


class AsgiRequests:
    """Begins and ends the requests of ASGI applications; arguments as of the middleware."""

    def __init__(self, tracker: SessionTracker | None, expect: Expect, user: User) -> None:
        self._serving = Serving(HOOK, tracker, expect, user)
        self._wanted = {name.encode("latin-1"): name for name in self._serving.headers}

    def close(self) -> None:
        """Leave applications alone from now on."""
        self._serving.close()

    async def serve(self, app: Application, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the application serve one connection, as a request."""
        stay = self._begin(scope)
        if stay is None:
            await app(scope, receive, send)
            return
        try:
            if scope["type"] == "websocket":
                receive = await self._receive_messages(stay.request, receive)
            await app(scope, receive, send)
        finally:
            self._end(scope, stay)

    def _begin(self, scope: Scope) -> Stay | None:
        if not self._serving.active or scope["type"] not in {"http", "websocket"}:
            return None
        try:
            said = self._said(scope)
            noted = request_of(scope)
            if noted is not None:
                self._serving.join(noted, said, scope)
                return None
            request = self._serving.begin(said, scope)
            scope[REQUEST_KEY] = request
            stay = Stay(request)
            stay.enter()
        except Exception as error:  # noqa: BLE001 - counted; the application serves without it
            self._serving.count_failure(error)
            return None
        return stay

    def _said(self, scope: Scope) -> dict[str, str]:
        said: dict[str, str] = {}
        wanted = self._wanted
        for name, value in scope["headers"]:
            if name in wanted:
                key, text = wanted[name], value.decode("latin-1")
                # HTTP/2 may send every cookie in a header of its own.
                said[key] = f"{said[key]}; {text}" if key == "cookie" and key in said else text
        return said

    def _end(self, scope: Scope, stay: Stay) -> None:
        try:
            scope.pop(REQUEST_KEY, None)
            self._serving.end(stay.request)
            stay.leave()
        except Exception as error:  # noqa: BLE001 - counted; the response is sent
            self._serving.count_failure(error)

    async def _receive_messages(self, request: WebRequest, receive: Receive) -> Receive:
        try:
            connection = Connection(request, self._serving.count_failure)
        except Exception as error:  # noqa: BLE001 - counted; the messages are those of the connection
            self._serving.count_failure(error)
            return receive

        async def receive_message() -> Any:
            connection.ask()
            message = await receive()
            if message["type"] == "websocket.receive":
                connection.receive()
            return message

        await connection.prepare()
        return receive_message


class _Dependency:
    """FastAPI reads from its signature what to pass; that names a class of Starlette's, which is imported by then."""

    @property
    def __signature__(self) -> Signature:
        connection = sys.modules["starlette.requests"].HTTPConnection
        request = Parameter("request", Parameter.POSITIONAL_OR_KEYWORD, annotation=connection)
        return Signature([request], return_annotation=RequestContext)

    async def __call__(self, request: Any) -> RequestContext:
        """Give the context of a request or websocket of Starlette's; see `RequestContext.from_request`."""
        return RequestContext.from_request(request)


# A dependency for FastAPI: `context: RequestContext = Depends(request_context)`.
request_context: Final = _Dependency()
