"""The guide to the watch: its SQL, its configuration and what it shows, followed on a real PostgreSQL."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from document_blocks import BLOCKS, shape
from sidecar_process import Scrape, Sidecar, environment

from session_exporter.tracker import SessionTracker

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.integration]

GUIDE = BLOCKS["docs/howto/watch-the-database.md"]
ROLE, SCOPE = "session_exporter", "conversation"
# The guide shows a race of two; a third caller may have come between.
PAIR = 2
CALLERS = 8


@pytest.fixture
def database(postgres: Any) -> Iterator[str]:
    """A database, and afterwards no role of the guide."""
    name = postgres.database()
    yield name
    postgres.psql(f"DROP OWNED BY {ROLE}", name)
    postgres.psql(f"DROP ROLE {ROLE}")


def test_the_guide_to_the_watch_finds_the_race_and_then_prevents_it(postgres, database, tmp_path) -> None:
    table, role, index, racy, search, unique, repaired = (
        block.text for block in GUIDE if not block.kind and not block.text.startswith("$ ")
    )
    for sql in (table, role, index, racy):
        postgres.psql(sql, database)
    dsn = postgres.dsn(database)
    with Sidecar(tmp_path, config(postgres, database)) as sidecar:
        sidecar.variables["DB_PASSWORD"] = "of-your-choice"
        sidecar.start().scrape_until(
            lambda each: each.value("session_exporter_watch_up", watch="main") == 1, "it is up"
        )
        report_some(sidecar, dsn)
        while not (several := users_with_several(postgres, database)):
            race(dsn)
        rows = int(postgres.psql("SELECT count(*) FROM conversation_sessions", database))
        scrape = sidecar.scrape_until(lambda each: unreported(each) == rows - 3, "every row is counted")
        assert scrape.value("session_creates_total", scope=SCOPE) == rows
        assert scrape.value("session_rapid_duplicate_creates_total", scope=SCOPE, cause="unobserved") >= several
        sidecar.scrape_until(
            lambda each: each.value("session_db_duplicate_active_users", scope=SCOPE) == several, "they are counted"
        )
        shows_what_the_guide_shows(sidecar)

        assert "get_or_create_session(uuid)" in postgres.psql(search.split(";")[0], database)
        postgres.psql("UPDATE conversation_sessions SET status = 'ended'", database)
        for sql in (unique, repaired):
            postgres.psql(sql, database)
        for _ in range(5):
            race(dsn)
        assert users_with_several(postgres, database) == 0
        sidecar.scrape_until(
            lambda each: each.value("session_db_duplicate_active_users", scope=SCOPE) == 0, "nobody has several"
        )


def config(postgres: Any, database: str) -> str:
    """The sidecar's file, for this server, and in more of a hurry."""
    [text] = [block.text for block in GUIDE if block.file_name == "session-exporter.yml"]
    there = text.replace("127.0.0.1:5432/app", f"{postgres.host}:{postgres.port}/{database}")
    hurried = there.replace("{name: main,", "{name: main, interval: 500ms, grace: 1s, census_every: 1s,")
    assert len({text, there, hurried}) == 3
    return hurried


def report_some(sidecar: Sidecar, dsn: str) -> None:
    """Make three sessions, of which a hook tells."""
    tracker = SessionTracker(sidecar.journal)
    with psycopg.connect(dsn, autocommit=True) as connection:
        for user in [uuid4() for _ in range(3)]:
            sql = "INSERT INTO conversation_sessions (subcontractor_id) VALUES (%s) RETURNING id"
            [session] = connection.execute(sql, (user,)).fetchone() or ("",)
            tracker.created(user, session, scope=SCOPE)
    tracker.close()


def race(dsn: str) -> None:
    """Call the function for ten users, for each at once over all connections."""
    users, start = [uuid4() for _ in range(10)], threading.Barrier(CALLERS)

    def call() -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            for user in users:
                start.wait()
                connection.execute("SELECT get_or_create_session(%s)", (user,))

    with ThreadPoolExecutor(CALLERS) as pool:
        for each in [pool.submit(call) for _ in range(CALLERS)]:
            each.result()


def users_with_several(postgres: Any, database: str) -> int:
    several = "SELECT FROM conversation_sessions WHERE status = 'active' GROUP BY subcontractor_id HAVING count(*) > 1"
    return int(postgres.psql(f"SELECT count(*) FROM ({several}) AS found", database))


def is_up(scrape: Scrape) -> bool:
    return scrape.value("session_exporter_watch_up", watch="main") == 1


def unreported(scrape: Scrape) -> float:
    return scrape.value("session_unreported_creates_total", scope=SCOPE)


def shows_what_the_guide_shows(sidecar: Sidecar) -> None:
    races = sidecar.json("/api/v1/incidents?kind=rapid_duplicate_create")["incidents"]
    [newest, *_] = [race for race in races if len(race["creates"]) == PAIR]
    for block in [each.text for each in GUIDE if each.text.startswith("$ view-metrics ")]:
        command, *shown = block.splitlines()
        arguments = [newest["id"] if each.startswith("d-") else each for each in command.split()[2:]]
        printed = {shape(line) for line in view_metrics(sidecar, *arguments).splitlines()}
        assert [line for line in shown if line != "[...]" and shape(line) not in printed] == []


def view_metrics(sidecar: Sidecar, command: str, *arguments: str) -> str:
    program = "from session_exporter.cli.view_metrics import main; main()"
    line = [sys.executable, "-c", program, command, "--url", sidecar.url, *arguments]
    done = subprocess.run(line, env=environment(COLUMNS="100"), capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.stdout
