"""What an audit finds is what is worked out in Python from the same rows."""

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from session_rows import BEGUN_US, DAY_US, Expected, store, stored_sessions, table

from session_exporter.audit.database.auditing import audit_tables
from session_exporter.core.scopes import ScopeRules
from session_exporter.mappings import TableMapping, value_texts
from session_exporter.watch.address import database_url
from session_exporter.watch.database import Database

pytestmark = pytest.mark.slow

MAPPING = TableMapping(
    "chats",
    user="user_id",
    key=("device",),
    active={"status": value_texts(["active"])},
    created_at="created_at",
    updated_at="updated_at",
    end_reason="ended_reason",
)
AFTERS_US = st.sampled_from([0, 1, 5_000_000, 9_999_999, 10_000_000, 15_000_000, 50_000_000, DAY_US, 2 * DAY_US])
SINCES_US = st.none() | AFTERS_US.map(lambda after_us: BEGUN_US + after_us)


class Place:
    """A table in a database of its own, and the audit of it."""

    def __init__(self, url):
        self.table = table()
        self.engine = sa.create_engine(database_url(url, None, {}, "url"))
        self.table.metadata.create_all(self.engine)
        self.database = Database(database_url(url, None, {}, "url"))

    def audit(self, rows, since_us):
        store(self.engine, self.table, rows)
        (found,) = audit_tables(self.database, [(MAPPING, ScopeRules())], since_us=since_us)
        assert not found.problem
        return found

    def close(self):
        self.database.close()
        self.engine.dispose()


@pytest.fixture
def sqlite_place(tmp_path):
    place = Place(f"sqlite:///{tmp_path / 'app.db'}")
    yield place
    place.close()


@pytest.fixture
def postgres_place(postgres):
    place = Place(postgres.dsn(postgres.database()))
    yield place
    place.close()


def holds(place, rows, since_us):
    found, expected = place.audit(rows, since_us), Expected(rows, since_us)
    history, active = found.history, found.active
    assert (found.rows, found.without_user, found.undated) == (len(rows), expected.without_user, expected.undated)
    assert (history.creates, history.duplicates, history.users) == (
        expected.creates,
        expected.duplicates,
        len(expected.users),
    )
    assert [tuple(day) for day in history.days] == expected.days
    assert {each.user: each.duplicates for each in history.worst} == expected.by_user
    assert [pair.gap_us for pair in history.smallest] == expected.gaps
    assert {(pair.first.id, pair.second.id) for pair in history.smallest} <= expected.pairs
    assert list(history.intervals) == expected.intervals
    assert (active.rows, active.users) == (expected.active, len(expected.crowds))
    assert {(each.user, each.key): each.rows for each in active.worst} == expected.crowds
    assert active.surplus == sum(expected.crowds.values()) - len(expected.crowds)
    assert found.is_found == bool(expected.crowds or expected.duplicates)
    ids = {row.id: row for row in rows}
    for crowd in active.worst:
        times = [ids[each.id].created_us for each in crowd.sessions]
        assert [each.created_us for each in crowd.sessions] == times
        assert times == sorted(times, key=lambda at_us: (at_us is None, -(at_us or 0)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(rows=stored_sessions(), since_us=SINCES_US)
def test_all_figures_are_those_of_the_oracle_on_sqlite(sqlite_place, rows, since_us) -> None:
    holds(sqlite_place, rows, since_us)


@pytest.mark.integration
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(rows=stored_sessions(), since_us=SINCES_US)
def test_all_figures_are_those_of_the_oracle_on_postgresql(postgres_place, rows, since_us) -> None:
    holds(postgres_place, rows, since_us)
