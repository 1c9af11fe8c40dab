"""A sidecar that does as it is told, served on a real socket."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import aiohttp
import pytest
from yarl import URL

from session_exporter.core.totals import LedgerTotals, ScopeTotals
from session_exporter.sidecar.incidents import Wanted
from session_exporter.sidecar.snapshot import Snapshot
from session_exporter.sidecar.web import build_app, serve

GENEROUS_S = 30.0


def snapshot_of(creates: int) -> Snapshot:
    return Snapshot(LedgerTotals(scopes={"default": ScopeTotals(born_us=1, creates=creates)}), committed_at_us=1)


@dataclass
class FakeService:
    """A sidecar whose every drain finds one create more; `on_scrape` runs inside of the drain."""

    newest: Snapshot | None = field(default_factory=lambda: snapshot_of(0))
    document: dict[str, Any] = field(default_factory=lambda: {"healthy": True, "problems": []})
    failure: Exception | None = None
    on_scrape: Callable[[], Any] | None = None
    drains: int = 0
    budgets_s: list[float] = field(default_factory=list)
    asked: list[tuple[str, Any]] = field(default_factory=list)

    async def scrape(self, timeout_s: float) -> Snapshot | None:
        self.drains += 1
        self.budgets_s.append(timeout_s)
        if self.newest is not None:
            self.newest = snapshot_of(self.drains)
        if self.on_scrape is not None:
            await self.on_scrape()
        return self.newest

    def committed(self) -> Snapshot | None:
        return self.newest

    def ready(self) -> bool:
        return self.newest is not None

    async def summary(self, since_s: float, scope: str | None) -> dict[str, Any]:
        return self._answer("summary", since_s, scope)

    async def incidents(self, wanted: Wanted) -> dict[str, Any]:
        self._answer("incidents", wanted, wanted.scope)
        return {"incidents": [{"id": "d-1f3a9c0b2e"}] if wanted.id in {None, "d-1f"} else [], "next": "0-1"}

    async def lookups(self, **wanted: Any) -> dict[str, Any]:
        return self._answer("lookups", wanted, wanted["scope"])

    async def hooks(self) -> dict[str, Any]:
        return self._answer("hooks", None, None)

    async def db_sessions(self) -> dict[str, Any]:
        return self._answer("db_sessions", None, None)

    async def reload(self) -> None:
        self._answer("reload", None, None)

    async def quit(self) -> None:
        self._answer("quit", None, None)

    def _answer(self, method: str, wanted: Any, scope: str | None) -> dict[str, Any]:
        self.asked.append((method, wanted))
        if self.failure is not None:
            raise self.failure
        if scope not in {None, "default"}:
            raise KeyError(scope)
        return self.document


class Answer(NamedTuple):
    status: int
    headers: Any
    body: bytes

    @property
    def error(self) -> str:
        return json.loads(self.body)["error"]


class Site:
    """A served application, its own event loop, and a client."""

    def __init__(self, service: FakeService | None = None, **options: Any) -> None:
        self.service = service or FakeService()
        self._options = options
        self.runner = asyncio.Runner()

    def __enter__(self) -> Self:
        self.runner.__enter__()
        self.server = serve(build_app(self.service, **self._options), ["127.0.0.1:0"])
        self.runner.run(self.server.__aenter__())
        self.client = self.runner.run(self._client())
        return self

    async def _client(self) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(total=GENEROUS_S)
        return aiohttp.ClientSession(auto_decompress=False, timeout=timeout, skip_auto_headers=["Accept-Encoding"])

    def __exit__(self, *error: object) -> None:
        self.runner.run(self.client.close())
        self.runner.run(self.server.close())
        self.runner.__exit__(None, None, None)

    async def ask(self, target: str, method: str = "GET", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        url = URL(self.server.urls[0] + target, encoded=True)
        async with self.client.request(method, url, headers=named) as response:
            return Answer(response.status, response.headers, await response.read())

    def request(self, target: str, method: str = "GET", **headers: str) -> Answer:
        return self.runner.run(self.ask(target, method, **headers))

    async def send(self, raw: bytes) -> bytes:
        address = URL(self.server.urls[0])
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(raw)
        writer.write_eof()
        async with asyncio.timeout(GENEROUS_S):
            received = await reader.read()
        writer.close()
        await writer.wait_closed()
        return received


@pytest.fixture(scope="session")
def make_site() -> Callable[..., Site]:
    """Make a site to be entered: `committed=False` is one before its first commit, the rest is for `build_app`."""

    def make(*, committed: bool = True, **options: Any) -> Site:
        return Site(FakeService(newest=snapshot_of(0) if committed else None), **options)

    return make


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Iterator[Site]:
    with make_site() as running:
        yield running


@pytest.fixture(scope="module")
def long_lived(make_site: Callable[..., Site]) -> Iterator[Site]:
    with make_site() as running:
        yield running
