"""One drain and one rendering for all scrapes that arrive together, within the deadline of each."""

import asyncio
import gzip
import logging
from typing import Final, NamedTuple

from session_exporter.sidecar.negotiation import accepts_gzip, metrics_format
from session_exporter.sidecar.rendering import render
from session_exporter.sidecar.service import Scraped
from session_exporter.sidecar.snapshot import Snapshot

logger = logging.getLogger(__name__)

# Of a scrape's timeout: what a drain may take, and how long the scrape waits for a drain that takes longer. The rest is
# for rendering and the way back.
DRAIN_SHARE: Final = 0.5
WAIT_SHARE: Final = 0.75


class Page(NamedTuple):
    """The answer to a scrape; `coding` is its Content-Encoding, `""` for none."""

    body: bytes
    content_type: str
    coding: str


class Scrapes:
    """Answers scrapes from the newest committed state; belongs to one event loop."""

    def __init__(self, service: Scraped) -> None:
        self._service = service
        self._running: asyncio.Task[Snapshot | None] | None = None
        self._next: asyncio.Task[Snapshot | None] | None = None
        self._snapshot: Snapshot | None = None
        self._pages: dict[tuple[str, bool], asyncio.Task[Page]] = {}

    async def page(self, accept: str, accept_encoding: str, timeout_s: float) -> Page | None:
        """Answer one scrape.

        Args:
            accept: The Accept header, `""` for none.
            accept_encoding: The Accept-Encoding header, `""` for none.
            timeout_s: When the client gives up, seconds from now.

        Returns:
            None before the first commit.
        """
        snapshot = await self._newest(timeout_s)
        if snapshot is None:
            return None
        return await asyncio.shield(self._rendered(snapshot, metrics_format(accept), accepts_gzip(accept_encoding)))

    async def close(self) -> None:
        """Cancel the drains and renderings that nobody waits for any more."""
        tasks = [task for task in (self._running, self._next, *self._pages.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _newest(self, timeout_s: float) -> Snapshot | None:
        try:
            async with asyncio.timeout(timeout_s * WAIT_SHARE):
                return await asyncio.shield(self._drain(timeout_s * DRAIN_SHARE))
        except TimeoutError:
            logger.warning("A scrape is answered with the last commit: the drain takes longer than its timeout allows")
        return self._service.committed()

    def _drain(self, budget_s: float) -> asyncio.Task[Snapshot | None]:
        """Join the drain that has not begun yet: one under way may have passed what was recorded before this scrape."""
        if self._next is None:
            self._next = asyncio.create_task(self._drain_after(self._running, budget_s))
        return self._next

    async def _drain_after(self, previous: asyncio.Task[Snapshot | None] | None, budget_s: float) -> Snapshot | None:
        if previous is not None:
            await asyncio.wait([previous])
        self._running, self._next = self._next, None
        try:
            return await self._service.scrape(budget_s)
        except Exception:
            logger.exception("Scrapes are answered with the last commit: the drain failed")
            return self._service.committed()

    def _rendered(self, snapshot: Snapshot, wanted: str, compressed: bool) -> asyncio.Task[Page]:  # noqa: FBT001 - a key
        if snapshot is not self._snapshot:
            self._snapshot, self._pages = snapshot, {}
        task = self._pages.get((wanted, compressed))
        if task is None:
            task = asyncio.create_task(asyncio.to_thread(_page, snapshot, wanted, compressed=compressed))
            self._pages[wanted, compressed] = task
        return task


def _page(snapshot: Snapshot, wanted: str, *, compressed: bool) -> Page:
    body, content_type = render(snapshot, wanted)
    return Page(gzip.compress(body, mtime=0), content_type, "gzip") if compressed else Page(body, content_type, "")
