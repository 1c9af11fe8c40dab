"""What was read of each minute, against what the database counts."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from places import SECOND_US

from session_exporter.mappings import TableMapping
from session_exporter.watch.pages import Reader
from session_exporter.watch.sweeping import MinuteRows, RecentRows, rows_by_minute
from session_exporter.watch.tables import SessionTable

MINUTE_US = 60 * SECOND_US
BEGIN_US = 1_795_244_400 * SECOND_US
MOMENT = datetime(1970, 1, 1, tzinfo=UTC)

KINDS = {
    "timestamptz": lambda us: MOMENT + timedelta(microseconds=us),
    "timestamp": lambda us: (MOMENT + timedelta(microseconds=us)).replace(tzinfo=None),
    "bigint": lambda us: us // SECOND_US,
    "double precision": lambda us: us / SECOND_US,
    "numeric": lambda us: us / SECOND_US,
    "DATETIME": lambda us: str((MOMENT + timedelta(microseconds=us)).replace(tzinfo=None)),
    "TEXT": lambda us: (MOMENT + timedelta(microseconds=us)).isoformat(),
    "INTEGER": lambda us: us // SECOND_US,
    "REAL": lambda us: us / SECOND_US,
}


@pytest.mark.integration
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_read_is_what_is_counted_for_every_kind_of_time(request, kind) -> None:
    place = request.getfixturevalue("on_sqlite" if kind.isupper() else "on_postgres")
    place.execute(f"CREATE TABLE sessions (id integer PRIMARY KEY, at {kind})")
    dice = random.Random(kind)
    for number in range(60):
        place.execute(
            "INSERT INTO sessions VALUES (%s, %s)", number, KINDS[kind](dice.randrange(5 * MINUTE_US) + BEGIN_US)
        )
    recent, reader = RecentRows(), Reader(page_rows=7)
    with place.database.reading() as reader.connection:
        reader.table = SessionTable(TableMapping("sessions", created_at="at"), reader.connection)
        times = reader.table.created_at
        for page in reader.pages(times, BEGIN_US, BEGIN_US + 5 * MINUTE_US):
            for row in page:
                recent.add((reader.table.session(row),), reader.table.created_us(row))
        counted = rows_by_minute(reader, times, BEGIN_US, BEGIN_US + 5 * MINUTE_US)
    assert sum(each.rows for each in counted.values()) == 60
    assert recent.differing(counted) == []


def test_a_minute_differs_by_its_rows_or_their_times_and_not_once_it_is_settled() -> None:
    recent = RecentRows()
    recent.add(("a",), 10)
    recent.add(("a",), 10)
    assert recent.differing({0: MinuteRows(1, 10)}) == []
    assert recent.differing({0: MinuteRows(1, None)}) == []
    assert recent.differing({0: MinuteRows(1, 11), MINUTE_US: MinuteRows(1, 12)}) == [0, MINUTE_US]
    recent.settle(0, MinuteRows(1, 11))
    assert recent.differing({0: MinuteRows(1, 11), MINUTE_US: MinuteRows(0, 0)}) == []


def test_rows_are_forgotten_when_they_are_old_or_too_many() -> None:
    recent = RecentRows(rows_max=10)
    for number in range(12):
        recent.add((number,), number)
    recent.forget(0, 0)
    assert [number for number in range(12) if (number,) in recent] == [7, 8, 9, 10, 11]
    recent.forget(10, MINUTE_US)
    assert [number for number in range(12) if (number,) in recent] == [10, 11]
    assert recent.differing({0: MinuteRows(12, None)}) == [0]
