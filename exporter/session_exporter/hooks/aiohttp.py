"""Requests of aiohttp's server.

With `aiohttp.middleware(...)` the request ends when the handler has returned, so that a `StreamResponse` is within,
which handlers write themselves; a body given as an asynchronous generator is written after it. With the middleware
installed without the application's doing, the request ends when the response has been written.

Of a websocket, the connection is a request, and every message that the handler receives is one of its own (see
`session_exporter.messages`).
"""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from types import ModuleType
from typing import Any, Final, TypeAlias

from session_exporter.core.carriers import REQUEST_KEY
from session_exporter.inquiries import Expect, User
from session_exporter.messages import Connection
from session_exporter.patches import Method, OnFailure, Patches, Replacements
from session_exporter.serving import Serving, Stay, request_of
from session_exporter.tracker import SessionTracker

Handler: TypeAlias = Callable[[Any], Awaitable[Any]]

HOOK: Final = "aiohttp"
CONNECTION_KEY: Final = "session_exporter.connection"
# `WSMsgType.TEXT` and `.BINARY`; what else comes is none of the application's messages.
_MESSAGES: Final = (1, 2)


def middleware(
    *, tracker: SessionTracker | None = None, expect: Expect = (), user: User = None
) -> Callable[[Any, Handler], Awaitable[Any]]:
    """Make a middleware for `web.Application(middlewares=[...])`; best as the first one.

    Where two of them are in one application, there is one request; the inner one adds what the outer one was not told
    to look for.

    Args:
        tracker: The application's, if it has one.
        expect: Where the request says which session it expects: `cookie("sid")`, `header("x-session")`, `path("id")`,
            a callable that takes aiohttp's request and returns an id or None, or several of them; a callable is asked
            when the request begins and, as long as it answers None, until it ends.
        user: Where the user's id is once somebody has found it out: a callable that takes the request, or a path of its
            keys and attributes. Asked whenever an event needs the user and nobody knows; never loads anything from a
            database by itself.

    Raises:
        TypeError: `expect` or `user` is nothing of the kind.
    """
    requests = AiohttpRequests(tracker, expect, user)

    async def session_exporter_middleware(request: Any, handler: Handler) -> Any:
        return await requests.serve(request, lambda: handler(request))

    # What aiohttp's own decorator says of a middleware that takes a request.
    session_exporter_middleware.__middleware_version__ = 1  # type: ignore[attr-defined]  # as that decorator does
    return session_exporter_middleware


class AiohttpRequests:
    """Begins and ends the requests of aiohttp's server; arguments as of the middleware."""

    def __init__(self, tracker: SessionTracker | None, expect: Expect, user: User) -> None:
        self._serving = Serving(HOOK, tracker, expect, user)
        self._serving.need(_WEBSOCKETS)

    def close(self) -> None:
        """Leave applications alone from now on."""
        self._serving.close()

    async def serve(self, request: Any, handle: Callable[[], Awaitable[Any]]) -> Any:
        """Have a request handled."""
        stay = self._begin(request)
        if stay is None:
            return await handle()
        try:
            connection = request.get(CONNECTION_KEY)
            if connection is not None:
                await connection.prepare()
            return await handle()
        finally:
            self._end(request, stay)

    def _begin(self, request: Any) -> Stay | None:
        if not self._serving.active:
            return None
        try:
            said = self._said(request.headers)
            noted = request_of(request)
            if noted is not None:
                self._serving.join(noted, said, request)
                return None
            begun = self._serving.begin(said, request)
            _notes(request)[REQUEST_KEY] = begun
            stay = Stay(begun)
            stay.enter()
            if request.headers.get("upgrade", "").lower() == "websocket":
                _notes(request)[CONNECTION_KEY] = Connection(begun, self._serving.count_failure)
        except Exception as error:  # noqa: BLE001 - counted; the application answers without it
            self._serving.count_failure(error)
            return None
        return stay

    def _said(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {name: str(headers[name]) for name in self._serving.headers if name in headers}

    def _end(self, request: Any, stay: Stay) -> None:
        try:
            _notes(request).pop(REQUEST_KEY, None)
            _notes(request).pop(CONNECTION_KEY, None)
            self._serving.end(stay.request)
            stay.leave()
        except Exception as error:  # noqa: BLE001 - counted; the response is the application's
            self._serving.count_failure(error)


def _notes(request: Any) -> MutableMapping[str, Any]:
    """What the request hands to its copies; a text as a key of the request itself would be warned about."""
    notes: MutableMapping[str, Any] = getattr(request, "_state", request)
    return notes


def _websocket_methods(module: ModuleType, _on_failure: OnFailure) -> Replacements:
    return [(module.WebSocketResponse, "receive", _receiving)]


def _receiving(receive: Method) -> Method:
    async def replacement(websocket: Any, *args: Any, **kwargs: Any) -> Any:
        connection = _connection_of(websocket)
        if connection is None:
            return await receive(websocket, *args, **kwargs)
        connection.ask()
        message = await receive(websocket, *args, **kwargs)
        if message.type in _MESSAGES:
            connection.receive()
        return message

    return replacement


def _connection_of(websocket: Any) -> Connection | None:
    request = getattr(websocket, "_req", None)  # where it keeps the request that it answers
    found = None if request is None else request.get(CONNECTION_KEY)
    return found if isinstance(found, Connection) else None


_WEBSOCKETS: Final = Patches("aiohttp.web_ws", _websocket_methods)
