"""The middleware for applications that have none, by framework: their code stays as it is.

What is replaced is a method of the framework's class, so that applications which exist already, and those that are made
in other ways than usual, get it too. An application that has the middleware anyway still has one request for each.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from session_exporter.inquiries import Expect, User
from session_exporter.mappings import MiddlewareMapping
from session_exporter.patches import Method, Patch, once
from session_exporter.postimport import when_imported
from session_exporter.tracker import SessionTracker

Replace: TypeAlias = Callable[[Method], Method]

_logger: Final = logging.getLogger("session_exporter")


class Requests(Protocol):
    """Begins and ends the requests of one kind of server."""

    def close(self) -> None:
        """Leave applications alone from now on."""


class _Entrance(NamedTuple):
    """Where requests enter the applications of a framework.

    Attributes:
        module: The module that has to be imported first.
        owner: The class in it.
        methods: Those that are called with a request; of several that call each other, one request comes of it.
        kind: `asgi`, `wsgi` or `aiohttp`.
    """

    module: str
    owner: str
    methods: tuple[str, ...]
    kind: str


_ENTRANCES: Final[Mapping[str, tuple[_Entrance, ...]]] = {
    "starlette": (_Entrance("starlette.applications", "Starlette", ("__call__",), "asgi"),),
    # `wsgi_app` as well: servers and other middleware may have been given that.
    "flask": (_Entrance("flask.app", "Flask", ("__call__", "wsgi_app"), "wsgi"),),
    "django": (
        _Entrance("django.core.handlers.wsgi", "WSGIHandler", ("__call__",), "wsgi"),
        _Entrance("django.core.handlers.asgi", "ASGIHandler", ("__call__",), "asgi"),
    ),
    # Not the application's own method, of which a server that has been started keeps hold.
    "aiohttp": (_Entrance("aiohttp.web_protocol", "RequestHandler", ("_handle_request",), "aiohttp"),),
}

# The frameworks whose applications have the middleware in this process.
_installed: Final[set[str]] = set()


def install_middleware(
    mappings: Sequence[MiddlewareMapping], tracker: SessionTracker | None = None
) -> Callable[[], None]:
    """Give the middleware to all applications of these frameworks, at once or when the framework is imported.

    A framework that has it already keeps it as it is.

    Args:
        mappings: The frameworks.
        tracker: Whose requests these are; an own one when None.

    Returns:
        What takes it away again.
    """
    installations = []
    for framework, (expect, user) in _by_framework(mappings).items():
        if framework not in _installed:
            installations.append(_Installation(framework, expect, user, tracker))
            _installed.add(framework)
    return once(partial(_uninstall, installations))


def _by_framework(mappings: Sequence[MiddlewareMapping]) -> dict[str, tuple[Expect, User]]:
    """What is to be looked for, by framework; one that is named twice has all places of both."""
    found: dict[str, tuple[Any, User]] = {}
    for mapping in mappings:
        expect, user = found.get(mapping.framework, ((), None))
        found[mapping.framework] = (*expect, *mapping.expect), user or mapping.user or None
    return found


def _uninstall(installations: "list[_Installation]") -> None:
    while installations:
        installation = installations.pop()
        installation.undo()
        _installed.discard(installation.framework)


class _Installation:
    """The middleware in the applications of one framework."""

    def __init__(self, framework: str, expect: Expect, user: User, tracker: SessionTracker | None) -> None:
        self.framework = framework
        self._arguments = (tracker, expect, user)
        self._patches: list[Patch] = []
        self._requests: list[Requests] = []
        self._forgets = [
            when_imported(entrance.module, partial(self._enter, entrance)) for entrance in _ENTRANCES[framework]
        ]

    def undo(self) -> None:
        for forget in self._forgets:
            forget()
        while self._patches:
            self._patches.pop().undo()
        while self._requests:
            self._requests.pop().close()

    def _enter(self, entrance: _Entrance, module: ModuleType) -> None:
        tracker = self._arguments[0] or SessionTracker()
        try:
            requests, replace = _KINDS[entrance.kind](*self._arguments)
            self._requests.append(requests)
            owner = getattr(module, entrance.owner)
            for method in entrance.methods:
                self._patches.append(Patch(owner, method, replace))
        except Exception as error:  # noqa: BLE001 - counted; the application runs without the middleware
            reporter = tracker.reporter(entrance.kind)
            reporter.count_failure(error)
            reporter.register(active=False)
            _logger.warning("%s: this version of %s is not known", entrance.kind, self.framework)


def _asgi(tracker: SessionTracker | None, expect: Expect, user: User) -> tuple[Requests, Replace]:
    from session_exporter.hooks.asgi import AsgiRequests  # noqa: PLC0415 - asyncio, where it is used anyway

    requests = AsgiRequests(tracker, expect, user)

    def replace(call: Method) -> Method:
        async def replacement(app: Any, scope: Any, receive: Any, send: Any) -> None:
            await requests.serve(partial(call, app), scope, receive, send)

        return replacement

    return requests, replace


def _wsgi(tracker: SessionTracker | None, expect: Expect, user: User) -> tuple[Requests, Replace]:
    from session_exporter.hooks.wsgi import WsgiRequests  # noqa: PLC0415 - as the others

    requests = WsgiRequests(tracker, expect, user)

    def replace(call: Method) -> Method:
        def replacement(app: Any, environ: Any, start_response: Any) -> Any:
            return requests.serve(partial(call, app), environ, start_response)

        return replacement

    return requests, replace


def _aiohttp(tracker: SessionTracker | None, expect: Expect, user: User) -> tuple[Requests, Replace]:
    from session_exporter.hooks.aiohttp import AiohttpRequests  # noqa: PLC0415 - asyncio, where it is used anyway

    requests = AiohttpRequests(tracker, expect, user)

    def replace(handle_request: Method) -> Method:
        async def replacement(protocol: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
            return await requests.serve(request, lambda: handle_request(protocol, request, *args, **kwargs))

        return replacement

    return requests, replace


_KINDS: Final[Mapping[str, Callable[..., tuple[Requests, Replace]]]] = {
    "asgi": _asgi,
    "wsgi": _wsgi,
    "aiohttp": _aiohttp,
}
