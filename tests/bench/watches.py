"""A database that is watched: what a poll takes, how much of a backlog is counted in a second, and who pays for it."""

import gc
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from creates import BEGIN_US, NothingKnown
from feeding import SCOPE
from figures import Figure
from places import disk_place, journal_place
from rounds import ratio
from running import Sidecar, serving
from sqlalchemy.engine import make_url
from streams import MEASURED_CPU

from session_exporter.core.checkpoint import take_changes
from session_exporter.core.ledger import Ledger
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.rows import NEW, Row, take_rows
from session_exporter.core.scopes import ScopeRules
from session_exporter.mappings import TableMapping
from session_exporter.watch.acquaintance import SLOWER
from session_exporter.watch.database import Database
from session_exporter.watch.findings import TablePosition
from session_exporter.watch.polling import TableWatch
from session_exporter.watchsettings import WatchSettings

sys.path.append(str(Path(__file__).parents[1] / "servers"))
from postgres_server import Postgres  # of the tests, who start it the same way

PROGRAMS: Final = Path("/usr/lib/postgresql")
UP: Final = "session_exporter_watch_up"
CREATES: Final = "session_creates_total"
WITHIN_S: Final = 600.0
PAGE: Final = 2_000
STEP_US: Final = 10
GRACE_US: Final = 15_000_000
RETENTION_US: Final = 30 * 86_400_000_000
MAPPING: Final = TableMapping(
    "chats",
    SCOPE,
    user="user_id",
    active={"status": frozenset({"active"})},
    created_at="created_at",
    updated_at="updated_at",
)

TABLE: Final = """
CREATE TABLE chats (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL DEFAULT gen_random_uuid(),
    status text NOT NULL DEFAULT 'active',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""
INDEXES: Final = "CREATE INDEX by_creation ON chats (created_at); CREATE INDEX by_change ON chats (updated_at);"
# What a table has after a week.
PAST: Final = """
INSERT INTO chats (created_at, updated_at)
SELECT at, at FROM (
    SELECT now() - number * interval '7 days' / {rows} AS at FROM generate_series(1, {rows}) number
) each
"""
NOW: Final = "INSERT INTO chats SELECT FROM generate_series(1, {rows});"
CONFIG: Final = """\
scopes: {{{scope}: {{idle_timeout: 2h}}}}
tables:
  - table: chats
    scope: {scope}
    user: user_id
    active: {{status: [active]}}
    created_at: created_at
    updated_at: updated_at
watch:
  - {{name: main, url: {url}}}
"""


def measure(*, quick: bool) -> Iterator[Figure]:
    """Polls that bring nothing, with indexes and without; a backlog; the ledger; scrapes while the database is away."""
    rows, backlog, scrapes, rounds = (10_000, 2_000, 20, 1) if quick else (1_000_000, 200_000, 100, 5)
    with postgres_to_watch() as server:
        yield from _polls(server, rows, looks=5 if quick else 50)
        yield from _backlog(server, backlog)
        yield _ledger(backlog)
        yield from _scrapes(server, scrapes, rounds)


def _polls(server: Postgres, rows: int, looks: int) -> Iterator[Figure]:
    """Look again and again at what has not changed; in this process."""
    database = server.database()
    server.psql(TABLE, database)
    server.psql(PAST.format(rows=rows), database)
    server.psql("ANALYZE chats", database)
    bare_ms = _looks_ms(server, database, 2 * SLOWER)
    server.psql(INDEXES, database)
    taken_ms = _looks_ms(server, database, looks)
    table = f"a table of {rows:,} rows"
    yield Figure(f"poll, {table}, nothing new", statistics.median(taken_ms), "ms", at_most=20)
    yield Figure("· the slowest", max(taken_ms), "ms")
    yield Figure(f"· without indexes, each {SLOWER}th poll", max(bare_ms[SLOWER:]), "ms")
    yield Figure("· without indexes, the others", statistics.median(bare_ms), "ms")


def _looks_ms(server: Postgres, database: str, looks: int) -> list[float]:
    """How long each of so many looks takes, once it is known what is live."""
    now_us, taken_ms = time.time_ns() // 1000, []
    known = TablePosition(since_us=now_us, created_us=now_us, updated_us=now_us, is_known=True)
    settings = WatchSettings(url=server.url("psycopg", database))
    table = TableWatch("main", MAPPING, settings, known, retention_us=RETENTION_US)
    reader = Database(make_url(settings.url))
    for number in range(SLOWER + looks):
        begun_s = time.perf_counter()
        more = True
        while more:
            with reader.reading() as connection:
                seen_us = time.time_ns() // 1000
                more = table.look(connection, seen_us=seen_us, judged_us=seen_us) is not None
        if number >= SLOWER:
            taken_ms.append((time.perf_counter() - begun_s) * 1e3)
    reader.close()
    return taken_ms


@contextmanager
def postgres_to_watch() -> Iterator[Postgres]:
    """A running PostgreSQL, on a core that what is measured does not use; RuntimeError when there is none."""
    programs = sorted(PROGRAMS.glob("*/bin"), key=lambda path: float(path.parent.name))
    if not programs:
        raise RuntimeError("PostgreSQL is missing; install it with: make servers")
    with Postgres(programs[-1], keeps=True) as server:
        others = os.sched_getaffinity(0) - {MEASURED_CPU}
        if others:
            os.sched_setaffinity(server.pid, others)
        yield server


def _backlog(server: Postgres, rows: int) -> Iterator[Figure]:
    """Let rows come up while no sidecar runs, and start one."""
    database = server.database()
    server.psql(TABLE + INDEXES, database)
    scrapes_ms: list[float] = []

    def is_counted(sidecar: Sidecar) -> bool:
        scrapes_ms.append(sidecar.scrape_ms())
        return sidecar.value(CREATES) == rows

    with journal_place() as journal, disk_place() as place:
        with _watching(server, database, journal, place):
            pass
        server.psql(NOW.format(rows=rows), database)
        begun_s = time.monotonic()
        with serving(place / "config.yml", place / "state", f"--journal.directory={journal}") as sidecar:
            sidecar.wait_for(Sidecar.is_ready, "a first commit", WITHIN_S)
            before_s = _processor_s(sidecar)
            sidecar.wait_for(is_counted, f"{rows} rows are counted", WITHIN_S)
            taken_s, busy_s = time.monotonic() - begun_s, _processor_s(sidecar) - before_s
    yield Figure(f"{rows:,} rows found at the start, until counted", rows / taken_s, "rows/s")
    yield Figure("· scrape meanwhile, p50", statistics.median(scrapes_ms), "ms")
    yield Figure("· the slowest", max(scrapes_ms), "ms")
    yield Figure("· what that takes of a processor", busy_s / rows * 1e6, "µs/row")


def _ledger(rows: int) -> Figure:
    """Take rows in, judge them, and take the changes, as the sidecar does; without state and database."""
    found = [Row(NEW, BEGIN_US + number * STEP_US, f"chat-{number}", f"user-{number}") for number in range(rows)]
    ledger = Ledger({SCOPE: ScopeRules(SCOPE)}, names=Pseudonyms(b"k" * 32), known=NothingKnown())
    gc.collect()
    begun_s = time.process_time()
    for first in range(0, rows, PAGE):
        page = found[first : first + PAGE]
        due_us = page[-1].at_us + GRACE_US
        take_rows(ledger, SCOPE, page, since_us=BEGIN_US, due_us=due_us)
        ledger.advance(due_us)
        take_changes(ledger)
    ledger.finish()
    take_changes(ledger)
    return Figure("· of that, the ledger", (time.process_time() - begun_s) / rows * 1e6, "µs/row")


def _scrapes(server: Postgres, scrapes: int, rounds: int) -> Iterator[Figure]:
    """Scrape while the database is there, and while it is away, in turns."""
    database = server.database()
    server.psql(TABLE + INDEXES, database)
    taken_ms: dict[float, list[float]] = {1.0: [], 0.0: []}
    with journal_place() as journal, disk_place() as place, _watching(server, database, journal, place) as sidecar:
        for number in range(2 * rounds):
            up = 1.0 - number % 2
            if number:
                (server.restart if up else server.kill)()
            sidecar.wait_for(lambda each, to=up: each.value(UP) == to, f"{UP} is {up:g}", WITHIN_S)
            taken_ms[up].append(statistics.median(sidecar.scrape_ms() for _ in range(scrapes)))
        server.restart()
    there = f"while it is there, {statistics.median(taken_ms[1.0]):.2f} ms"
    away_ratio = ratio(taken_ms[0.0], taken_ms[1.0])
    yield Figure("scrape, database away", statistics.median(taken_ms[0.0]), "ms", there, away_ratio, ratio_at_most=1.2)


@contextmanager
def _watching(server: Postgres, database: str, journal: Path, place: Path) -> Iterator[Sidecar]:
    """A sidecar that watches a database, and has looked at it."""
    config = place / "config.yml"
    config.write_text(CONFIG.format(scope=SCOPE, url=server.url("psycopg", database)), "utf-8")
    with serving(config, place / "state", f"--journal.directory={journal}") as sidecar:
        sidecar.wait_for(Sidecar.is_ready, "a first commit", WITHIN_S)
        sidecar.wait_for(lambda each: each.value(UP) == 1, "the watch has looked", WITHIN_S)
        yield sidecar


def _processor_s(sidecar: Sidecar) -> float:
    """What the process has taken of a processor so far."""
    fields = Path(f"/proc/{sidecar.process.pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
