"""The sidecar with a million live users: how long a scrape takes, and how much memory it needs."""

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from feeding import Feeder, created, reused
from figures import Figure
from places import disk_place, journal_place
from running import Sidecar, sidecar_for

TRACKED: Final = "session_exporter_tracked_sessions"
PIECE: Final = 2_000
LIGHT_EVENTS: Final = 20
LIGHT_EVERY_S: Final = 0.05
LOADED_WITHIN_S: Final = 600.0


def measure(*, quick: bool) -> Iterator[Figure]:
    """Memory at rest and with all users, then scrapes while light traffic goes on; then the same with a trail."""
    users, scrapes = (5_000, 20) if quick else (1_000_000, 600)
    yield from _figures(users, scrapes, trail_events=0)
    with_trail = list(_figures(users, scrapes, trail_events=20))
    for figure in with_trail[2], with_trail[4]:
        yield replace(figure, what=f"{figure.what.removeprefix('· ')}, with an audit trail", at_most=None)


def _figures(users: int, scrapes: int, *, trail_events: int) -> Iterator[Figure]:
    with (
        journal_place() as journal,
        disk_place() as place,
        sidecar_for(journal, place, trail_events=trail_events) as sidecar,
    ):
        for _ in range(5):
            sidecar.scrape_ms()
        yield Figure("sidecar memory, idle", sidecar.memory_mb(), "MB", at_most=60)
        begun_s = time.perf_counter()
        _fill(sidecar, journal, users)
        filled_s = time.perf_counter() - begun_s
        with _light_traffic(journal, users):
            taken_ms = _scrape(sidecar, scrapes)
        memory_mb, peak_mb = sidecar.memory_mb(), sidecar.memory_mb("VmHWM")
    traffic = f"{users:,} live users, {LIGHT_EVENTS / LIGHT_EVERY_S:,.0f} events/s meanwhile"
    yield Figure(f"scrape, {traffic}: p50", statistics.median(taken_ms), "ms")
    yield Figure("· scrape, p99", statistics.quantiles(taken_ms, n=100, method="inclusive")[98], "ms", at_most=20)
    yield Figure("· the slowest", max(taken_ms), "ms")
    yield Figure(f"sidecar memory, {users:,} live users", memory_mb, "MB", at_most=450)
    yield Figure("· the most it ever was", peak_mb, "MB")
    yield Figure("· one create per user, fed until tracked", users / filled_s, "events/s")


def _fill(sidecar: Sidecar, journal: Path, users: int) -> None:
    feeder = Feeder(journal)
    for first in range(0, users, PIECE):
        for user in range(first, min(first + PIECE, users)):
            feeder.append(created(time.time_ns() // 1000, user))
        feeder.make_room()
    feeder.close()
    sidecar.wait_for(lambda each: each.value(TRACKED) == users, f"{TRACKED} is {users}", LOADED_WITHIN_S)


def _scrape(sidecar: Sidecar, scrapes: int) -> list[float]:
    taken_ms = []
    for _ in range(scrapes):
        taken_ms.append(sidecar.scrape_ms())
        time.sleep(0.05)
    return taken_ms


@contextmanager
def _light_traffic(journal: Path, users: int) -> Iterator[None]:
    """Reuses of users all over the ledger, from a thread of this process."""
    stop = threading.Event()

    def work() -> None:
        feeder = Feeder(journal)
        user = 0
        while not stop.wait(LIGHT_EVERY_S):
            for _ in range(LIGHT_EVENTS):
                user = (user + 7_919) % users
                feeder.append(reused(time.time_ns() // 1000, user))
        feeder.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
