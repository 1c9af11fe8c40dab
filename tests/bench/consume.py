"""The sidecar's throughput: from a journal to committed state, on one core."""

import os
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from feeding import bursts, write_backlog
from figures import Figure
from places import disk_place, in_child, journal_place

EVENTS_PER_USER: Final = 20
USERS_PER_COMMIT: Final = 12_500
WRITERS: Final = 8
# The events' own clock: 100,000 of them per second.
STEP_US: Final = 10


def measure(*, quick: bool) -> Iterator[Figure]:
    """Throughput, and what the stages cost per event."""
    users, runs = (4_000, 1) if quick else (100_000, 5)
    with journal_place() as template, disk_place() as disk:
        events = _write(template, users)
        results = [_run(template, disk, events) for _ in range(runs)]
    creates, reuses = results[0]["creates"], results[0]["reuses"]
    if (creates, reuses) != (users, users * (EVENTS_PER_USER - 1)):
        raise RuntimeError(f"{users} users: {creates} creates and {reuses} reuses were counted")
    what = f"journal to committed state, {users:,} users, {events:,} events, one core"
    # What the core did for others meanwhile is no time of ours; waiting for the disk is.
    rate = statistics.median(events / (result["wall_s"] - result["waited_s"]) for result in results)
    yield Figure(what, rate, "events/s", at_least=250_000)
    wall_rate = statistics.median(events / result["wall_s"] for result in results)
    yield Figure("· by the clock on the wall, core shared with others", wall_rate, "events/s")
    for stage, name in (("read_s", "read and decode"), ("ledger_s", "ledger"), ("commit_s", "commit")):
        per_event_us = statistics.median(result[stage] / events * 1e6 for result in results)
        yield Figure(f"· {name}", per_event_us, "µs/event")


def _write(directory: Path, users: int) -> int:
    steps = bursts(users, USERS_PER_COMMIT, EVENTS_PER_USER)
    span_us = users * EVENTS_PER_USER * STEP_US
    # Old enough for the watermark to have passed all of it when the last commit is made.
    begin_us = time.time_ns() // 1000 - span_us - 10_000_000
    return write_backlog(directory, steps, begin_us=begin_us, step_us=STEP_US, writers=WRITERS)


def _run(template: Path, disk: Path, events: int) -> dict[str, float]:
    with journal_place() as place:
        journal = shutil.copytree(template, place / "journal")
        state = disk / "state"
        cpu = max(os.sched_getaffinity(0))
        result = in_child(Path(__file__).with_name("consume_child.py"), str(journal), str(state), str(events), str(cpu))
        shutil.rmtree(state)
    return result
