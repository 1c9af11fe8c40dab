"""How long a scrape takes after many workers have come and gone, beside prometheus_client's multiprocess mode."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from feeding import Feeder, created, require_nothing_lost, reused
from figures import Figure, shown
from places import disk_place, environment, journal_place
from rounds import ratio
from running import Sidecar, sidecar_for
from scraping import Scraper

from session_exporter.journal import JournalWriter

PEER: Final = Path(__file__).with_name("multiprocess_peer.py")
EVENTS: Final = "session_exporter_events_total"
CREATES: Final = "session_creates_total"
EVENTS_PER_WORKER: Final = 20
NEW_SESSIONS: Final = 500
GONE_WITHIN_S: Final = 300.0


def measure(*, quick: bool) -> Iterator[Figure]:
    """Scrapes of both over HTTP, in turns, after ever more workers; a worker that lives records an event before each.

    Workers are journal writers that one process opens and closes, and for the peer files that one process writes under
    a pid of its own for each: neither side can tell them from processes that have ended.
    """
    steps, scrapes = ((2, 20), 3) if quick else ((10, 500, 5_000), 21)
    with ExitStack() as stack:
        journal, theirs = stack.enter_context(journal_place()), stack.enter_context(journal_place())
        sidecar = stack.enter_context(sidecar_for(journal, stack.enter_context(disk_place())))
        peer = stack.enter_context(_peer(theirs))
        workers = 0
        for step in steps:
            _come_and_go(journal, range(workers, step))
            subprocess.run(_command(theirs, "fill", str(workers), str(step)), env=environment(), check=True)
            workers = step
            sidecar.wait_for(lambda _: not _files(journal), "all workers have left", GONE_WITHIN_S)
            sidecar.wait_for(partial(_judged, workers), "all creates are judged", GONE_WITHIN_S)
            yield _compared(sidecar, peer, Feeder(journal), workers, scrapes)
        yield _unjudged(sidecar, Feeder(journal), workers)
        expected = workers * EVENTS_PER_WORKER + len(steps) * scrapes + (NEW_SESSIONS + 1) * EVENTS_PER_WORKER
        sidecar.wait_for(lambda each: each.value(EVENTS) == expected, f"{EVENTS} is {expected}", GONE_WITHIN_S)


def _compared(ours: Scraper, theirs: Scraper, worker: Feeder, workers: int, scrapes: int) -> Figure:
    ours_ms, theirs_ms = [], []
    for _ in range(scrapes):
        worker.append(reused(time.time_ns() // 1000, 0))
        ours_ms.append(ours.scrape_ms())
        theirs_ms.append(theirs.scrape_ms())
    worker.close()
    return Figure(
        f"scrape after {workers:,} workers",
        statistics.median(ours_ms),
        "ms",
        peer=f"prometheus_client, multiprocess: {shown(statistics.median(theirs_ms))}",
        ratio=ratio(ours_ms, theirs_ms),
        at_most=10,
    )


def _unjudged(ours: Sidecar, worker: Feeder, first: int) -> Figure:
    """Scrapes within the lateness of new sessions, whose events wait to be judged and are part of each commit."""
    for user in range(first, first + NEW_SESSIONS):
        for turn in range(EVENTS_PER_WORKER):
            worker.append(reused(time.time_ns() // 1000, user) if turn else created(time.time_ns() // 1000, user))
    ours.scrape_ms()
    taken_ms = []
    for _ in range(EVENTS_PER_WORKER):
        worker.append(reused(time.time_ns() // 1000, 0))
        taken_ms.append(ours.scrape_ms())
    worker.close()
    waiting = f"{NEW_SESSIONS} new sessions, {EVENTS_PER_WORKER} events each, are not judged yet"
    return Figure(f"scrape while {waiting}", statistics.median(taken_ms), "ms")


def _judged(workers: int, sidecar: Sidecar) -> bool:
    return sidecar.value(CREATES) == workers


def _come_and_go(journal: Path, workers: range) -> None:
    for worker in workers:
        writer = JournalWriter(journal)
        writer.append(created(time.time_ns() // 1000, worker))
        for _ in range(EVENTS_PER_WORKER - 1):
            writer.append(reused(time.time_ns() // 1000, worker))
        require_nothing_lost(writer)
        writer.close()


def _files(journal: Path) -> list[str]:
    return [path.name for path in journal.iterdir() if path.suffix in {".seg", ".ctl"}]


def _command(directory: Path, *arguments: str) -> list[str]:
    return [sys.executable, str(PEER), str(directory), *arguments]


@contextmanager
def _peer(directory: Path) -> Iterator[Scraper]:
    process = subprocess.Popen(
        _command(directory, "serve"), env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        scraper = Scraper(int(process.stdout.readline()))
        yield scraper
        scraper.close()
    finally:
        process.communicate("")
