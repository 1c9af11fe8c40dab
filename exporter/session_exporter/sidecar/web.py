"""The HTTP interface: metrics for Prometheus, probes for orchestrators, documents for people and programs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import msgspec
from aiohttp import hdrs, web

from session_exporter.core.documents import ask_others
from session_exporter.errors import ConfigError, QueryError, SessionExporterError
from session_exporter.sidecar import landing, queries
from session_exporter.sidecar.incidents import Wanted
from session_exporter.sidecar.listen import Server, serve
from session_exporter.sidecar.scrapes import Scrapes
from session_exporter.sidecar.service import Service

__all__ = ["Server", "Service", "build_app", "serve"]

logger = logging.getLogger(__name__)

# Nothing that is asked here has a body worth reading.
BODY_BYTES_MAX: Final = 16 * 1024
# A landing page is worth no longer wait; the verdict is then missing.
LANDING_TIMEOUT_S: Final = 2.0

# Without the versions of the server's parts, which the library has put there by then.
_SERVER: Final = "session-exporter"
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_NOT_READY: Final = "not ready: nothing has been committed since the start"
_LIFECYCLE_OFF: Final = "the lifecycle interface is disabled: start session-exporter with --web.enable-lifecycle"

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(service: Service, *, telemetry_path: str = "/metrics", enable_lifecycle: bool = False) -> web.Application:
    """Build the application that `serve` serves.

    Args:
        service: The running sidecar.
        telemetry_path: Where the metrics are; `/` leaves out the landing page.
        enable_lifecycle: Whether POST /-/reload and /-/quit do what they say.

    Raises:
        ConfigError: `telemetry_path` is no path, or one of the other endpoints.
    """
    check_telemetry_path(telemetry_path)
    app = bare_app()
    endpoints = _Endpoints(service, telemetry_path)
    app.on_cleanup.append(endpoints.close)
    for path, handler in {**endpoints.readable(), telemetry_path: endpoints.metrics}.items():
        app.router.add_get(path, handler)
    for path, handler in {"/-/reload": endpoints.reload, "/-/quit": endpoints.quit}.items():
        for method in (hdrs.METH_POST, hdrs.METH_PUT):
            app.router.add_route(method, path, handler if enable_lifecycle else _forbidden)
    return app


def bare_app() -> web.Application:
    """An application without endpoints, whose errors are JSON and whose answers have the headers of all."""
    app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[_errors_as_json])
    app.on_response_prepare.append(_add_headers)
    return app


def check_telemetry_path(path: str) -> None:
    """Raise ConfigError when it is no path for metrics."""
    plain = path.startswith("/") and not path.startswith("//") and path.isascii() and path.isprintable()
    if not plain or set(path) & set(' {}?#%"<>\\') or path.startswith(("/-/", "/api/")):
        raise ConfigError(
            f"web.telemetry-path {path!r}: expected a path such as /metrics, in ASCII, not below /-/ or /api/"
        )


class _Endpoints:
    """One method per endpoint."""

    def __init__(self, service: Service, telemetry_path: str) -> None:
        self._service = service
        self._telemetry_path = telemetry_path
        self._scrapes = Scrapes(service)

    def readable(self) -> dict[str, Handler]:
        """Name the endpoints for GET and HEAD, the metrics aside."""
        return {
            "/": self.landing,
            "/-/healthy": self.healthy,
            "/-/ready": self.ready,
            "/api/v1/summary": self.summary,
            "/api/v1/incidents": self.incidents,
            "/api/v1/lookups": self.lookups,
            "/api/v1/hooks": self.hooks,
            "/api/v1/db-sessions": self.db_sessions,
        }

    async def close(self, _app: web.Application) -> None:
        await self._scrapes.close()

    async def metrics(self, request: web.Request) -> web.Response:
        return await scraped(request, self._scrapes)

    async def landing(self, _request: web.Request) -> web.Response:
        judgement, problems = await self._verdict()
        text = landing.page(self._telemetry_path, judgement, problems)
        headers = {"Content-Security-Policy": landing.content_security_policy()}
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def _verdict(self) -> tuple[str, list[str]]:
        if not self._service.ready():
            return "Starting: nothing has been committed yet", []
        try:
            async with asyncio.timeout(LANDING_TIMEOUT_S):
                summary = await self._service.summary(queries.SINCE_DEFAULT_S, None)
        except Exception:
            logger.exception("The landing page is shown without a verdict")
            return "Cannot tell: the summary is not available; see the sidecar's log", []
        exporter = summary.get("exporter", {})
        told = (*summary.get("problems", ()), exporter.get("hint"), *exporter.get("notes", ()))
        return landing.verdict(summary), [str(each) for each in told if each]

    async def healthy(self, _request: web.Request) -> web.Response:
        return web.Response(text="session-exporter is healthy.\n")

    async def ready(self, _request: web.Request) -> web.Response:
        if not self._service.ready():
            return unready()
        return web.Response(text="session-exporter is ready.\n")

    async def summary(self, request: web.Request) -> web.Response:
        query = queries.only(request.query, ("since", "scope"))
        since_s, scope = queries.since_s(query), queries.scope(query)
        return await _answer(self._service.summary(since_s, scope), scope)

    async def incidents(self, request: web.Request) -> web.Response:
        wanted = queries.wanted(queries.only(request.query, queries.INCIDENT_PARAMETERS))
        return await _answer(self._incidents(wanted), wanted.scope)

    async def _incidents(self, wanted: Wanted) -> dict[str, Any]:
        document = await self._service.incidents(wanted)
        if wanted.id is not None and not document["incidents"]:
            unknown = f"id: {wanted.id!a}: no incident has this id, or one that begins like it"
            raise web.HTTPNotFound(reason=unknown + ask_others(document))
        return document

    async def lookups(self, request: web.Request) -> web.Response:
        query = queries.only(request.query, ("since", "scope", "limit"))
        since_s, scope, limit = queries.since_s(query), queries.scope(query), queries.limit(query)
        return await _answer(self._service.lookups(since_s=since_s, scope=scope, limit=limit), scope)

    async def hooks(self, request: web.Request) -> web.Response:
        queries.only(request.query, ())
        return await _answer(self._service.hooks())

    async def db_sessions(self, request: web.Request) -> web.Response:
        queries.only(request.query, ())
        return await _answer(self._service.db_sessions())

    async def reload(self, _request: web.Request) -> web.Response:
        try:
            await self._service.reload()
        except ConfigError as error:
            # The file is at fault, not the request: 500, as Prometheus and its exporters answer.
            return _error(500, f"the configuration was not reloaded: {error}")
        return _json({"status": "reloaded"})

    async def quit(self, _request: web.Request) -> web.Response:
        await self._service.quit()
        return _json({"status": "stopping"})


async def scraped(request: web.Request, scrapes: Scrapes) -> web.Response:
    """Answer a scrape."""
    timeout_s = queries.scrape_timeout_s(request.headers.get(queries.SCRAPE_TIMEOUT_HEADER))
    accept, coding = (_header(request, name) for name in (hdrs.ACCEPT, hdrs.ACCEPT_ENCODING))
    page = await scrapes.page(accept, coding, timeout_s)
    if page is None:
        return unready()
    headers = {"Content-Type": page.content_type, "Vary": "Accept, Accept-Encoding"}
    if page.coding:
        headers["Content-Encoding"] = page.coding
    return web.Response(body=page.body, headers=headers)


def unready() -> web.Response:
    """Answer whoever asks too early."""
    return _error(503, _NOT_READY, {"Retry-After": "1"})


async def _forbidden(_request: web.Request) -> web.Response:
    return _error(403, _LIFECYCLE_OFF)


async def _answer(document: Awaitable[dict[str, Any]], scope: str | None = None) -> web.Response:
    try:
        return _json(await document)
    except KeyError:
        if scope is None:
            raise
        return _error(404, f"scope: {scope!a}: no scope has this name; /api/v1/summary lists them")


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except QueryError as error:
        return _error(400, str(error))
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return _error(
            error.status, f"method {request.method} is not allowed here: expected {allowed}", {"Allow": allowed}
        )
    except web.HTTPException as error:
        return _error(error.status, error.reason.lower())
    except SessionExporterError as error:
        return _error(503, str(error))
    except Exception:
        logger.exception("A request to %s failed", request.path)
        return _error(500, "internal error; see the sidecar's log")


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = _SERVER
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)


def _header(request: web.Request, name: str) -> str:
    return ", ".join(request.headers.getall(name, ()))


def _json(document: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    # msgspec writes NaN as null; the standard library would write what no other parser reads.
    body = msgspec.json.encode(document)
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return _json({"error": message}, status, headers)
