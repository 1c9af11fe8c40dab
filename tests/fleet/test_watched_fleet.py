"""A function in the database, watched by a fleet: each consumer counts its own users, together they are right."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet_processes import Fleet
from session_table import CONFIG, Truth, WatchedTable, causes, counted, is_up, users
from sidecar_process import until

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.integration]


@pytest.fixture
def table(postgres: Any) -> WatchedTable:
    return WatchedTable(postgres)


@pytest.fixture
def fleet(table: WatchedTable, redis: Any, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path, redis, CONFIG.replace("{longest}", "1m"), replicas=1, consumers=2, partitions=4) as running:
        for consumer in running.consumers:
            consumer.variables["DATABASE_URL"] = table.url()
        running.start()
        for consumer in running.consumers:
            consumer.scrape_until(is_up, "the consumer has looked at the database")
        yield running


def test_consumers_together_judge_what_a_function_makes_as_sql_says(table: WatchedTable, fleet: Fleet) -> None:
    people = users(40)
    table.race(people)
    table.become_calm()
    fleet.consumers[0].kill()
    table.race(people)
    fleet.consumers[0].start()
    table.become_calm()
    table.race(people)
    expected = table.truth()
    assert expected.rows == 360
    assert min(expected) > 0

    # What a create has replaced is decided once, with what is known of ends by then; a killed consumer knows them late.
    until(lambda: together(fleet)[:-1] == expected[:-1], "everything is counted")
    assert together(fleet).replaced > 0
    each = [causes(scrape) for scrape in fleet.scrapes()]
    assert all(found.keys() == {"unobserved"} for found in each)
    assert sum(found["unobserved"] for found in each) == expected.duplicates


def together(fleet: Fleet) -> Truth:
    """What all consumers have counted."""
    return Truth(*map(sum, zip(*map(counted, fleet.scrapes()), strict=True)))
