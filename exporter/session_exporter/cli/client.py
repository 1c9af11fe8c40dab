"""Asking a server over HTTP: bounded in time and size, and every failure is a `PeerError` that says what happened."""

import base64
import http.client
import ipaddress
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Self

import msgspec

from session_exporter.core.plaintext import inert
from session_exporter.errors import PeerError
from session_exporter.quantities import format_duration

DEFAULT_URL: Final = "http://127.0.0.1:9897"
TIMEOUT_S: Final = 10.0
# 1,000 incidents, each with 200 events of some 300 bytes; whoever answers with more is no sidecar.
BODY_BYTES_MAX: Final = 64 * 1024 * 1024
_ERROR_BYTES_MAX: Final = 4096
_CHUNK_BYTES: Final = 65_536


class SilentPeerError(PeerError):
    """Nothing listens there, or it kept silent: there is nobody to ask."""


class RefusingPeerError(PeerError):
    """It answered with an error; `status` is the one of HTTP, 400 or more."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Peer:
    """The web address of a server that is asked for JSON objects.

    Attributes:
        kind: What is expected there, as messages call it.
        base_url: Scheme, host, port and path, without credentials; safe to print.
        authorization: The header for a user and password that stood in the URL.
        timeout_s: The longest to wait for the answer to begin, and then for its body to end; seconds.
        body_bytes_max: The longest body accepted.
    """

    kind: ClassVar[str] = "server"
    base_url: str
    authorization: str | None = field(default=None, repr=False)
    timeout_s: float = TIMEOUT_S
    body_bytes_max: int = BODY_BYTES_MAX

    @classmethod
    def at(cls, url: str) -> Self:
        """Read what a person typed: `http://host:9897`, `https://user:password@host/prefix`, or `host:9897`.

        Raises:
            ValueError: It is no HTTP address; the message says what was expected, and repeats no password.
        """
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        _check(parts)
        host = parts.netloc.rpartition("@")[2]
        base_url = urllib.parse.urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        return cls(base_url, _authorization(parts))

    def document(self, path: str, parameters: Mapping[str, str | None]) -> dict[str, Any]:
        """GET a JSON object; parameters that are None are left out.

        Raises:
            SilentPeerError: Nothing listens there, or it kept silent.
            PeerError: The answer is an error, too large, or no JSON object.
        """
        body = self.get(path, parameters)
        try:
            return msgspec.json.decode(body, type=dict[str, Any])
        except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
            raise PeerError(f"{self.base_url} did not answer with a JSON object: {inert(str(exc))}") from exc

    def get(self, path: str, parameters: Mapping[str, str | None]) -> bytes:
        """GET a body; parameters that are None are left out. Raises as `document` does, but for JSON."""
        given = {name: value for name, value in parameters.items() if value is not None}
        url = f"{self.base_url}{path}?{urllib.parse.urlencode(given)}"
        request = urllib.request.Request(url, headers={"Accept": "application/json", "User-Agent": "view-metrics"})  # noqa: S310 - `at` admits http and https only
        if self.authorization:
            # Never to whom a redirect points.
            request.add_unredirected_header("Authorization", self.authorization)
        try:
            with _opener(self.base_url).open(request, timeout=self.timeout_s) as response:
                return self._body(response)
        except urllib.error.HTTPError as exc:
            raise RefusingPeerError(f"{self.base_url} answered {exc.code}{_explanation(exc)}", exc.code) from exc
        except TimeoutError as exc:
            raise SilentPeerError(f"{self.base_url} did not answer within {self.timeout_s:g} s") from exc
        except urllib.error.URLError as exc:
            raise SilentPeerError(f"no {self.kind} answers at {self.base_url}: {inert(str(exc.reason))}") from exc
        except (OSError, http.client.HTTPException, ValueError) as exc:
            said = inert(f"{type(exc).__name__} {exc}".strip())
            raise PeerError(f"{self.base_url} did not answer as a {self.kind} does: {said}") from exc

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        """Read to the end; the socket's timeout bounds one read, the deadline all of them."""
        deadline_s = time.monotonic() + self.timeout_s
        body = bytearray()
        while chunk := response.read1(_CHUNK_BYTES):
            body += chunk
            if len(body) > self.body_bytes_max:
                raise PeerError(f"{self.base_url} answered with more than {self.body_bytes_max} bytes")
            if time.monotonic() > deadline_s:
                raise TimeoutError
        return bytes(body)


@dataclass(frozen=True, slots=True)
class Sidecar(Peer):
    """A sidecar's web address."""

    kind: ClassVar[str] = "sidecar"

    def summary(self, *, since_s: float, scope: str | None) -> dict[str, Any]:
        """Ask for the summary document of the last `since_s` seconds; raises as `document` does."""
        return self.document("/api/v1/summary", {"since": _since(since_s), "scope": scope})

    def incidents(
        self,
        *,
        since_s: float,
        scope: str | None,
        kind: str | None,
        cause: str | None,
        limit: int,
        reason: str | None = None,
        identifier: str | None = None,
        user: str | None = None,
        after: str | None = None,
    ) -> dict[str, Any]:
        """Ask for `limit` incidents of the last `since_s` seconds, the newest first; raises as `document` does.

        With `identifier` or `after` it does not matter how long ago they were.
        """
        since = _since(since_s) if identifier is None and after is None else None
        filters = {"scope": scope, "kind": kind, "cause": cause, "reason": reason, "limit": str(limit)}
        named = {"id": identifier, "user": user, "after": after}
        return self.document("/api/v1/incidents", {"since": since, **filters, **named})

    def lookups(self, *, since_s: float, scope: str | None, limit: int) -> dict[str, Any]:
        """Ask where sessions were looked up, `limit` places of each scope; raises as `document` does."""
        return self.document("/api/v1/lookups", {"since": _since(since_s), "scope": scope, "limit": str(limit)})


def _check(parts: urllib.parse.SplitResult) -> None:
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("expected http://HOST:PORT or https://HOST:PORT")
    if any(not char.isprintable() or char.isspace() for char in parts.netloc + parts.path):
        raise ValueError("expected http://HOST:PORT, without spaces or control characters")
    _ = parts.port  # raises a ValueError of its own when it is no port


def _authorization(parts: urllib.parse.SplitResult) -> str | None:
    if parts.username is None:
        return None
    user, password = (urllib.parse.unquote(part or "") for part in (parts.username, parts.password))
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def _opener(url: str) -> urllib.request.OpenerDirector:
    """A proxy set for the outer world (`http_proxy`) is not asked for what runs on this host."""
    if _is_loopback(urllib.parse.urlsplit(url).hostname or ""):
        return urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _since(since_s: float) -> str:
    return format_duration(round(since_s * 1_000_000))


def _explanation(error: urllib.error.HTTPError) -> str:
    """What the body of an error says, in one line: `{"error": "..."}`, or the first line of a text."""
    try:
        body = error.read(_ERROR_BYTES_MAX)
    except (OSError, http.client.HTTPException):
        return ""
    try:
        text = str(msgspec.json.decode(body, type=dict[str, Any]).get("error", ""))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        text = body.decode("utf-8", "replace").strip().partition("\n")[0]
    return f": {inert(text)}" if text and not text.startswith("<") else f" {inert(error.reason)}"
