"""A database that is away, locks us out or is not as it was: the watch says so, all goes on, nothing is missed."""

import re
from typing import Any

import pytest
from postgres_server import LOCKED_PASSWORD, LOCKED_USER
from session_table import Truth, WatchedTable, counted, is_up, settled, users, watching
from sidecar_process import Scrape, Sidecar, until

from session_exporter.tracker import SessionTracker

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.integration]

ERRORS = "session_exporter_watch_errors_total"
# One line when it goes, and one when it is back.
CHANGES = re.compile(r"^.*level=(?:warning|error|info) .*watch.*$", re.MULTILINE)


@pytest.fixture
def table(postgres: Any) -> WatchedTable:
    return WatchedTable(postgres)


def test_while_the_database_is_away_everything_else_goes_on_and_nothing_is_missed(own_postgres, tmp_path) -> None:
    table = WatchedTable(own_postgres)
    with watching(tmp_path, table.url()) as sidecar:
        table.race(users(5), calls=1)
        own_postgres.kill()
        sidecar.scrape_until(is_down, "the watch is down")
        told = lines_of_the_watch(sidecar)
        goes_on(sidecar)
        sidecar.scrape_until(lambda scrape: errors(scrape)["connection"] >= 3, "more looks fail")
        assert lines_of_the_watch(sidecar) == told, "one line for a change, not for every look"

        own_postgres.restart()
        table.race(users(5), calls=1)
        sidecar.scrape_until(is_up, "the watch is up again")
        assert counted(settled(sidecar, Truth(10, 0, 0, 0))) == Truth(10, 0, 0, 0)
        assert len(lines_of_the_watch(sidecar)) == len(told) + 1


def test_a_dropped_table_is_told_of_and_found_again_when_it_is_back(table, tmp_path) -> None:
    with watching(tmp_path, table.url()) as sidecar:
        table.race(users(5), calls=1)
        settled(sidecar, Truth(5, 0, 0, 0))
        table.psql("ALTER TABLE conversation_sessions RENAME TO moved")
        scrape = sidecar.scrape_until(is_down, "the watch is down")
        assert errors(scrape)["table"] > 0
        told = lines_of_the_watch(sidecar)
        assert "conversation_sessions" in told[-1]
        goes_on(sidecar)

        table.psql("ALTER TABLE moved RENAME TO conversation_sessions")
        table.race(users(5), calls=1)
        sidecar.scrape_until(is_up, "the watch is up again")
        assert counted(settled(sidecar, Truth(10, 0, 0, 0))) == Truth(10, 0, 0, 0)
        assert len(lines_of_the_watch(sidecar)) == len(told) + 1


def test_a_wrong_password_is_a_refusal_that_nobody_is_shown(table, tmp_path) -> None:
    table.psql(f"GRANT SELECT ON conversation_sessions TO {LOCKED_USER}")
    right = table.url(LOCKED_USER).replace("@", f":{LOCKED_PASSWORD}@")
    wrong = right.replace(LOCKED_PASSWORD, "hush-nobody-may-read-this")
    with watching(tmp_path, right) as sidecar:
        assert sidecar.stop() == 0
        sidecar.variables["DATABASE_URL"] = wrong
        scrape = sidecar.start().scrape_until(lambda each: errors(each)["refused"] > 0, "it is refused")
        assert is_down(scrape)
        goes_on(sidecar)
        looked = [sidecar.log, *(sidecar.get(path)[1] for path in ("/", "/metrics", "/api/v1/summary"))]
        assert not [each for each in looked if "hush" in each]

        assert sidecar.stop() == 0
        sidecar.variables["DATABASE_URL"] = right
        table.race(users(5), calls=1)
        sidecar.start().scrape_until(is_up, "the watch is up again")
        assert counted(settled(sidecar, Truth(5, 0, 0, 0))) == Truth(5, 0, 0, 0)


def is_down(scrape: Scrape) -> bool:
    return not is_up(scrape)


def errors(scrape: Scrape) -> dict[str, float]:
    """Failed looks, by reason."""
    return {dict(labels)["reason"]: value for labels, value in scrape.of(ERRORS, watch="main").items()}


def lines_of_the_watch(sidecar: Sidecar) -> list[str]:
    """What it has logged of its watch."""
    return CHANGES.findall(sidecar.log)


def goes_on(sidecar: Sidecar) -> None:
    """Have hooks report, and scrape: that is what the product is for."""
    before = sidecar.scrape().value("session_creates_total", scope="default")
    tracker = SessionTracker(sidecar.journal)
    tracker.created("a user", f"a session of the outage {before}")
    tracker.close()
    until(
        lambda: sidecar.scrape().value("session_creates_total", scope="default") == before + 1,
        "what hooks report is counted meanwhile",
    )
