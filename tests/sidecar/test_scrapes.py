"""Drains and renderings, shared."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families as parse_text

from session_exporter.core.totals import LedgerTotals, ScopeTotals
from session_exporter.sidecar.scrapes import Scrapes
from session_exporter.sidecar.snapshot import Snapshot

GENEROUS_S = 30.0


def snapshot_of(creates: int) -> Snapshot:
    return Snapshot(LedgerTotals(scopes={"default": ScopeTotals(born_us=1, creates=creates)}), committed_at_us=1)


class FakeService:
    """Every drain finds one create more; `on_scrape` runs inside of the drain."""

    def __init__(self, on_scrape: Callable[[], Awaitable[Any]], *, finds_more: bool = True) -> None:
        self.finds_more = finds_more
        self.on_scrape = on_scrape
        self.budgets_s: list[float] = []
        self.drains = 0
        self.newest = snapshot_of(0)

    async def scrape(self, timeout_s: float) -> Snapshot | None:
        self.drains += 1
        self.budgets_s.append(timeout_s)
        drained = snapshot_of(self.drains)
        await self.on_scrape()
        if self.finds_more:
            self.newest = drained
        return self.newest

    def committed(self) -> Snapshot | None:
        return self.newest


async def at_once() -> None:
    """Drain nothing."""


def creates(body: bytes) -> float:
    families = {family.name: family for family in parse_text(body.decode())}
    return next(s.value for s in families["session_creates"].samples if s.name == "session_creates_total")


def test_scrapes_that_arrive_during_a_drain_share_the_next_one_which_began_after_them() -> None:
    async def scenario() -> None:
        began, finish = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            began.set()
            await finish.wait()

        service = FakeService(on_scrape=hold)
        scrapes = Scrapes(service)
        first = asyncio.create_task(scrapes.page("", "", GENEROUS_S))
        await began.wait()
        later = [asyncio.create_task(scrapes.page("", "", GENEROUS_S)) for _ in range(20)]
        await asyncio.sleep(0)  # each of them takes its first step
        assert service.drains == 1
        finish.set()
        pages = await asyncio.gather(first, *later)
        assert [creates(page.body) for page in pages] == [1] + [2] * 20
        assert service.budgets_s == [GENEROUS_S / 2] * 2
        assert all(page is pages[1] for page in pages[1:]), "rendered more than once"
        await scrapes.close()

    asyncio.run(scenario())


def test_a_snapshot_is_rendered_once_per_format() -> None:
    async def scenario() -> None:
        service = FakeService(at_once, finds_more=False)
        scrapes = Scrapes(service)
        accepts = ["", "text/plain; version=1.0.0", "application/openmetrics-text"] * 3
        pages = [await scrapes.page(accept, coding, GENEROUS_S) for coding in ("", "gzip") for accept in accepts]
        assert len({id(page) for page in pages}) == 6
        await scrapes.close()

    asyncio.run(scenario())


def test_a_client_that_gives_up_does_not_cancel_the_drain_of_the_others() -> None:
    async def scenario() -> None:
        began, finish = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            began.set()
            await finish.wait()

        scrapes = Scrapes(FakeService(on_scrape=hold))
        impatient, patient = (asyncio.create_task(scrapes.page("", "", GENEROUS_S)) for _ in range(2))
        await began.wait()
        impatient.cancel()
        finish.set()
        assert creates((await patient).body) == 1
        await scrapes.close()

    asyncio.run(scenario())
