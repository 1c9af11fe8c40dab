"""What a request says of itself: its headers, its cookies and the parameters of its route.

A carrier is whatever a framework hands to its handlers: an ASGI scope, a WSGI environment, or the request of Starlette,
Flask, Django or aiohttp. It is told by how it looks; no framework is imported.
"""

import re
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, Protocol

from session_exporter.core.idtext import required_id, shown

# Where a middleware keeps its request, in the scope, the environment or the request.
REQUEST_KEY: Final = "session_exporter.request"

REQUEST_ID: Final = "x-request-id"
THREAD_ID: Final = "x-thread-id"
RUN_ID: Final = "x-run-id"

# What proxies make (UUIDs, hexadecimal, base64) is far shorter; it goes into events and logs, so it is printable.
_TOKEN: Final = re.compile(r"[!-~]{1,128}")


class Carrier(Protocol):
    """One request, as its framework hands it on."""

    @property
    def notes(self) -> Mapping[Any, Any]:
        """Where a middleware keeps what it knows of the request."""

    def header(self, name: str, /) -> str:
        """The value of a header, given in lower case; `""` when there is none."""

    def parameter(self, name: str, /) -> object:
        """The value of a parameter of the route; None when there is none, or while it is not known."""


class ScopeCarrier:
    """An ASGI scope."""

    def __init__(self, scope: MutableMapping[str, Any], notes: Mapping[Any, Any] | None = None) -> None:
        self.notes: Mapping[Any, Any] = scope if notes is None else notes
        self._scope = scope

    def header(self, name: str) -> str:
        """The value of a header; several cookie headers, which HTTP/2 allows, are joined."""
        wanted = name.encode("latin-1")
        values = [value.decode("latin-1") for key, value in self._scope.get("headers", ()) if key.lower() == wanted]
        return "; ".join(values) if name == "cookie" else (values or [""])[-1]

    def parameter(self, name: str) -> object:
        """A parameter of the route, as Starlette and most others leave it in the scope."""
        return _entry(self._scope.get("path_params"), name)


class EnvironCarrier:
    """A WSGI environment."""

    def __init__(self, environ: MutableMapping[str, Any], notes: Mapping[Any, Any] | None = None) -> None:
        self.notes: Mapping[Any, Any] = environ if notes is None else notes
        self._environ = environ

    def header(self, name: str) -> str:
        """The value of a header."""
        return str(self._environ.get(environ_key(name), ""))

    def parameter(self, name: str) -> object:
        """A parameter of the route, as Flask or `wsgiorg.routing_args` has it."""
        request = self._environ.get("werkzeug.request")
        found = _entry(getattr(request, "view_args", None), name)
        if found is not None:
            return found
        named = self._environ.get("wsgiorg.routing_args")
        return _entry(named[1], name) if isinstance(named, tuple | list) and len(named) > 1 else None


class DjangoCarrier(EnvironCarrier):
    """A request of Django, under WSGI or ASGI."""

    def __init__(self, request: Any) -> None:
        super().__init__(request.META, getattr(request, "scope", None))
        self._request = request

    def parameter(self, name: str) -> object:
        """A parameter of the route, once that is resolved."""
        return _entry(getattr(getattr(self._request, "resolver_match", None), "kwargs", None), name)


class AiohttpCarrier:
    """A request of aiohttp's server."""

    def __init__(self, request: Any) -> None:
        self.notes: Mapping[Any, Any] = request
        self._request = request

    def header(self, name: str) -> str:
        """The value of a header; its names know no case."""
        return str(self._request.headers.get(name, ""))

    def parameter(self, name: str) -> object:
        """A parameter of the route, once that is resolved."""
        return _entry(getattr(self._request, "match_info", None), name)


def carrier_of(request: Any) -> Carrier:
    """Find out what a request is.

    Raises:
        TypeError: It is none that is known.
    """
    if isinstance(getattr(request, "META", None), dict):
        return DjangoCarrier(request)
    if isinstance(environ := getattr(request, "environ", None), dict):
        return EnvironCarrier(environ)
    if isinstance(scope := getattr(request, "scope", None), MutableMapping):
        return ScopeCarrier(scope)
    if hasattr(request, "headers") and hasattr(request, "match_info"):
        return AiohttpCarrier(request)
    if isinstance(request, MutableMapping):
        if "REQUEST_METHOD" in request:
            return EnvironCarrier(request)
        if "headers" in request and "type" in request:
            return ScopeCarrier(request)
    raise TypeError(
        "request must be a request of Starlette, Flask, Django or aiohttp, an ASGI scope or a WSGI environment, "
        f"got {shown(request)}"
    )


def said_ids(carrier: Carrier) -> dict[str, str]:
    """The ids that the headers name, by the names of a RequestContext's fields; only those that are usable."""
    found = {
        "request_id": request_token(carrier.header(REQUEST_ID)),
        "thread_id": usable_id(carrier.header(THREAD_ID)),
        "run_id": usable_id(carrier.header(RUN_ID)),
    }
    return {name: value for name, value in found.items() if value}


def request_token(text: str) -> str:
    """The text when it may serve as a request id, else `""`: strangers write it.

    At most 128 printable characters of ASCII without blanks, and no placeholder.
    """
    return usable_id(text) if _TOKEN.fullmatch(text) else ""


def usable_id(text: str) -> str:
    """The text, canonical, when it may serve as an id, else `""`."""
    if not text:
        return ""
    try:
        return required_id("id", text)
    except ValueError:
        return ""


def environ_key(header: str) -> str:
    """Where a WSGI environment has a header."""
    return f"HTTP_{header.upper().replace('-', '_')}"


def cookie_in(header: str, name: str) -> str:
    """The value of a cookie in a `Cookie` header; the last one of that name, as frameworks have it; `""` if none.

    As lenient as browsers are: what is no cookie is passed over.
    """
    begin = header.rfind(f"{name}=")
    if begin > 0 and not header[:begin].rstrip().endswith(";"):  # within another name, or a value: look at each
        found = _last_pair(header, name)
    elif begin >= 0:
        end = header.find(";", begin)
        found = header[begin + len(name) + 1 : None if end < 0 else end].strip()
    else:
        return ""
    return _unquoted(found) if found.startswith('"') else found


def _last_pair(header: str, name: str) -> str:
    pairs = (pair.partition("=") for pair in header.split(";"))
    return ([value.strip() for key, _, value in pairs if key.strip() == name] or [""])[-1]


def _unquoted(value: str) -> str:
    from http.cookies import CookieError, SimpleCookie  # noqa: PLC0415 - milliseconds, and few cookies have quotes

    try:
        return SimpleCookie(f"cookie={value}")["cookie"].value
    except (CookieError, KeyError):
        return value


def _entry(parameters: object, name: str) -> object:
    return parameters.get(name) if isinstance(parameters, Mapping) else None
