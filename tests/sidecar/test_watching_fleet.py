"""Two consumers that read one database: each counts the rows of its own users, and together they count all, once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from consumers import Consumer, Fleet, now_us
from postgres_server import Postgres
from redis_server import RedisServer
from watched import HASTE, Table, mapping, until

from session_exporter.core import events as wire
from session_exporter.watchsettings import WatchSettings

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def table(postgres: Postgres) -> Table:
    return Table(postgres)


@pytest.fixture
def fleet(tmp_path: Path, redis: RedisServer) -> Iterator[Fleet]:
    with Fleet(tmp_path, redis) as fleet:
        yield fleet


def consumers(fleet: Fleet, table: Table) -> list[Consumer]:
    watching: dict[str, Any] = {
        "tables": (mapping(),),
        "watch": (WatchSettings(url=table.url(), **HASTE),),
        "lateness_us": 20_000,
    }
    made = [fleet.consumer("one", [0, 1], **watching), fleet.consumer("other", [2, 3], **watching)]
    until(lambda: all(each.cycle().watched.watches["main"].up for each in made), "both read the database")
    return made


def counted(fleet: list[Consumer], name: str) -> int:
    return sum(getattr(each.chat(), name) for each in fleet)


def test_each_row_is_counted_by_whoever_owns_its_user(fleet: Fleet, table: Table) -> None:
    both = consumers(fleet, table)
    table.insert(*(f"s{number}" for number in range(20)))
    until(lambda: counted(both, "creates") == 20, "all are counted")
    assert all(each.chat().creates for each in both)
    assert counted(both, "found") == 20
    table.insert("one more", user="user of s0")
    until(lambda: counted(both, "creates") == 21, "one more is counted")
    assert counted(both, "duplicate_creates") == 1


def test_what_forwarders_have_told_of_is_counted_once(fleet: Fleet, table: Table) -> None:
    both = consumers(fleet, table)
    told = [f"s{number}" for number in range(10)]
    for session in told:
        fleet.tell(wire.Created, (now_us() - fleet.begun_us) / 1e6, session, f"user of {session}")
    table.insert(*told, "untold")
    until(lambda: counted(both, "found") == 11, "all rows are found")
    until(lambda: counted(both, "creates") == 11, "all are counted")
    assert counted(both, "unseen") == 1


def test_only_the_owner_of_the_first_partition_counts_active_rows(fleet: Fleet, table: Table) -> None:
    one, other = consumers(fleet, table)
    table.insert("s1", "s2", user="ann")
    until(lambda: one.cycle().watched.active_rows == {"chat": 2}, "they are counted")
    assert one.cycle().watched.duplicate_users == {"chat": 1}
    assert other.cycle().watched.active_rows == {}


def test_a_consumer_that_is_killed_misses_nothing_and_counts_nothing_twice(fleet: Fleet, table: Table) -> None:
    both = consumers(fleet, table)
    table.insert(*(f"s{number}" for number in range(10)))
    until(lambda: counted(both, "creates") == 10, "all are counted")
    for number in range(2):
        table.insert(*(f"t{number}-{each}" for each in range(5)))
        both[number].cycle()
        both[number].kill()
        table.insert(*(f"u{number}-{each}" for each in range(5)))
    until(lambda: counted(both, "creates") >= 30, "all are counted")
    assert (counted(both, "creates"), counted(both, "found")) == (30, 30)


def test_rows_that_came_while_nobody_was_there_are_counted_after_the_next_start(fleet: Fleet, table: Table) -> None:
    both = consumers(fleet, table)
    for each in both:
        each.stop()
    table.insert("s1")
    until(lambda: counted(both, "creates") == 1, "it is counted after the next start")
