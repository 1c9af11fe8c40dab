"""Sessions that a function in the database makes, where no hook looks: found by the watch, and judged as SQL says."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from session_table import (
    CALL,
    CONFIG,
    SCOPE,
    Truth,
    WatchedTable,
    callers,
    causes,
    counted,
    looks,
    reconciled,
    settled,
    users,
    watching,
)
from sidecar_process import DEADLINE_S, Sidecar, environment

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.integration]

APPLICATION = Path(__file__).parent / "applications" / "chat_sessions.py"


@pytest.fixture
def table(postgres: Any) -> WatchedTable:
    return WatchedTable(postgres)


@pytest.fixture
def sidecar(table: WatchedTable, tmp_path: Path) -> Iterator[Sidecar]:
    with watching(tmp_path, table.url()) as running:
        yield running


def test_every_session_that_a_function_makes_is_found_and_judged_as_sql_says(table, sidecar) -> None:
    people = users(40)
    for _ in range(3):
        table.race(people)
        table.become_calm()
    expected = table.truth()
    assert expected.rows == 360
    assert min(expected) > 0

    scrape = settled(sidecar, expected)
    assert counted(scrape) == expected
    assert causes(scrape) == {"unobserved": expected.duplicates}
    totals = reconciled(sidecar)
    assert (totals.found, totals.unseen, totals.reported, totals.unreported) == (360, 360, 0, 0)
    assert {each["cause"] for each in duplicates(sidecar)} == {"unobserved"}
    assert sidecar.stop() == 0
    assert counted(sidecar.start().scrape()) == expected


def test_what_hooks_report_as_well_is_counted_once_and_the_rest_is_unreported(table, sidecar) -> None:
    hooked, both, unseen = users(30), users(20), users(30)
    create(sidecar, table, both)
    sidecar.scrape_until(lambda scrape: scrape.value("session_creates_total", scope=SCOPE) == 20, "hooks report")
    table.become_calm()
    with ThreadPoolExecutor(1) as pool:
        application = pool.submit(create, sidecar, table, hooked)
        table.race([*unseen, *both])
        application.result()
    expected = table.truth()
    # Each of those whom the application knew has lost the session that it made for them.
    assert (expected.rows, expected.replaced) == (200, 20)

    scrape = settled(sidecar, expected)
    assert counted(scrape) == expected
    totals = reconciled(sidecar)
    assert (totals.found, totals.reported, totals.unseen) == (200, 50, 150)
    assert scrape.value("session_unreported_creates_total", scope=SCOPE) == 150
    assert sidecar.stop() == 0
    assert counted(sidecar.start().scrape()) == expected


def test_a_row_that_becomes_visible_long_after_it_was_made_is_found(table, sidecar) -> None:
    with psycopg.connect(table.dsn) as connection:
        connection.execute(CALL, users(1))
        for _ in range(3):
            table.race(users(5), calls=1)
            looks(sidecar, 3)
    expected = table.truth()
    assert expected.rows == 16
    assert counted(settled(sidecar, expected)) == expected


def test_a_transaction_may_be_open_for_longer_than_the_setting_where_the_database_tells(table, tmp_path) -> None:
    with watching(tmp_path, table.url(), longest="1s") as sidecar:
        with psycopg.connect(table.dsn) as connection:
            connection.execute(CALL, users(1))
            looks(sidecar, 4)
            table.race(users(5), calls=1)
            looks(sidecar, 4)
        expected = Truth(6, 0, 0, 0)
        assert table.truth() == expected
        assert counted(settled(sidecar, expected)) == expected


def test_a_row_of_a_prepared_transaction_is_found_when_that_is_committed(table, sidecar) -> None:
    with psycopg.connect(table.dsn) as connection:
        connection.execute(CALL, users(1))
        looks(sidecar, 4)
        connection.execute("PREPARE TRANSACTION 'of a test'")
        table.race(users(5), calls=1)
        looks(sidecar, 4)
        connection.rollback()
        connection.autocommit = True
        connection.execute("COMMIT PREPARED 'of a test'")
    expected = Truth(6, 0, 0, 0)
    assert table.truth() == expected
    assert counted(settled(sidecar, expected)) == expected


def test_who_may_not_see_the_transactions_of_others_relies_on_the_setting(table, tmp_path) -> None:
    """Many may read tables and nothing else; `longest_transaction` says how far they look back."""
    table.psql(f"CREATE ROLE {(reader := f'reader_{table.database}')} LOGIN")
    table.psql(f"GRANT SELECT ON conversation_sessions TO {reader}")
    with watching(tmp_path, table.url(reader)) as sidecar:
        with psycopg.connect(table.dsn) as connection:
            connection.execute(CALL, users(1))
            table.race(users(5), calls=1)
            looks(sidecar, 6)
        expected = Truth(6, 0, 0, 0)
        assert counted(settled(sidecar, expected)) == expected


def test_what_was_there_before_is_known_and_not_counted(table, tmp_path) -> None:
    people = users(10)
    table.race(people, calls=1)
    table.become_calm()
    with watching(tmp_path, table.url()) as sidecar:
        assert counted(sidecar.scrape()) == Truth(0, 0, 0, 0)
        with callers(table.dsn) as call:
            for done in [call(user) for user in people]:
                done()
        sidecar.scrape_until(lambda scrape: scrape.value("session_creates_total", scope=SCOPE) == 10, "the new ones")
        totals = reconciled(sidecar)
        assert (totals.found, totals.creates, totals.adopted) == (10, 10, 0)


def create(sidecar: Sidecar, table: WatchedTable, people: Sequence[UUID]) -> None:
    """Have an application create sessions, with our hooks in it."""
    config = sidecar.state.parent / "application.yml"
    config.write_text(f"journal: {{directory: {sidecar.journal}}}\n{CONFIG}".replace("{longest}", "1m"), "utf-8")
    own = ["-m", "session_exporter", "run", "--config.file", str(config), "--", sys.executable, str(APPLICATION)]
    subprocess.run(
        [sys.executable, *own],
        input="\n".join(map(str, people)),
        env=environment(DATABASE_URL=table.url()),
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )


def duplicates(sidecar: Sidecar) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sidecar.json("/api/v1/incidents?kind=rapid_duplicate_create&limit=1000")["incidents"]
    return found
