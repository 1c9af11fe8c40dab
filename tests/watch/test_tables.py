"""A table's columns in every type that databases have for them: ids, users and times as hooks tell them."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from places import Place, look, postgres_place, rows_of, watch

from session_exporter.columntexts import user_text
from session_exporter.core.rows import NEW, OLD
from session_exporter.errors import TableUnusable
from session_exporter.identity import canonical_id
from session_exporter.mappings import TableMapping, value_texts
from session_exporter.watch.tables import SessionTable

pytestmark = pytest.mark.integration
AT = datetime(2026, 11, 21, 7, 0, 30, 250_000, tzinfo=UTC)
AT_US = 1_795_244_430_250_000
ID = UUID("0d3f2c1a-9b8e-4f7d-a6c5-b4a392817060")
WHOLE_US = AT_US - 250_000


def told(place: Place, mapping: TableMapping) -> list[Any]:
    """What the rows say that were there before, and those that came since a moment ago."""
    return rows_of(look(place, watch(mapping)), OLD)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("timestamptz", "2026-11-21 08:00:30.25+01", AT_US),
        ("timestamp", "2026-11-21 07:00:30.25", AT_US),
        ("bigint", WHOLE_US // 10**6, WHOLE_US),
        ("integer", WHOLE_US // 10**6, WHOLE_US),
        ("double precision", AT_US / 10**6, AT_US),
        ("numeric", "1795244430.25", AT_US),
    ],
)
def test_every_type_of_time_of_postgresql_is_read(on_postgres, kind, value, expected) -> None:
    on_postgres.execute(f"CREATE TABLE sessions (id text PRIMARY KEY, at {kind})")
    on_postgres.execute("CREATE INDEX ON sessions (at)")
    on_postgres.execute("INSERT INTO sessions VALUES ('a', %s)", value)
    [row] = told(on_postgres, TableMapping("sessions", created_at="at"))
    assert row.at_us == expected


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("DATETIME", "2026-11-21 07:00:30.250000", AT_US),  # SQLAlchemy, Django
        ("DATETIME", "2026-11-21 07:00:30", WHOLE_US),  # Django without a fraction; CURRENT_TIMESTAMP
        ("TIMESTAMP", "2026-11-21T07:00:30.250000", AT_US),
        ("TEXT", "2026-11-21T07:00:30.250000+00:00", AT_US),
        ("TEXT", "2026-11-21T07:00:30Z", WHOLE_US),
        ("INTEGER", WHOLE_US // 10**6, WHOLE_US),
        ("REAL", AT_US / 10**6, AT_US),
        ("TIMESTAMP", AT_US / 10**6, AT_US),
    ],
)
def test_every_way_to_keep_a_time_in_sqlite_is_read(on_sqlite, kind, value, expected) -> None:
    on_sqlite.execute(f"CREATE TABLE sessions (id text PRIMARY KEY, at {kind})")
    on_sqlite.execute("CREATE INDEX by_at ON sessions (at)")
    on_sqlite.execute("INSERT INTO sessions VALUES ('a', %s)", value)
    [row] = told(on_sqlite, TableMapping("sessions", created_at="at"))
    assert row.at_us == expected


NOW_IN_SQLITE = {
    "DATETIME": "strftime('%Y-%m-%d %H:%M:%f000', 'now')",
    "TIMESTAMP": "CURRENT_TIMESTAMP",
    "TEXT": "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')",
    "INTEGER": "unixepoch('now', '+1 second')",
    "REAL": "unixepoch('now', '+1 second') + 0.5",
}


@pytest.mark.parametrize("kind", NOW_IN_SQLITE)
def test_rows_are_found_whatever_way_a_file_keeps_its_times_in(on_sqlite, kind) -> None:
    on_sqlite.execute(f"CREATE TABLE sessions (id text PRIMARY KEY, at {kind})")
    on_sqlite.execute("CREATE INDEX by_at ON sessions (at)")
    watched = watch(TableMapping("sessions", created_at="at"))
    look(on_sqlite, watched)
    # A whole second may have begun before the watch did.
    later = "+1 second" if kind == "TIMESTAMP" else ""
    value = f"datetime({NOW_IN_SQLITE[kind]}, '{later}')" if later else NOW_IN_SQLITE[kind]
    on_sqlite.execute(f"INSERT INTO sessions VALUES ('a', {value})")
    assert [row.session for row in rows_of(look(on_sqlite, watched), NEW)] == ["a"]


@pytest.mark.parametrize("kind", ["date", "text", "boolean", "time"])
def test_what_is_no_time_is_refused_by_name(on_postgres, kind) -> None:
    on_postgres.execute(f"CREATE TABLE sessions (id text PRIMARY KEY, at {kind})")
    with pytest.raises(TableUnusable, match="table sessions: column at: expected a timestamp, or a number of seconds"):
        look(on_postgres, watch(TableMapping("sessions", created_at="at")))


def test_times_that_python_has_none_for_hide_no_other_row(on_postgres) -> None:
    on_postgres.execute("CREATE TABLE sessions (id text PRIMARY KEY, at timestamptz, changed timestamptz)")
    for name, at in (("a", "now()"), ("b", "'infinity'"), ("c", "'-infinity'"), ("d", "'0100-01-01 BC'")):
        on_postgres.execute(f"INSERT INTO sessions VALUES ('{name}', {at}, 'infinity')")
        on_postgres.execute(f"INSERT INTO sessions VALUES ('{name}2', now() - interval '1 day', {at})")
    found = told(on_postgres, TableMapping("sessions", created_at="at", updated_at="changed"))
    assert sorted(row.session for row in found) == ["a", "a2", "b2", "c2", "d2"]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("uuid", str(ID).upper(), str(ID)),
        ("text", str(ID).upper(), str(ID).upper()),
        ("varchar(64)", "täxt", "täxt"),
        ("bigint", 2**60, str(2**60)),
        ("bytea", ID.bytes, canonical_id(ID.bytes)),
        ("numeric", 12, "12"),
    ],
)
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_ids_of_postgresql_are_the_texts_that_hooks_tell(postgres, driver, kind, value, expected) -> None:
    with postgres_place(postgres, driver) as place:
        place.execute(f"CREATE TABLE sessions (id {kind} PRIMARY KEY, owner {kind}, at timestamptz DEFAULT now())")
        place.execute("INSERT INTO sessions VALUES (%s, %s)", value, value)
        [row] = told(place, TableMapping("sessions", user="owner", created_at="at"))
        assert (row.session, row.user) == (expected, expected)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("CHAR(32)", ID.hex, str(ID)),  # SQLAlchemy's Uuid, Django's UUIDField
        ("VARCHAR(36)", ID.hex, ID.hex),
        ("INTEGER", 7, "7"),
        ("BLOB", ID.bytes, canonical_id(ID.bytes)),
    ],
)
def test_ids_of_sqlite_are_the_texts_that_hooks_tell(on_sqlite, kind, value, expected) -> None:
    on_sqlite.execute(f"CREATE TABLE sessions (id {kind} PRIMARY KEY, owner {kind}, at DATETIME)")
    on_sqlite.execute("INSERT INTO sessions VALUES (%s, %s, '2026-11-21 07:00:00')", value, value)
    [row] = told(on_sqlite, TableMapping("sessions", user="owner", created_at="at"))
    assert (row.session, row.user) == (expected, user_text(ID) if "32" in kind else expected)


@pytest.mark.parametrize("page_rows", [1, 2, 3, 100])
def test_rows_of_one_moment_are_all_found_at_the_border_of_pages(place, page_rows) -> None:
    kind = "uuid" if place.is_postgresql else "CHAR(32)"
    time = "timestamptz" if place.is_postgresql else "DATETIME"
    place.execute(f"CREATE TABLE sessions (tenant integer, id {kind}, app text, owner text, at {time})")
    place.execute("CREATE INDEX by_at ON sessions (at)")
    mapping = TableMapping("sessions", id=("tenant", "id"), id_prefix="0/", user="owner", key=("app",), created_at="at")
    for number in range(7):
        values = (number % 2, UUID(int=number).hex, f"u{number}")
        place.execute("INSERT INTO sessions VALUES (%s, %s, 'app', %s, '2026-11-21 07:00:00')", *values)
    watched = watch(mapping, page_rows=page_rows)
    found = [row for _ in range(3) for row in rows_of(look(place, watched), OLD)]
    assert sorted((row.session, row.user, row.key) for row in found) == sorted(
        (f"1/{UUID(int=number)}" if number % 2 else str(UUID(int=number)), f"u{number}", "app") for number in range(7)
    )


def test_several_columns_of_an_id_are_looked_for_together(place) -> None:
    time = "timestamptz" if place.is_postgresql else "DATETIME"
    place.execute(f"CREATE TABLE sessions (tenant integer, id text, at {time}, PRIMARY KEY (tenant, id))")
    for values in ((1, "a"), (1, "b"), (2, "a")):
        place.execute("INSERT INTO sessions VALUES (%s, %s, '2026-11-21 07:00:00')", *values)
    watched = watch(TableMapping("sessions", id=("tenant", "id"), created_at="at"))
    look(place, watched)
    place.execute("DELETE FROM sessions WHERE tenant = 1 AND id = 'a'")
    assert [row.session for row in rows_of(look(place, watched))] == ["1/a"]


def test_a_user_may_be_inside_of_a_json_value(place) -> None:
    json, time = ("jsonb", "timestamptz") if place.is_postgresql else ("JSON", "DATETIME")
    place.execute(f"CREATE TABLE sessions (id text PRIMARY KEY, owner {json}, at {time})")
    place.execute("""INSERT INTO sessions VALUES ('a', '{"user": {"id": 7}}', '2026-11-21 07:00:00')""")
    place.execute("""INSERT INTO sessions VALUES ('b', '{"user": null}', '2026-11-21 07:00:00')""")
    found = told(place, TableMapping("sessions", user="owner", user_path="user.id", created_at="at"))
    assert {row.session: row.user for row in found} == {"a": "7", "b": ""}


@pytest.mark.parametrize(
    ("kind", "active", "inactive", "words"),
    [
        ("boolean", True, False, [True]),
        ("integer", 1, 2, [1, 3]),
        ("text", "open", "shut", ["open", "new"]),
        ("text", None, "2026", [None]),
        ("state", "open", "shut", ["open", "OPEN"]),
    ],
)
def test_active_rows_are_the_same_for_sql_and_for_us(place, kind, active, inactive, words) -> None:
    if kind == "state":
        if place.is_postgresql:
            place.execute("CREATE TYPE state AS ENUM ('open', 'shut')")
        else:
            kind = "varchar(9)"
    time = "timestamptz" if place.is_postgresql else "DATETIME"
    place.execute(f"CREATE TABLE sessions (id text PRIMARY KEY, state {kind}, at {time})")
    for name, value in (("a", active), ("b", inactive)):
        place.execute("INSERT INTO sessions VALUES (%s, %s, '2026-11-21 07:00:00')", name, value)
    mapping = TableMapping("sessions", active={"state": value_texts(words)}, created_at="at")
    with place.database.reading() as connection:
        table = SessionTable(mapping, connection)
        rows = connection.execute(table.rows()).all()
        asked = connection.execute(table.rows(table.active())).all()
    assert [table.session(row) for row in asked] == ["a"]
    assert [table.session(row) for row in rows if table.is_active(row)] == ["a"]


def test_a_table_in_a_schema_and_one_in_the_path_are_found(on_postgres) -> None:
    on_postgres.execute('CREATE SCHEMA "Odd one"')
    on_postgres.execute('CREATE TABLE "Odd one".sessions (id text PRIMARY KEY, at timestamptz DEFAULT now())')
    on_postgres.execute("""INSERT INTO "Odd one".sessions VALUES ('a')""")
    [row] = told(on_postgres, TableMapping("Odd one.sessions", created_at="at"))
    assert row.session == "a"


def test_a_partitioned_table_is_advised_without_what_it_cannot_do(on_postgres) -> None:
    on_postgres.execute("CREATE TABLE sessions (id text, at timestamptz) PARTITION BY RANGE (at)")
    with on_postgres.database.reading() as connection:
        table = SessionTable(TableMapping("sessions", created_at="at"), connection)
    assert table.index_statement("at") == "CREATE INDEX sessions_at_idx ON public.sessions (at);"
    on_postgres.execute(table.index_statement("at"))
    with on_postgres.database.reading() as connection:
        assert SessionTable(TableMapping("sessions", created_at="at"), connection).has_index_on("at")


def test_a_view_is_read_and_not_advised_to_have_an_index(place) -> None:
    time = "timestamptz" if place.is_postgresql else "DATETIME"
    place.execute(f"CREATE TABLE kept (id text PRIMARY KEY, at {time})")
    place.execute("INSERT INTO kept VALUES ('a', '2026-11-21 07:00:00')")
    place.execute("CREATE VIEW sessions AS SELECT * FROM kept")
    watched = watch(TableMapping("sessions", created_at="at"))
    assert [row.session for row in rows_of(look(place, watched), OLD)] == ["a"]
    assert all("of a view" in warning and "CREATE" not in warning for warning in watched.take_warnings())


def test_an_index_of_some_rows_only_is_none(place) -> None:
    time = "timestamptz" if place.is_postgresql else "DATETIME"
    place.execute(f"CREATE TABLE sessions (id text PRIMARY KEY, other text, at {time})")
    place.execute("CREATE INDEX of_x ON sessions (at) WHERE other = 'x'")
    place.execute("CREATE INDEX of_two ON sessions (other, at)")
    with place.database.reading() as connection:
        table = SessionTable(TableMapping("sessions", created_at="at"), connection)
        assert [table.has_index_on(name) for name in ("id", "at", "other")] == [True, False, True]
        assert {index.name: bool(index.predicate) for index in table.shape.indexes if index.name}["of_x"]
