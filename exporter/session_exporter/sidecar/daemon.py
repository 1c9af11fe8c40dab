"""The sidecar, wired together: engine, web interface, signals. Whoever reads this file sees the whole program."""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import re2  # noqa: F401 - without it, strangers who choose ids would choose how long an expression takes

from session_exporter._version import __version__
from session_exporter.config import Config
from session_exporter.errors import PartitionTaken, SessionExporterError
from session_exporter.sidecar import alarms, incidents, lookups, summary, web
from session_exporter.sidecar.engine import Engine
from session_exporter.sidecar.heap import give_back_large_blocks
from session_exporter.sidecar.intake import Intake, JournalIntake
from session_exporter.sidecar.snapshot import Snapshot
from session_exporter.sidecar.workers import Reloads

logger = logging.getLogger(__name__)

# How often the journal is drained without a scrape, how long a piece of a backlog may take, and how long to wait after
# a failed commit.
DRAIN_EVERY_S: Final = 0.5
DRAIN_BUDGET_S: Final = 1.0
RETRY_AFTER_S: Final = 2.0
# How long a scrape waits for what has come through a stream, of which it need not show the last second.
STREAM_WAIT_S: Final = 1.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says.

    Attributes:
        load: Reads the configuration, now and at each reload; raises ConfigError.
        journal_directory: Where the workers write; None to count what forwarders send through streams.
        state_directory: Where the state is.
        listen_addresses: Such as `:9897` or `127.0.0.1:0`.
        telemetry_path: Where the metrics are.
        enable_lifecycle: Whether `/-/reload` and `/-/quit` may be asked for.
        partitions: Which of the streams; None for all.
    """

    load: Callable[[], Config]
    journal_directory: Path | None
    state_directory: Path
    listen_addresses: list[str]
    telemetry_path: str = "/metrics"
    enable_lifecycle: bool = False
    partitions: frozenset[int] | None = None


async def run(options: Options, config: Config) -> None:
    """Run the sidecar until SIGTERM, SIGINT or `/-/quit`; then commit and return.

    What waits in a journal is judged before: nothing more comes. Of a stream it is left for the next start, since other
    hosts go on.

    Args:
        options: What the command line says.
        config: The configuration, loaded already.

    Raises:
        PartitionTaken: Another consumer counts a partition.
        SessionExporterError: Something that is needed cannot be had: a lock, a directory, an address.
    """
    give_back_large_blocks()
    reloads = Reloads(time.time())
    with ThreadPoolExecutor(1, "engine") as thread:
        make = partial(Engine, config, _intake(options), options.state_directory)
        call = partial(make, reloads=reloads, on_incident=alarms.log)
        engine = await asyncio.get_running_loop().run_in_executor(thread, call)
        daemon = Daemon(options, engine, thread, reloads)
        try:
            await daemon.run()
        finally:
            await daemon.in_thread(engine.close)
    logger.info("stopped", extra={"pid": os.getpid()})


def _intake(options: Options) -> Intake:
    if options.journal_directory is not None:
        return JournalIntake(options.journal_directory)
    from session_exporter.sidecar.stream_intake import StreamIntake  # noqa: PLC0415 - redis is an extra

    return StreamIntake(options.partitions)


class Daemon:
    """The running sidecar; what the web interface asks is answered here.

    Args:
        options: What the command line says.
        engine: The one consumer.
        thread: Where it works: one thread, so that nothing of it runs at the same time.
        reloads: Where it is noted how reloads went.
    """

    def __init__(self, options: Options, engine: Engine, thread: ThreadPoolExecutor, reloads: Reloads) -> None:
        self._options = options
        self._engine = engine
        self._thread = thread
        self._reloads = reloads
        self._stop = asyncio.Event()
        self._turn = asyncio.Lock()
        self._reloading: asyncio.Task[None] | None = None
        self._senders = "workers" if options.journal_directory is not None else "forwarders"
        self._senders_seen = False
        self._awaited: asyncio.Task[Snapshot | None] | None = None
        self._taken: PartitionTaken | None = None

    async def run(self) -> None:
        """Serve and drain until told to stop.

        Raises:
            PartitionTaken: Another consumer counts from now on what was counted here.
        """
        loop = asyncio.get_running_loop()
        app = web.build_app(
            self, telemetry_path=self._options.telemetry_path, enable_lifecycle=self._options.enable_lifecycle
        )
        async with web.serve(app, self._options.listen_addresses) as server:
            loop.add_signal_handler(signal.SIGTERM, self._stop.set)
            loop.add_signal_handler(signal.SIGINT, self._stop.set)
            loop.add_signal_handler(signal.SIGHUP, self._hang_up)
            self._announce(server.urls)
            await self._drain_until_stopped()
            logger.info("stopping", extra={"pid": os.getpid()})
        if self._awaited is not None:
            self._awaited.cancel()
        if self._taken is not None:
            raise self._taken

    # What the web interface asks.

    async def scrape(self, timeout_s: float) -> Snapshot | None:
        """Drain, commit, and return the newest committed snapshot; nobody waits for a Redis that does not answer."""
        if self._options.journal_directory is not None:
            return await self._cycle(timeout_s)
        snapshot = self._engine.snapshot
        if snapshot is not None and not snapshot.stream.up:
            return snapshot
        if self._awaited is None or self._awaited.done():
            self._awaited = asyncio.create_task(self._cycle(timeout_s))
            self._awaited.add_done_callback(_heard)
            await asyncio.wait([self._awaited], timeout=STREAM_WAIT_S)
        # It takes too long, or the daemon ends, which then says why.
        with contextlib.suppress(asyncio.InvalidStateError, asyncio.CancelledError, PartitionTaken):
            return self._awaited.result()
        return self._engine.snapshot

    def committed(self) -> Snapshot | None:
        """Return the newest committed snapshot at once."""
        return self._engine.snapshot

    def ready(self) -> bool:
        """Tell whether there was a first commit since the start."""
        return self._engine.snapshot is not None

    async def summary(self, since_s: float, scope: str | None) -> dict[str, Any]:
        """Judge the last `since_s` seconds."""
        read = partial(summary.read_summary, self._options.state_directory, since_s=since_s, scope=scope)
        return await asyncio.to_thread(read, now_us=_now_us(), sight=self._engine.sight())

    async def incidents(self, wanted: incidents.Wanted) -> dict[str, Any]:
        """Return the incidents that are wanted."""
        if wanted.user is not None:
            wanted = replace(wanted, user=incidents.user_label(self._engine.names, wanted.user))
        read = partial(incidents.read_incidents, self._options.state_directory, wanted)
        return await asyncio.to_thread(read, now_us=_now_us())

    async def lookups(self, *, since_s: float, scope: str | None, limit: int) -> dict[str, Any]:
        """Rank where sessions are looked up."""
        read = partial(lookups.read_lookups, self._options.state_directory, since_s=since_s, scope=scope, limit=limit)
        return await asyncio.to_thread(read, now_us=_now_us())

    async def hooks(self) -> dict[str, Any]:
        """Return which hooks are installed in which workers."""
        return {"workers": await asyncio.to_thread(summary.read_hooks, self._options.state_directory)}

    async def db_sessions(self) -> dict[str, Any]:
        """Return the newest uses of database sessions."""
        read = partial(summary.read_db_sessions, self._options.state_directory, now_us=_now_us())
        return {"db_sessions": await asyncio.to_thread(read)}

    async def reload(self) -> None:
        """Load the configuration again; a bad one leaves the previous one in force.

        Raises:
            ConfigError: It is wrong.
        """
        try:
            config = await asyncio.to_thread(self._options.load)
            await self._in_turn(partial(self._engine.reload, config))
        except SessionExporterError as error:
            self._reloads.successful = False
            logger.error("reload failed, the previous configuration stays in force: %s", error)  # noqa: TRY400 - told whole
            raise
        self._reloads.successful, self._reloads.success_at_s = True, time.time()
        logger.info("reloaded")

    async def quit(self) -> None:
        """Stop after the answer has been sent."""
        asyncio.get_running_loop().call_later(0.1, self._stop.set)

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Run something of the engine in its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    # The rest of its life.

    async def _cycle(self, budget_s: float) -> Snapshot | None:
        return await self._in_turn(partial(self._engine.cycle, budget_s))

    async def _in_turn(self, call: Callable[[], T]) -> T:
        async with self._turn:
            try:
                return await self.in_thread(call)
            except PartitionTaken as error:
                self._taken = error
                self._stop.set()
                raise

    async def _drain_until_stopped(self) -> None:
        failing = False
        while not self._stop.is_set():
            wait_s = DRAIN_EVERY_S
            try:
                await self._cycle(DRAIN_BUDGET_S)
                if await self.in_thread(self._engine.backlog):
                    wait_s = 0.0
                if failing:
                    logger.info("events are drained and committed again")
                failing = False
            except PartitionTaken:
                continue
            except SessionExporterError as error:
                if not failing:
                    logger.error("nothing is committed until this is mended: %s", error)  # noqa: TRY400 - told whole
                failing, wait_s = True, RETRY_AFTER_S
            except Exception:
                logger.exception("nothing is committed: a defect of the sidecar; events are taken one by one now")
                failing, wait_s = True, RETRY_AFTER_S
            self._look_for_senders()
            try:
                async with asyncio.timeout(wait_s):
                    await self._stop.wait()
            except TimeoutError:
                continue

    def _look_for_senders(self) -> None:
        snapshot = self._engine.snapshot
        count = snapshot.exporter.workers or snapshot.stream.forwarders if snapshot is not None else 0
        if count and not self._senders_seen:
            self._senders_seen = True
            logger.info("%s found", self._senders, extra={self._senders: count})

    def _announce(self, urls: Iterable[str]) -> None:
        for url in urls:
            logger.info("listening", extra={"url": url, "version": __version__, "pid": os.getpid()})
        journal = self._options.journal_directory
        place = {"journal": str(journal)} if journal is not None else {}
        logger.info("waiting for %s", self._senders, extra={**place, "state": str(self._options.state_directory)})

    def _hang_up(self) -> None:
        self._reloading = asyncio.get_running_loop().create_task(self._reload_quietly())

    async def _reload_quietly(self) -> None:
        with contextlib.suppress(SessionExporterError):  # logged, and shown by a gauge
            await self.reload()


def _heard(task: asyncio.Task[Snapshot | None]) -> None:
    """What goes wrong in a scrape goes wrong in the next drain as well, which tells it."""
    if not task.cancelled():
        task.exception()


def _now_us() -> int:
    return time.time_ns() // 1000
