"""`serve --source=stream`: as a process, and as a daemon whose engine does not come back."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from consumers import KEY, PARTITIONS, Fleet
from fleet_processes import Consumer
from redis_server import RedisServer
from sidecar_process import until

from session_exporter.cli.view_metrics import main
from session_exporter.config import Config
from session_exporter.core.totals import LedgerTotals, ScopeTotals
from session_exporter.errors import PartitionTaken
from session_exporter.sidecar.daemon import Daemon, Options
from session_exporter.sidecar.snapshot import Snapshot
from session_exporter.sidecar.transport import StreamFigures
from session_exporter.sidecar.workers import Reloads
from session_exporter.stream import keys

pytestmark = pytest.mark.integration

GENEROUS_S = 30.0


@pytest.fixture
def fleet(tmp_path: Path, redis: RedisServer) -> Iterator[Fleet]:
    with Fleet(tmp_path, redis) as fleet:
        yield fleet


def consumer_of(fleet: Fleet, home: Path, *arguments: str) -> Consumer:
    home.mkdir()
    key_file = home / "shared-key"
    key_file.write_bytes(KEY)
    config = (
        f"lateness: 200ms\nscopes: {{chat: {{}}}}\nreplica: the-first\nprivacy: {{key_file: {key_file}}}\n"
        f"stream: {{url: '{fleet.server.url}', partitions: {PARTITIONS}}}\n"
    )
    return Consumer(home, config, arguments=arguments)


@pytest.fixture
def consumer(fleet: Fleet, tmp_path: Path) -> Iterator[Consumer]:
    with consumer_of(fleet, tmp_path / "home") as consumer:
        yield consumer


def judged(consumer: Consumer, *command: str) -> Result:
    return CliRunner().invoke(main, [*command, "--url", consumer.url], env={"LC_ALL": "C.UTF-8"})


def test_it_serves_goes_on_after_a_restart_and_stops_with_exit_code_0(fleet: Fleet, consumer: Consumer) -> None:
    fleet.created(0, "s1")
    consumer.start()
    before = consumer.scrape_until(lambda scrape: scrape.value("session_creates_total", scope="chat") == 1, "a create")
    assert before.value("session_exporter_stream_up") == 1
    place = f"partitions 0-{PARTITIONS - 1} of {PARTITIONS} in Redis at {fleet.server.host}:{fleet.server.port}"
    assert f'msg=connecting source="{place}"' in consumer.log
    consumer.until_logged("waiting for forwarders")
    assert f"counted here: {place}" in consumer.get("/")[1]
    assert consumer.stop() == 0
    assert "msg=stopped" in consumer.log.splitlines()[-1]
    fleet.reused(1, "s1")
    after = consumer.start().scrape_until(
        lambda scrape: scrape.value("session_reuses_total", scope="chat") == 1, "a reuse"
    )
    assert after.regressions(before) == []


def test_it_calls_nothing_healthy_while_redis_is_away(tmp_path: Path, require_server: Callable[[str], str]) -> None:
    with (
        RedisServer(require_server("redis-server"), keeps=True) as server,
        Fleet(tmp_path, server) as fleet,
        consumer_of(fleet, tmp_path / "home") as consumer,
    ):
        for second in range(20):
            fleet.reused(second, "s1")
        consumer.start()
        until(lambda: judged(consumer).exit_code == 0, "it is healthy")
        server.kill()
        until(lambda: judged(consumer).exit_code == 2, "nobody can tell")
        said = "this consumer cannot reach the stream: events wait to be counted"
        assert said in judged(consumer).stdout
        page = consumer.get("/")[1]
        assert (said in page, "Cannot tell whether sessions are healthy" in page) == (True, True)


def test_an_incident_that_it_does_not_know_may_be_known_by_another_that_counts_the_rest(
    fleet: Fleet, tmp_path: Path
) -> None:
    with consumer_of(fleet, tmp_path / "home", "--stream.partitions=2-3") as consumer:
        consumer.start().scrape()
        hint = f"this one counts partitions 2-3 of {PARTITIONS}: ask the others"
        explained = judged(consumer, "explain", "d-0123456789")
        assert (explained.exit_code, hint in explained.stderr) == (2, True)
        consumer.stop()
        left_behind = CliRunner().invoke(main, ["explain", "d-0123456789", "--state.directory", str(consumer.state)])
        assert (left_behind.exit_code, hint in left_behind.stderr) == (2, True)


def test_who_counts_all_partitions_sends_nobody_away(consumer: Consumer) -> None:
    consumer.start().scrape()
    explained = judged(consumer, "explain", "d-0123456789")
    assert (explained.exit_code, "this one counts" in explained.stderr) == (2, False)


def test_it_ends_with_a_message_when_another_one_takes_a_partition(fleet: Fleet, consumer: Consumer) -> None:
    consumer.start().scrape()
    fleet.client.set(keys.owner(1), "99:0123456789abcdef:the-other", px=600_000)
    fleet.created(0, "s1")
    until(lambda: consumer.process is not None and consumer.process.poll() is not None, "it ends")
    assert consumer.wait() == 2
    assert "partition 1 is owned by the-other (state 0123456789abcdef), so not by the-first" in consumer.log
    assert "Traceback" not in consumer.log
    assert fleet.client.get(keys.owner(1)) == b"99:0123456789abcdef:the-other"


class StandIn:
    """An engine whose every cycle lasts until it is told to go on, and then ends as it is told to."""

    def __init__(self, *, up: bool = True) -> None:
        totals = LedgerTotals(scopes={"chat": ScopeTotals(creates=7)})
        self.snapshot: Snapshot | None = Snapshot(totals, 0, role="stream", stream=StreamFigures(up=up))
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.failure: Exception | None = None

    def cycle(self, _budget_s: float) -> Snapshot | None:
        self.begun.set()
        self.go_on.wait(GENEROUS_S)
        if self.failure is not None:
            self.snapshot = None
            raise self.failure
        return self.snapshot

    def backlog(self) -> bool:
        return False


@contextmanager
def daemon_of(engine: Any) -> Iterator[Daemon]:
    options = Options(Config, None, Path("/state"), ["127.0.0.1:0"])
    with ThreadPoolExecutor(1) as thread:
        yield Daemon(options, engine, thread, Reloads(0.0))


@pytest.mark.parametrize("up", [True, False])
def test_a_scrape_does_not_wait_for_a_redis_that_does_not_answer(*, up: bool) -> None:
    engine = StandIn(up=up)

    async def scrape_while_it_hangs(daemon: Daemon) -> list[Snapshot | None]:
        try:
            cycle = asyncio.create_task(daemon._cycle(1.0))
            await asyncio.to_thread(engine.begun.wait, GENEROUS_S)
            found = [await daemon.scrape(GENEROUS_S) for _ in range(3)]
            assert not cycle.done()
        finally:
            engine.go_on.set()
        await cycle
        return found

    with daemon_of(engine) as daemon:
        assert asyncio.run(scrape_while_it_hangs(daemon)) == [engine.snapshot] * 3


def test_a_scrape_shows_what_was_committed_by_it() -> None:
    engine = StandIn()
    engine.go_on.set()
    with daemon_of(engine) as daemon:
        assert asyncio.run(daemon.scrape(GENEROUS_S)) is engine.snapshot
    assert engine.begun.is_set()


def test_a_partition_that_is_found_taken_ends_the_daemon_and_every_scrape() -> None:
    engine = StandIn()
    engine.failure = PartitionTaken("partition 1 is owned by the-other")

    async def scrape_while_it_runs(daemon: Daemon) -> None:
        running = asyncio.create_task(daemon.run())
        await asyncio.to_thread(engine.begun.wait, GENEROUS_S)
        engine.go_on.set()
        assert await daemon.scrape(GENEROUS_S) is None
        await running

    with daemon_of(engine) as daemon, pytest.raises(PartitionTaken, match="owned by the-other"):
        asyncio.run(scrape_while_it_runs(daemon))
    assert daemon.committed() is None
    assert not daemon.ready()
