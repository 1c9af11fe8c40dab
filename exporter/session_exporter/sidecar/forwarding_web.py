"""What a forwarder answers over HTTP: metrics, probes, and a page for people."""

from typing import Final

from aiohttp import web

from session_exporter.sidecar import landing
from session_exporter.sidecar.scrapes import Scrapes
from session_exporter.sidecar.service import Scraped
from session_exporter.sidecar.web import bare_app, check_telemetry_path, scraped, unready

_LINKS: Final = {"/-/healthy": "healthy", "/-/ready": "ready"}
_COUNTS_NOTHING: Final = "this is a forwarder, which counts nothing; ask session-exporter serve --source=stream"
_UP: Final = {True: "Forwarding to Redis", False: "Redis is away: events wait on disk"}


def build_app(service: Scraped, *, telemetry_path: str = "/metrics") -> web.Application:
    """Build the application that `listen.serve` serves.

    Args:
        service: The running forwarder.
        telemetry_path: Where the metrics are; `/` leaves out the page.

    Raises:
        ConfigError: `telemetry_path` is no path, or one of the other endpoints.
    """
    check_telemetry_path(telemetry_path)
    app = bare_app()
    endpoints = _ForwarderEndpoints(service, telemetry_path)
    app.on_cleanup.append(endpoints.close)
    probes = {"/-/healthy": endpoints.healthy, "/-/ready": endpoints.ready}
    handlers = {"/": endpoints.page, **probes, "/api/v1/{document}": endpoints.counts_nothing}
    for path, handler in {**handlers, telemetry_path: endpoints.metrics}.items():
        app.router.add_get(path, handler)
    return app


class _ForwarderEndpoints:
    """One method per endpoint."""

    def __init__(self, service: Scraped, telemetry_path: str) -> None:
        self._service = service
        self._telemetry_path = telemetry_path
        self._scrapes = Scrapes(service)

    async def close(self, _app: web.Application) -> None:
        await self._scrapes.close()

    async def metrics(self, request: web.Request) -> web.Response:
        return await scraped(request, self._scrapes)

    async def page(self, _request: web.Request) -> web.Response:
        snapshot = self._service.committed()
        text = _UP[snapshot.forward.up] if snapshot is not None else "Starting"
        links = {self._telemetry_path: "metrics", **_LINKS}
        headers = {"Content-Security-Policy": landing.content_security_policy()}
        return web.Response(text=landing.written(text, links), content_type="text/html", headers=headers)

    async def healthy(self, _request: web.Request) -> web.Response:
        return web.Response(text="session-exporter is healthy.\n")

    async def counts_nothing(self, _request: web.Request) -> web.Response:
        raise web.HTTPNotFound(reason=_COUNTS_NOTHING)

    async def ready(self, _request: web.Request) -> web.Response:
        if self._service.committed() is None:
            return unready()
        return web.Response(text="session-exporter is ready.\n")
