"""What the tests of the middleware share: applications on real sockets, and what they tell."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import httpx
import uvicorn
from recorder import Recorder

DEADLINE_S = 10.0


class Turn:
    """Lets the parts of a test happen in one order: `wait` returns once there were so many calls of `next`."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._count = 0

    def next(self) -> None:
        with self._condition:
            self._count += 1
            self._condition.notify_all()

    def wait(self, count: int) -> None:
        with self._condition:
            assert self._condition.wait_for(lambda: self._count >= count, DEADLINE_S)


def by_session(journal: Recorder) -> dict[str, tuple[str, str]]:
    """By session, the request and the user of the last event that tells of it."""
    return {event.session: (event.request, event.user) for event in journal.reports}


def requests_of(journal: Recorder) -> list[str]:
    """The request of every event, in order."""
    return [event.request for event in journal.reports]


class AsgiClient:
    """Calls an ASGI application in process, each time in an event loop of its own; keeps cookies."""

    def __init__(self, app: Any, *, raises: bool = True) -> None:
        self._app = app
        self._raises = raises
        self._cookies = httpx.Cookies()

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        async def main() -> httpx.Response:
            transport = httpx.ASGITransport(self._app, raise_app_exceptions=self._raises)
            async with httpx.AsyncClient(transport=transport, base_url="http://test", cookies=self._cookies) as client:
                response = await client.request(method, url, **options)
                self._cookies = client.cookies
                return response

        return asyncio.run(main())

    def get(self, url: str, **options: Any) -> httpx.Response:
        return self.request("GET", url, **options)


@asynccontextmanager
async def uvicorn_server(app: Any) -> AsyncIterator[str]:
    """Serves an ASGI application; gives `127.0.0.1:port`."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", ws="websockets-sansio", lifespan="auto"))
    serving = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not server.started and not serving.done():  # noqa: ASYNC110 - it tells nobody else
                await asyncio.sleep(0)
        yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = False
    request_queue_size = 128


class _Quiet(WSGIRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def wsgi_server(app: Any) -> Iterator[str]:
    """Serves a WSGI application, each request in a thread of its own; gives `127.0.0.1:port`."""
    with make_server("127.0.0.1", 0, app, server_class=_Server, handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
