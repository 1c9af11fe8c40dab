"""The consumer's throughput, from streams to committed state; and how far a fleet is behind its workers."""

import shutil
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import redis
from figures import Figure
from following import follow
from places import disk_place, in_child, journal_place
from running import serving
from streams import EVENTS_PER_USER, MEASURED_CPU, STEP_US, Traffic, redis_for_streams, write_fleet_config, write_users

FORWARD: Final = Path(__file__).with_name("forward_child.py")
CONSUME: Final = Path(__file__).with_name("stream_child.py")
EVENTS: Final = "session_exporter_events_total"
# Half of what a consumer is to reach on a core of its own.
RATE: Final = 75_000
RECOVERED_WITHIN_S: Final = 300.0


def measure(*, quick: bool) -> Iterator[Figure]:
    """Throughput and what the stages cost per event; a start with a backlog; then live traffic through all of it."""
    users, runs = (4_000, 1) if quick else (100_000, 5)
    with disk_place() as disk, redis_for_streams() as server, redis.Redis.from_url(server.url) as client:
        config = write_fleet_config(disk, server.url)
        events = _fill(config, users)
        results = [_run(config, disk, client, events) for _ in range(runs)]
        yield from _throughput(results, users, events)
        yield _recovery(config, disk, client, events)
    yield from _lag(rate=2_000 if quick else RATE, seconds=3 if quick else 30)


def _fill(config: Path, users: int) -> int:
    with journal_place() as journal:
        # Old enough for the watermark to have passed all of it when the last commit is made.
        begin_us = time.time_ns() // 1000 - users * EVENTS_PER_USER * STEP_US - 10_000_000
        events = write_users(journal, users, begin_us=begin_us)
        in_child(FORWARD, str(config), str(journal), str(events), str(MEASURED_CPU))
    return events


def _run(config: Path, disk: Path, client: Any, events: int) -> dict[str, float]:
    _forget_consumers(client)
    state = disk / "state"
    result: dict[str, float] = in_child(CONSUME, str(config), str(state), str(events), str(MEASURED_CPU))
    shutil.rmtree(state)
    return result


def _throughput(results: Sequence[Mapping[str, float]], users: int, events: int) -> Iterator[Figure]:
    creates, reuses = results[0]["creates"], results[0]["reuses"]
    if (creates, reuses) != (users, users * (EVENTS_PER_USER - 1)):
        raise RuntimeError(f"{users} users: {creates} creates and {reuses} reuses were counted")
    what = f"streams to committed state, {users:,} users, {events:,} events, one core"
    rate = statistics.median(events / (result["wall_s"] - result["waited_s"]) for result in results)
    yield Figure(what, rate, "events/s", at_least=150_000)
    wall_rate = statistics.median(events / result["wall_s"] for result in results)
    yield Figure("· by the clock on the wall, core shared with others", wall_rate, "events/s")
    stages = {"look_s": "wait for Redis", "read_s": "decode and merge", "ledger_s": "ledger", "commit_s": "commit"}
    for stage, name in stages.items():
        per_event_us = statistics.median(result[stage] / events * 1e6 for result in results)
        yield Figure(f"· {name}", per_event_us, "µs/event")


def _forget_consumers(client: Any) -> None:
    """Nobody has ever consumed these streams."""
    for name in client.scan_iter("session-exporter:{*}:*"):
        client.delete(name)


def _recovery(config: Path, disk: Path, client: Any, events: int) -> Figure:
    _forget_consumers(client)
    begun_s = time.monotonic()
    with serving(config, disk / "recovered", "--source=stream") as consumer:
        consumer.wait_for(lambda each: each.is_ready(), "it has committed something", RECOVERED_WITHIN_S)
        consumer.wait_for(lambda each: each.value(EVENTS) >= events, f"{EVENTS} is {events}", RECOVERED_WITHIN_S)
        taken_s = time.monotonic() - begun_s
    return Figure(
        f"from the start of a consumer with {events:,} events to catch up until all are exposed", taken_s, "s"
    )


def _lag(*, rate: int, seconds: int) -> Iterator[Figure]:
    with (
        journal_place() as journal,
        disk_place() as disk,
        redis_for_streams() as server,
        redis.Redis.from_url(server.url) as client,
    ):
        config = write_fleet_config(disk, server.url)
        with (
            serving(config, disk / "consumer", "--source=stream"),
            serving(config, disk / "forwarder", "forward", f"--journal.directory={journal}"),
        ):
            traffic = Traffic(client)
            lags_s = follow(disk / "consumer", journal, rate=rate, seconds=seconds)
            spent = traffic.since()
    what = f"from recording to committed state, {rate:,} events/s through one forwarder and one consumer"
    yield Figure(f"{what}: p50", statistics.median(lags_s), "s")
    yield Figure("· p99", statistics.quantiles(lags_s, n=100, method="inclusive")[98], "s", at_most=2)
    yield Figure("· commands of Redis", spent["commands"] / seconds, "/s")
    yield Figure("· bytes to Redis", spent["in_bytes"] / seconds / rate, "bytes/event")
    yield Figure("· bytes from Redis", spent["out_bytes"] / seconds / rate, "bytes/event")
