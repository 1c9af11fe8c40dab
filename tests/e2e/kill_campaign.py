"""Eight workers and a sidecar, killed at random points; afterwards every count must be what the workers wrote down.

python tests/e2e/kill_campaign.py --seconds 600 --seed 7
"""

import argparse
import contextlib
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Final

from campaign_books import Books, Counts, Recorded, expected, read_books, settle
from sidecar_process import DEADLINE_S, TICK_S, Scrape, Sidecar, environment

from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.scopes import OTHER_SCOPE, ScopeRules
from session_exporter.sidecar.schema import DATABASE_NAME

WORKERS: Final = 8
# Of 22 kills in 30 seconds, 12 are of workers.
KILLS_PER_S: Final = 22 / 30
WORKER_SHARE: Final = 12 / 22
# A worker pauses most of the time: in so many of its kills it is waited for until it works.
AT_WORK_SHARE: Final = 0.75
DOWN_MAX_S: Final = 0.7
# Sessions of undeclared scopes expire after half an hour without events, and no book is kept of that.
SECONDS_MAX: Final = 1500.0

CONFIG: Final = """\
lateness: 3s
scopes:
  conversation: {duplicate_window: 250ms, idle_timeout: 1d}
  draft: {sessions_per_user: many, duplicate_window: 1s, idle_timeout: 1d}
"""
WINDOWS_US: Final = {
    "conversation": 250_000,
    "draft": 1_000_000,
    OTHER_SCOPE: ScopeRules().duplicate_window_us,
}
MANY: Final = {"draft"}
CAUSE: Final = "session_rapid_duplicate_creates_total"
# What is compared, and the labels of its keys in the books.
LABELS: Final = {
    "session_creates_total": ("scope",),
    "session_reuses_total": ("scope",),
    "session_lookups_total": ("scope",),
    "session_redundant_lookups_total": ("scope",),
    "session_ends_total": ("scope", "reason"),
    "session_context_loss_total": ("scope", "reason"),
    CAUSE: ("scope", "cause"),
    "session_exporter_events_total": ("kind",),
}
# Which sessions were replaced the books do not tell; the oracles of the ledger do.
KEPT_IN_BOOKS: Final = {"session_context_loss_total": ("reported",)}


class Workers:
    """The writers; a killed one is replaced by a new one."""

    def __init__(self, home: Path, journal: Path, names: str) -> None:
        self.books = home / "books"
        self.books.mkdir()
        self._journal = journal
        self._names = names
        self._running: list[subprocess.Popen[bytes]] = []
        self._logs: list[Path] = []
        self._count = 0

    def start(self) -> None:
        """Start one more."""
        self._count += 1
        name = f"{self._names}-{self._count}"
        script = Path(__file__).with_name("campaign_writer.py")
        log = self.books / f"{name}.log"
        command = [sys.executable, str(script), name, str(self._journal), str(log)]
        self._running.append(subprocess.Popen(command, stdin=subprocess.PIPE, env=environment()))
        self._logs.append(log)

    def replace(self, index: int, *, at_work: bool) -> None:
        """Kill one, wherever it is in its work or, `at_work`, in the middle of a burst; and start another."""
        victim, books = self._running.pop(index), self._logs.pop(index)
        if at_work:
            _wait_until_at_work(books)
        victim.kill()
        victim.communicate()
        self.start()

    def stop(self) -> None:
        """Let all come to the end of their bursts."""
        while self._running:
            process = self._running.pop()
            process.communicate()
            assert process.returncode == 0, f"a worker ended with {process.returncode}"

    def kill(self) -> None:
        """End what still runs."""
        for process in self._running:
            process.kill()
            process.communicate()


def _wait_until_at_work(log: Path) -> None:
    """Wait for an event that was written down and not crossed off yet; without a pause, which would miss it."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError), log.open("rb") as file:
            if file.seek(0, os.SEEK_END) and file.seek(-2, os.SEEK_END) and file.read() != b".\n":
                return


@dataclass
class Scraper:
    """Scrapes all the time, whenever the sidecar answers, and holds every answer against the one before it."""

    sidecar: Sidecar
    answers: int = 0
    problems: list[str] = field(default_factory=list)
    last: Scrape | None = None
    _ended: threading.Event = field(default_factory=threading.Event)

    def compare(self, scrape: Scrape) -> None:
        """Take in one more answer."""
        if self.last is not None:
            self.problems += scrape.regressions(self.last)
        self.last = scrape
        self.answers += 1

    @contextlib.contextmanager
    def scraping(self) -> Iterator[None]:
        """Scrape in a thread of its own, so that kills meet scrapes at any point."""
        thread = threading.Thread(target=self._scrape, name="scraper")
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _scrape(self) -> None:
        while not self._ended.wait(TICK_S):
            # It is being killed, or has not come up yet.
            with contextlib.suppress(OSError, HTTPException, AssertionError):
                url = self.sidecar.listening()
                scrape = self.sidecar.answer() if url else None
                if scrape is not None:
                    self.compare(scrape)


@dataclass
class Outcome:
    """What a campaign found."""

    books: Books
    in_or_out: int
    final: Scrape
    answers: int
    kills: Counter[str]
    problems: list[str]


def campaign(home: Path, *, seed: int, seconds: float) -> Outcome:
    """Run one campaign; `problems` of the outcome is empty when nothing was lost, counted twice, or went backwards."""
    chance = random.Random(seed)
    kills = _plan(chance, seconds)
    with Sidecar(home, CONFIG) as sidecar:
        workers = Workers(home, sidecar.journal, f"s{seed}")
        scraper = Scraper(sidecar)
        try:
            for _ in range(WORKERS):
                workers.start()
            sidecar.start()
            with scraper.scraping():
                _kill_all(chance, kills, seconds, workers, sidecar)
                workers.stop()
            _restarted_in_order(sidecar, scraper)
            final = scraper.last
            assert final is not None
        finally:
            workers.kill()
        written = read_books(workers.books)
        books = settle(written, _creates_in(sidecar.state))
        problems = scraper.problems + compare(books, final)
    return Outcome(books, len(written.unsure), final, scraper.answers, Counter(kills), problems)


def _plan(chance: random.Random, seconds: float) -> list[str]:
    total = max(20, round(seconds * KILLS_PER_S))
    of_workers = round(total * WORKER_SHARE)
    kills = ["worker"] * of_workers + ["sidecar"] * (total - of_workers)
    chance.shuffle(kills)
    return kills


def _kill_all(chance: random.Random, kills: list[str], seconds: float, workers: Workers, sidecar: Sidecar) -> None:
    begun = time.monotonic()
    moments = sorted(chance.uniform(0, seconds) for _ in kills)
    for moment, victim in zip(moments, kills, strict=True):
        time.sleep(max(0.0, begun + moment - time.monotonic()))
        if victim == "worker":
            workers.replace(chance.randrange(WORKERS), at_work=chance.random() < AT_WORK_SHARE)
        else:
            sidecar.kill()
            # The journal grows meanwhile; sometimes there is no meanwhile.
            time.sleep(chance.choice((0.0, chance.uniform(0, DOWN_MAX_S))))
            sidecar.start()


def _restarted_in_order(sidecar: Sidecar, scraper: Scraper) -> None:
    """Drain and judge what waits, then look at what the next start makes of it."""
    scraper.compare(sidecar.scrape())
    assert sidecar.stop() == 0, sidecar.log
    sidecar.start()
    scraper.compare(sidecar.scrape())
    assert sidecar.stop() == 0, sidecar.log


def _creates_in(state: Path) -> Callable[[Recorded], bool]:
    """Whether a create is in the state: asked of its session, whose id nobody else had.

    Sessions of undeclared scopes are kept apart by their scope's name.
    """
    names = Pseudonyms((state / "key").read_bytes())
    with contextlib.closing(sqlite3.connect(state / DATABASE_NAME)) as connection:
        ids = {row[0] for row in connection.execute("SELECT id FROM sessions UNION ALL SELECT id FROM known")}
    return lambda event: names[event.session] in ids or names[f"{event.scope}/{event.session}"] in ids


def compare(books: Books, final: Scrape) -> list[str]:
    """Hold what was counted against what was written down; sentences about what differs."""
    least = expected(books.certain, WINDOWS_US, MANY)
    most = expected(books.certain + books.unsure, WINDOWS_US, MANY)
    problems = [f"events are lost: {final.lost()}"] if final.lost() else []
    late = final.value("session_exporter_late_events_total")
    for name, labels in LABELS.items():
        counted: Counts = Counter()
        kept = KEPT_IN_BOOKS.get(name, ())
        for own, value in final.of(name).items():
            words = [dict(own)[label] for label in labels]
            if not kept or words[-1] in kept:
                counted[name, *words] = int(value)
        # An event that came too late is counted exactly, but the causes around it may have been decided before.
        keys = _causes_together(least, most, counted) if name == CAUSE and late else (least, most, counted)
        problems += _differences(name, *keys)
    return problems


def _differences(name: str, least: Counts, most: Counts, counted: Counts) -> list[str]:
    keys = {key for counts in (least, most, counted) for key in counts if key[0] == name}
    return [
        f"{'/'.join(key)}: {counted[key]} counted, expected {least[key]} to {most[key]}"
        for key in sorted(keys)
        if not least[key] <= counted[key] <= most[key]
    ]


def _causes_together(*all_counts: Counts) -> tuple[Counts, ...]:
    summed = []
    for counts in all_counts:
        together: Counts = Counter()
        for key, count in counts.items():
            together[key[:2] if key[0] == CAUSE else key] += count
        summed.append(together)
    return tuple(summed)


def say(text: str) -> None:
    """Print at once: a long campaign is watched, or piped."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill workers and sidecar at random points; lose and repeat nothing.")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    options = parser.parse_args()
    if not 1 <= options.seconds <= SECONDS_MAX:
        parser.error(f"--seconds: expected 1 to {SECONDS_MAX:g}")
    say(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="kill-campaign-") as home:
        outcome = campaign(Path(home), seed=options.seed, seconds=options.seconds)
    kills = ", ".join(f"{count} of {victim}s" for victim, count in sorted(outcome.kills.items()))
    say(f"{len(outcome.books.certain)} events, {outcome.in_or_out} cut off; kills: {kills}")
    say(f"{outcome.answers} scrapes, {outcome.final.value('session_exporter_late_events_total'):g} late events")
    say("\n".join(outcome.problems) or "nothing lost, nothing twice, nothing backwards")
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
