"""Requests of WSGI applications: Flask, Django and all others.

The request ends when the server closes the response's body, which it does even when the client has gone; a body that
has no `close` of its own ends it when it is exhausted. The application is in the request while it makes each part of
the body, and while it closes it, but not in between: the thread may serve others meanwhile.

What the server sends by itself is handed on as it is, and ends the request at once: lists and tuples of parts, and
files in its `wsgi.file_wrapper`.
"""

from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any, Final, TypeAlias

from session_exporter.core.carriers import REQUEST_KEY, environ_key
from session_exporter.inquiries import Expect, User
from session_exporter.serving import Serving, Stay, request_of
from session_exporter.tracker import SessionTracker

Environ: TypeAlias = MutableMapping[str, Any]
Application: TypeAlias = Callable[[Any, Any], Iterable[bytes]]

HOOK: Final = "wsgi"


class Middleware:
    """WSGI middleware: begins a request for every HTTP request.

    Where two of them are around one application, there is one request; the inner one adds what the outer one was not
    told to look for.

    Args:
        app: The application.
        tracker: The application's, if it has one.
        expect: Where the request says which session it expects: `cookie("sid")`, `header("x-session")`, `path("id")`,
            a callable that takes the WSGI environment and returns an id or None, or several of them. Cookies and
            headers are read when the request begins, parameters of the route once it is routed; a callable is asked
            when it begins and, as long as it answers None, until it ends.
        user: Where the user's id is once somebody has found it out: a callable that takes the environment, or a path: a
            key of the environment such as `REMOTE_USER`, or in Flask from `session`, `g` or `request` on
            (`session.user_id`), or in Django from the request on (`user.pk`). Asked whenever an event needs the user
            and nobody knows; never loads anything from a database by itself.

    Raises:
        TypeError: `expect` or `user` is nothing of the kind.
    """

    def __init__(
        self, app: Application, *, tracker: SessionTracker | None = None, expect: Expect = (), user: User = None
    ) -> None:
        self.app = app
        self._requests = WsgiRequests(tracker, expect, user)

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Answer one request."""
        return self._requests.serve(self.app, environ, start_response)


class WsgiRequests:
    """Begins and ends the requests of WSGI applications; arguments as of the middleware."""

    def __init__(self, tracker: SessionTracker | None, expect: Expect, user: User) -> None:
        self._serving = Serving(HOOK, tracker, expect, user)
        self._wanted = [(environ_key(name), name) for name in self._serving.headers]

    def close(self) -> None:
        """Leave applications alone from now on."""
        self._serving.close()

    def serve(self, app: Application, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Have the application answer one request."""
        visit = self._begin(environ)
        if visit is None:
            return app(environ, start_response)
        try:
            body = app(environ, start_response)
        except BaseException:
            visit.leave()
            visit.end()
            raise
        visit.leave()
        return visit.accompany(body)

    def _begin(self, environ: Environ) -> "_Visit | None":
        if not self._serving.active:
            return None
        try:
            said = {name: str(environ[key]) for key, name in self._wanted if key in environ}
            noted = request_of(environ)
            if noted is not None:
                self._serving.join(noted, said, environ)
                return None
            request = self._serving.begin(said, environ)
            environ[REQUEST_KEY] = request
            visit = _Visit(self._serving, environ, Stay(request))
            visit.enter()
        except Exception as error:  # noqa: BLE001 - counted; the application answers without it
            self._serving.count_failure(error)
            return None
        return visit


class _Visit:
    """One request on its way through the application; no call raises an Exception."""

    def __init__(self, serving: Serving, environ: Environ, stay: Stay) -> None:
        self._serving = serving
        self._environ = environ
        self._stay = stay
        self._ended = False

    def enter(self) -> None:
        """Be in the request."""
        try:
            self._stay.enter()
        except Exception as error:  # noqa: BLE001 - counted
            self._serving.count_failure(error)

    def leave(self) -> None:
        """Be out of it."""
        try:
            self._stay.leave()
        except Exception as error:  # noqa: BLE001 - counted
            self._serving.count_failure(error)

    def end(self) -> None:
        """End the request, once."""
        if self._ended:
            return
        self._ended = True
        try:
            self._environ.pop(REQUEST_KEY, None)
            self._serving.end(self._stay.request)
        except Exception as error:  # noqa: BLE001 - counted
            self._serving.count_failure(error)

    def accompany(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """The body, made within the request as far as the application still has to make it."""
        try:
            if type(body) in {list, tuple} or self._is_file(body):
                self.end()
                return body
            return _kind_of(body)(body, self)
        except Exception as error:  # noqa: BLE001 - counted; the body is the application's
            self._serving.count_failure(error)
            return body

    def _is_file(self, body: object) -> bool:
        wrapper = self._environ.get("wsgi.file_wrapper")
        if isinstance(wrapper, type):
            return isinstance(body, wrapper)
        return wrapper is not None and hasattr(body, "read")  # uWSGI's is a function and returns the file itself


class _Parts:
    """The parts of a body, one after the other, each made within the request."""

    def __init__(self, parts: Iterator[bytes], body: "_Body", visit: _Visit, *, ends: bool) -> None:
        self._parts = parts
        self._body = body  # which is not thrown away before its parts are
        self._visit = visit
        self._ends = ends

    def __iter__(self) -> "_Parts":
        return self

    def __next__(self) -> bytes:
        self._visit.enter()
        try:
            return next(self._parts)
        except BaseException:
            if self._ends:
                self._visit.end()
            raise
        finally:
            self._visit.leave()


class _Body:
    """A body whose parts are made, and which is closed, within the request; otherwise the application's own."""

    def __init__(self, body: Any, visit: _Visit) -> None:
        self._body = body
        self._visit = visit

    def __iter__(self) -> Iterator[bytes]:
        self._visit.enter()
        try:
            parts = iter(self._body)
        finally:
            self._visit.leave()
        return _Parts(parts, self, self._visit, ends=not hasattr(self._body, "close"))

    def close(self) -> None:
        """Close the application's body, if it can be closed."""
        self._visit.enter()
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._visit.leave()
            self._visit.end()

    def __getattr__(self, name: str) -> Any:
        """What else servers and other middleware look for in a body, such as `fileno`."""
        if name == "_body":  # of a copy that was never made whole
            raise AttributeError(name)
        return getattr(self._body, name)

    def __del__(self) -> None:
        """End the request of a body that nobody has closed."""
        self.__dict__["_visit"].end()


class _SizedBody(_Body):
    """One that says how many parts it has; servers tell the length of a body of one part from that."""

    def __len__(self) -> int:
        return len(self._body)


class _IteratorBody(_Body):
    """One that gives its parts without being asked for an iterator, as generators do."""

    def __next__(self) -> bytes:
        return next(iter(self))


def _kind_of(body: Iterable[bytes]) -> type[_Body]:
    if hasattr(type(body), "__len__"):
        return _SizedBody
    return _IteratorBody if hasattr(type(body), "__next__") else _Body
