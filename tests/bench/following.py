"""Live traffic, and how long each event takes until it is committed."""

import sqlite3
import threading
import time
from contextlib import closing
from itertools import islice, pairwise
from pathlib import Path
from typing import Final

import msgspec
from feeding import Feeder, bursts, created, reused

from session_exporter.core.totals import LedgerTotals
from session_exporter.sidecar.schema import DATABASE_NAME

WORKERS: Final = 8
EVENTS_PER_USER: Final = 20
# Of one commit, about two of which are made each second.
BURST_S: Final = 0.5
TICK_S: Final = 0.01
LOOK_EVERY_S: Final = 0.05
COMMITTED_WITHIN_S: Final = 120.0
# From then on their sessions are known: the lateness has passed.
JUDGED_WITHIN_S: Final = 3.0


class Traffic:
    """Users who come, and then go on with their sessions at a steady rate: 20 times each within half a second.

    Args:
        journal: The journal's directory.
        rate: Events per second.
        seconds: For how long.

    Attributes:
        users: How many they are; each makes one event more when it comes.
        recorded: (time, how many events there were by then), tick after tick; seconds of the monotonic clock.
    """

    def __init__(self, journal: Path, *, rate: int, seconds: float) -> None:
        self._rate, self._seconds = rate, seconds
        self._users_per_burst = max(int(rate * BURST_S / EVENTS_PER_USER), 1)
        self.users = int(seconds / BURST_S + 1) * self._users_per_burst
        self.recorded: list[tuple[float, int]] = []
        self._feeders = [Feeder(journal) for _ in range(WORKERS)]

    def come(self) -> None:
        """Have all users come."""
        for user in range(self.users):
            self._feeders[user % WORKERS].append(created(time.time_ns() // 1000, user))
            if user % 1_000 == 0:
                self._feeders[0].make_room()

    def go_on(self) -> None:
        """Have them go on."""
        steps = bursts(self.users, self._users_per_burst, EVENTS_PER_USER)
        begun_s, count = time.monotonic(), 0
        while (passed_s := time.monotonic() - begun_s) < self._seconds:
            due, at_us = int(passed_s * self._rate), time.time_ns() // 1000
            for user, turn in islice(steps, due - count):
                self._feeders[(user * 7 + turn * 3) % WORKERS].append(reused(at_us, user))
            count = due
            self.recorded.append((time.monotonic(), self.users + count))
            time.sleep(TICK_S)
        for feeder in self._feeders:
            feeder.close()


def follow(state: Path, journal: Path, *, rate: int, seconds: float) -> list[float]:
    """Have events recorded, and look for them in a consumer's state, where a scrape finds them.

    Returns:
        How long it took until they were there, of the events of each tick; seconds.

    Raises:
        RuntimeError: They did not all get there.
    """
    traffic, until_s = Traffic(journal, rate=rate, seconds=seconds), time.monotonic() + seconds + COMMITTED_WITHIN_S
    traffic.come()
    seen = [(time.monotonic(), 0)]
    thread = threading.Thread(target=traffic.go_on)

    def look() -> None:
        if time.monotonic() > until_s:
            raise RuntimeError(f"only {seen[-1][1]} events were committed")
        time.sleep(LOOK_EVERY_S)
        seen.append((time.monotonic(), _committed(state / DATABASE_NAME)))

    while seen[-1][1] < traffic.users:
        look()
    time.sleep(JUDGED_WITHIN_S)
    thread.start()
    while thread.is_alive() or seen[-1][1] < traffic.recorded[-1][1]:
        look()
    thread.join()
    return _lags_s(traffic.recorded, seen)


def _committed(database: Path) -> int:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        row = connection.execute("SELECT value FROM meta WHERE name = 'totals'").fetchone()
    return sum(msgspec.msgpack.decode(row[0], type=LedgerTotals).events.values()) if row else 0


def _lags_s(recorded: list[tuple[float, int]], seen: list[tuple[float, int]]) -> list[float]:
    lags_s, looks = [], iter(seen)
    seen_s, count = next(looks)
    for (_, before), (recorded_s, until) in pairwise(recorded):
        while count < until:
            seen_s, count = next(looks)
        if until > before:
            lags_s.append(seen_s - recorded_s)
    return lags_s
