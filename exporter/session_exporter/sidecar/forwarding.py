"""The forwarder's process, wired together: pod, web interface, signals."""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import re2  # noqa: F401 - without it, strangers who choose ids would choose how long an expression takes

from session_exporter._version import __version__
from session_exporter.config import Config
from session_exporter.errors import SessionExporterError
from session_exporter.sidecar import forwarding_web, web
from session_exporter.sidecar.heap import give_back_large_blocks
from session_exporter.sidecar.pod import Pod
from session_exporter.sidecar.snapshot import Snapshot
from session_exporter.sidecar.workers import Reloads

logger = logging.getLogger(__name__)

# How long a piece of a backlog may take, and how long to wait when the journal cannot be read.
FORWARD_BUDGET_S: Final = 1.0
RETRY_AFTER_S: Final = 2.0
# After SIGTERM; Kubernetes kills after 30 s.
DRAIN_S: Final = 20.0
DRAIN_EVERY_S: Final = 0.1

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ForwardOptions:
    """What the command line says.

    Attributes:
        load: Reads the configuration, now and at each reload; raises ConfigError.
        journal_directory: Where the workers write.
        state_directory: Where counts are kept.
        listen_addresses: Such as `:9897` or `127.0.0.1:0`.
        telemetry_path: Where the metrics are.
        outlive_workers: Whether to go on after SIGTERM until no worker is left.
        drain_s: How long to go on at most.
    """

    load: Callable[[], Config]
    journal_directory: Path
    state_directory: Path
    listen_addresses: list[str]
    telemetry_path: str = "/metrics"
    outlive_workers: bool = False
    drain_s: float = DRAIN_S


async def run(options: ForwardOptions, config: Config) -> None:
    """Forward until SIGTERM or SIGINT; then send what is left and return.

    Args:
        options: What the command line says.
        config: The configuration, loaded already.

    Raises:
        SessionExporterError: Something that is needed cannot be had: a lock, a directory, an address, Redis' consent.
    """
    give_back_large_blocks()
    reloads = Reloads(time.time())
    with ThreadPoolExecutor(1, "forwarder") as thread:
        make = partial(Pod, config, options.journal_directory, options.state_directory, reloads=reloads)
        pod = await asyncio.get_running_loop().run_in_executor(thread, make)
        forwarding = Forwarding(options, pod, thread, reloads)
        try:
            await forwarding.run()
        finally:
            await forwarding.in_thread(partial(pod.close, leaving=forwarding.all_sent))


class Forwarding:
    """The running forwarder; what the web interface asks is answered here.

    Args:
        options: What the command line says.
        pod: What it works with.
        thread: Where it works: one thread, so that nothing of it runs at the same time.
        reloads: Where it is noted how reloads went.

    Attributes:
        all_sent: Whether everything was sent when it was told to stop.
    """

    def __init__(self, options: ForwardOptions, pod: Pod, thread: ThreadPoolExecutor, reloads: Reloads) -> None:
        self.all_sent = False
        self._options = options
        self._pod = pod
        self._thread = thread
        self._reloads = reloads
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._told_at_s = 0.0
        self._failing = False
        self._reloading: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve and forward until told to stop, then send what is left."""
        loop = asyncio.get_running_loop()
        app = forwarding_web.build_app(self, telemetry_path=self._options.telemetry_path)
        async with web.serve(app, self._options.listen_addresses) as server:
            loop.add_signal_handler(signal.SIGTERM, self._told_to_stop)
            loop.add_signal_handler(signal.SIGINT, self._told_to_stop)
            loop.add_signal_handler(signal.SIGHUP, self._hang_up)
            self._announce(server.urls)
            await self._forward_until_stopped()
            logger.info("stopping", extra={"pid": os.getpid()})
            await self._drain()

    # What the web interface asks.

    async def scrape(self, timeout_s: float) -> Snapshot | None:  # noqa: ARG002 - nothing is waited for
        """Return the newest figures: a scrape neither sends nor waits for Redis."""
        return self._pod.snapshot

    def committed(self) -> Snapshot | None:
        """Return the newest figures."""
        return self._pod.snapshot

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Run something of the pod in its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    # The rest of its life.

    async def _forward_until_stopped(self) -> None:
        while not self._stop.is_set():
            await self._wait_for(self._stop, await self._forward(FORWARD_BUDGET_S))

    async def _forward(self, budget_s: float) -> float:
        """Work for a while; returns how long to wait before the next time."""
        try:
            await self.in_thread(partial(self._pod.cycle, budget_s))
        except SessionExporterError as error:
            if not self._failing:
                logger.error("nothing is forwarded until this is mended: %s", error)  # noqa: TRY400 - told whole
            self._failing = True
            return RETRY_AFTER_S
        except Exception:
            logger.exception("nothing is forwarded: a defect of the forwarder")
            return RETRY_AFTER_S
        self._failing = False
        return 0.0 if self._pod.has_more else self._pod.send_every_s

    async def _drain(self) -> None:
        until_s = self._told_at_s + self._options.drain_s
        while (left_s := until_s - time.monotonic()) > 0 and not self._hurry.is_set():
            # Asked before: what a worker wrote last is sent after it has ended.
            workers = await self.in_thread(self._pod.workers) if self._options.outlive_workers else 0
            wait_s = min(await self._forward(min(left_s, FORWARD_BUDGET_S)), DRAIN_EVERY_S)
            self.all_sent = self._pod.is_drained
            if self.all_sent and not workers:
                break
            await self._wait_for(self._hurry, wait_s)

    async def _wait_for(self, event: asyncio.Event, most_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                await event.wait()

    def _announce(self, urls: Iterable[str]) -> None:
        for url in urls:
            logger.info("listening", extra={"url": url, "version": __version__, "pid": os.getpid()})
        logger.info(
            "forwarding",
            extra={"journal": str(self._options.journal_directory), "state": str(self._options.state_directory)},
        )

    def _told_to_stop(self) -> None:
        if self._stop.is_set():  # told twice: somebody is waiting
            self._hurry.set()
            return
        self._told_at_s = time.monotonic()
        self._stop.set()

    def _hang_up(self) -> None:
        self._reloading = asyncio.get_running_loop().create_task(self._reload())

    async def _reload(self) -> None:
        try:
            config = await asyncio.to_thread(self._options.load)
            await self.in_thread(partial(self._pod.reload, config))
        except SessionExporterError as error:
            self._reloads.successful = False
            logger.error("reload failed, the previous configuration stays in force: %s", error)  # noqa: TRY400 - told whole
            return
        self._reloads.successful, self._reloads.success_at_s = True, time.time()
        logger.info("reloaded")
