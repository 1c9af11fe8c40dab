"""A census: active rows, and users who have more than one of them; on SQLite, and on a real PostgreSQL."""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, event, text
from sqlalchemy.pool import StaticPool

from session_exporter.core.scopes import ScopeRules
from session_exporter.mappings import TableMapping
from session_exporter.watch import census
from session_exporter.watch.census import SESSIONS_MAX, TWINS_MAX, take_census
from session_exporter.watch.findings import Census
from session_exporter.watch.tables import SessionTable

if TYPE_CHECKING:
    from postgres_server import Postgres

ONE, MANY = ScopeRules("chat"), ScopeRules("chat", sessions_per_user="many")
NOW_US = 1_800_000_000_000_000
MAPPING = TableMapping("chats", "chat", user="owner", active={"status": frozenset({"active"})}, created_at="created_at")
COLUMNS = "id text, owner text, device text, status text, created_at timestamp"


class Chats:
    """A database with a table of chats."""

    def __init__(self, url: str) -> None:
        self.engine = create_engine(url, poolclass=StaticPool, future=True)
        self.statements: list[str] = []
        event.listen(self.engine, "before_cursor_execute", lambda *of: self.statements.append(of[2]))
        self.make()

    def close(self) -> None:
        self.engine.dispose()

    def make(self, columns: str = COLUMNS) -> None:
        with self.engine.begin() as connection:
            connection.execute(text("DROP TABLE IF EXISTS chats"))
            connection.execute(text(f"CREATE TABLE chats ({columns})"))

    def insert(self, *rows: dict[str, Any]) -> None:
        """Insert rows, each with the columns that it names."""
        with self.engine.begin() as connection:
            for names, those in groupby(rows, key=tuple):
                values = ", ".join(f":{name}" for name in names)
                connection.execute(text(f"INSERT INTO chats ({', '.join(names)}) VALUES ({values})"), list(those))

    def count(self, rules: ScopeRules = ONE, mapping: TableMapping = MAPPING) -> Census:
        with self.engine.connect() as connection:
            table = SessionTable(mapping, connection)
            self.statements.clear()
            return take_census(connection, table, rules, NOW_US)


@pytest.fixture(scope="module")
def postgresql(postgres: "Postgres") -> str:
    """A database of its own, for all tests of this module."""
    return postgres.url("psycopg2", postgres.database())


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def chats(request: pytest.FixtureRequest) -> Iterator[Chats]:
    url = "sqlite://" if request.param == "sqlite" else request.getfixturevalue("postgresql")
    with closing(Chats(url)) as found:
        yield found


def chat(
    number: int, owner: str | None = "ann", status: str = "active", second: int = 0, **more: Any
) -> dict[str, Any]:
    created_at = f"2027-01-15 08:{second // 60:02d}:{second % 60:02d}"
    return {"id": f"s{number}", "owner": owner, "status": status, "created_at": created_at, **more}


def told(found: Census) -> list[tuple[str, tuple[str, ...], int]]:
    return [(each.user, each.sessions, each.rows) for each in found.twins]


def test_active_rows_and_users_with_several_are_counted(chats: Chats) -> None:
    chats.insert(
        chat(1, "ann", second=1),
        chat(2, "ann", second=2),
        chat(3, "ann", "ended", second=3),
        chat(4, "bob", second=4),
        chat(5, "bob", "ended", second=5),
        chat(6, "cyd", second=6),
        chat(7, "cyd", second=7),
        chat(8, "cyd", second=8),
    )
    found = chats.count()
    assert (found.at_us, found.active_rows, found.duplicate_users) == (NOW_US, 6, 2)
    assert told(found) == [("cyd", ("s8", "s7", "s6"), 3), ("ann", ("s2", "s1"), 2)]
    assert found.twins[1].created_us == (1_800_000_002_000_000, 1_800_000_001_000_000)


def test_an_empty_table_has_none(chats: Chats) -> None:
    assert chats.count() == Census(NOW_US, 0, 0, [])


def test_rows_without_a_user_are_nobodys_duplicates(chats: Chats) -> None:
    chats.insert(*(chat(number, owner) for number, owner in enumerate((None, None, "", ""))))
    found = chats.count()
    assert (found.active_rows, found.duplicate_users, told(found)) == (4, 0, [])


def test_a_session_on_each_device_is_no_duplicate(chats: Chats) -> None:
    chats.insert(
        chat(1, device="a"),
        chat(2, device="b"),
        chat(3, device=None),
        chat(4, "bob", device="a"),
        chat(5, "bob", device="a", second=1),
        chat(6, "cyd", device=None),
        chat(7, "cyd", device=None),
    )
    mapping = TableMapping(
        "chats", "chat", user="owner", key=("device",), active=MAPPING.active, created_at="created_at"
    )
    found = chats.count(mapping=mapping)
    assert found.duplicate_users == 2
    assert {(each.user, each.key): len(each.sessions) for each in found.twins} == {("bob", "a"): 2, ("cyd", ""): 2}


def test_of_many_users_the_newest_are_told_and_all_are_counted(chats: Chats) -> None:
    many = TWINS_MAX + 5
    chats.insert(*(chat(number, f"u{number % many}", second=number) for number in range(2 * many)))
    found = chats.count()
    assert (found.duplicate_users, len(found.twins)) == (many, TWINS_MAX)
    assert [each.user for each in found.twins[:2]] == [f"u{many - 1}", f"u{many - 2}"]


def test_of_many_sessions_of_one_user_the_newest_are_told_and_all_are_counted(chats: Chats) -> None:
    chats.insert(*(chat(number, second=number) for number in range(30)))
    (twin,) = chats.count().twins
    assert (twin.rows, twin.sessions) == (30, tuple(f"s{29 - number}" for number in range(SESSIONS_MAX)))


def test_where_several_sessions_are_meant_only_active_rows_are_counted(chats: Chats) -> None:
    chats.insert(chat(1), chat(2))
    assert chats.count(MANY) == Census(NOW_US, 2, None)
    nobodys = TableMapping("chats", "chat", active=MAPPING.active)
    assert chats.count(mapping=nobodys) == Census(NOW_US, 2, None)


def test_where_no_row_is_known_to_be_active_nothing_is_counted(chats: Chats) -> None:
    chats.insert(chat(1), chat(2))
    assert chats.count(mapping=TableMapping("chats", "chat", user="owner")) == Census(NOW_US, None, None)
    assert chats.statements == []


def test_twins_are_told_without_a_column_that_says_when(chats: Chats) -> None:
    chats.insert(chat(1), chat(2), chat(3, "bob"), chat(4, "bob"), chat(5, "bob"))
    found = chats.count(mapping=TableMapping("chats", "chat", user="owner", active=MAPPING.active))
    assert [(each.user, sorted(each.sessions), each.created_us) for each in found.twins] == [
        ("bob", ["s3", "s4", "s5"], (0, 0, 0)),
        ("ann", ["s1", "s2"], (0, 0)),
    ]


def test_a_time_that_is_not_known_comes_last(chats: Chats) -> None:
    chats.insert(chat(1, created_at=None), chat(2), chat(3, "bob", created_at=None), chat(4, "bob", created_at=None))
    assert (
        told(chats.count()) == [("ann", ("s2", "s1"), 2), ("bob", ("s3", "s4"), 2)]
        or told(chats.count())[1][0] == "bob"
    )


def test_users_inside_of_json_are_compared_here(chats: Chats, monkeypatch: Any, caplog: Any) -> None:
    def of(user: object) -> str:
        return json.dumps({"user": {"id": user}})

    chats.insert(
        chat(1, of("ann"), second=1),
        chat(2, of("bob"), second=2),
        chat(3, of("ann"), second=3),
        chat(4, "{}", second=4),
        chat(5, "{}", second=5),
        chat(6, of("bob"), "ended"),
    )
    mapping = TableMapping(
        "chats", "chat", user="owner", user_path="user.id", active=MAPPING.active, created_at="created_at"
    )
    found = chats.count(mapping=mapping)
    assert (found.active_rows, found.duplicate_users, told(found)) == (5, 1, [("ann", ("s3", "s1"), 2)])
    monkeypatch.setattr(census, "ROWS_MAX", 4)
    census._warn_of_size.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert [chats.count(mapping=mapping).duplicate_users for _ in range(3)] == [None] * 3
    assert len(caplog.messages) == 1


@pytest.mark.integration
def test_ids_are_those_that_hooks_tell(postgresql: str) -> None:
    with closing(Chats(postgresql)) as chats:
        chats.make('id uuid, owner bigint, "Live" boolean, created_at timestamptz')
        first, second = (f"0000000{number}-0000-4000-8000-000000000000" for number in (1, 2))
        with chats.engine.begin() as connection:
            for at, each in enumerate((first, second)):
                connection.execute(
                    text("INSERT INTO chats VALUES (CAST(:id AS uuid), 7, true, to_timestamp(:at))"),
                    {"id": each, "at": NOW_US // 1_000_000 + at},
                )
        mapping = TableMapping(
            "chats", "chat", user="owner", active={"Live": frozenset({"true", "1"})}, created_at="created_at"
        )
        found = chats.count(mapping=mapping)
        assert (found.duplicate_users, told(found)) == (1, [("7", (second, first), 2)])
        assert found.twins[0].created_us == (NOW_US + 1_000_000, NOW_US)


@pytest.mark.integration
def test_types_of_their_own_count_as_well(postgresql: str) -> None:
    with closing(Chats(postgresql)) as chats:
        with chats.engine.begin() as connection:
            connection.execute(text("CREATE TYPE state AS ENUM ('active', 'ended')"))
        chats.make("id int, owner uuid, device varchar(9), status state, created_at double precision")
        with chats.engine.begin() as connection:
            connection.execute(
                text(
                    "INSERT INTO chats SELECT n, CAST('00000001-0000-4000-8000-000000000000' AS uuid), 'a',"
                    " CAST('active' AS state), 1800000000 + n FROM generate_series(1, 2) AS n"
                )
            )
        mapping = TableMapping(
            "chats", "chat", user="owner", key=("device",), active=MAPPING.active, created_at="created_at"
        )
        assert told(chats.count(mapping=mapping)) == [("00000001-0000-4000-8000-000000000000", ("2", "1"), 2)]


ROWS = st.lists(
    st.tuples(st.sampled_from(["ann", "bob", "cyd", None]), st.sampled_from(["x", "y"]), st.booleans()), max_size=30
)


@given(ROWS)
def test_it_counts_what_somebody_would_who_reads_all_rows(rows: list[tuple[str | None, str, bool]]) -> None:
    with closing(Chats("sqlite://")) as chats:
        chats.insert(
            *(
                chat(number, owner, "active" if active else "ended", device=device, second=number)
                for number, (owner, device, active) in enumerate(rows)
            )
        )
        mapping = TableMapping(
            "chats", "chat", user="owner", key=("device",), active=MAPPING.active, created_at="created_at"
        )
        found = chats.count(mapping=mapping)
        counts = Counter((owner, device) for owner, device, active in rows if active and owner)
        several = {owner: count for owner, count in counts.items() if count > 1}
        assert found.active_rows == sum(active for _, _, active in rows)
        assert found.duplicate_users == len(several)
        assert {(each.user, each.key): each.rows for each in found.twins} == several
