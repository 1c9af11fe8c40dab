"""The forwarder's throughput, from a journal to Redis, on one core; and what Redis has to do for it."""

import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import redis
from figures import Figure
from places import disk_place, in_child, journal_place
from streams import EVENTS_PER_USER, MEASURED_CPU, STEP_US, Traffic, redis_for_streams, write_fleet_config, write_users

CHILD: Final = Path(__file__).with_name("forward_child.py")


def measure(*, quick: bool) -> Iterator[Figure]:
    """Throughput, what the stages cost per event, and what each event costs Redis."""
    users, runs = (4_000, 1) if quick else (100_000, 5)
    begin_us = time.time_ns() // 1000 - users * EVENTS_PER_USER * STEP_US
    with journal_place() as template:
        events = write_users(template, users, begin_us=begin_us)
        results = [_run(template, events) for _ in range(runs)]
    what = f"journal to Redis, {users:,} users, {events:,} events, one core"
    rate = statistics.median(events / (result["wall_s"] - result["waited_s"]) for result in results)
    yield Figure(what, rate, "events/s", at_least=100_000)
    yield Figure(
        "· by the clock on the wall", statistics.median(events / each["wall_s"] for each in results), "events/s"
    )
    stages = {"read_s": "read and decode", "route_s": "digest and route", "pack_s": "pack", "send_s": "wait for Redis"}
    for stage, name in stages.items():
        per_event_us = statistics.median(result[stage] / events * 1e6 for result in results)
        yield Figure(f"· {name}", per_event_us, "µs/event")
    for name in ("in_bytes", "memory_bytes"):
        per_event = statistics.median(result[name] / events for result in results)
        yield Figure(f"· {'sent' if name == 'in_bytes' else 'memory of Redis'}", per_event, "bytes/event")
    commands = statistics.median(result["commands"] / events * 1e6 for result in results)
    yield Figure("· commands, with a backlog to send", commands, "per million events")


def _run(template: Path, events: int) -> dict[str, float]:
    with journal_place() as place, disk_place() as disk, redis_for_streams() as server:
        journal = shutil.copytree(template, place / "journal")
        config = write_fleet_config(disk, server.url)
        with redis.Redis.from_url(server.url) as client:
            traffic = Traffic(client)
            result = in_child(CHILD, str(config), str(journal), str(events), str(MEASURED_CPU))
            return {**result, **traffic.since()}
