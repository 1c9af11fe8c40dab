"""What a SQL text says, and that nothing is said of one that is not certain."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.hooks.sqlalchemy.readings import UNKNOWN, Conflict, StatementReading
from session_exporter.hooks.sqlalchemy.sqltext import read

NAMED = {"id": "I", "u": "U", "a": "A", "b": "B"}
LISTED = ("p0", "p1", "p2", "p3")


def _only(sql: str) -> StatementReading:
    (reading,) = read(sql)
    return reading


def _values(sources: Any, values: Any = LISTED) -> dict[str, object]:
    return {column: source(values) for column, source in sources.items()}


def _pins(reading: StatementReading, values: Any = LISTED) -> dict[str, object]:
    return {
        column: pin.expanding or [source(values) for source in pin.sources]
        for column, pin in reading.where.pins.items()
    }


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        ("insert into s (id, u) values (?, ?)", ("I", "U")),
        ("insert into s (id, u) values (%s, %s)", ("I", "U")),
        ("insert into s (u, id) values ($2, $1)", ("I", "U")),
        ("insert into s (u, id) values (?2, ?1)", ("I", "U")),
        ("insert into s (id, u) values (%(id)s, %(u)s)", NAMED),
        ("INSERT INTO s(id, u) VALUES (:id, :u);", NAMED),
        ("insert into public.s as x (\"id\", `u`) values ('I', N'U')", ()),
        ("insert into s (id, u) values (cast(:id as uuid), (:u)::varchar(10))", NAMED),
        ("/* chat */ insert into s -- what?\n (id, u) select :id, :u where not exists (select 1 from s)", NAMED),
        ("insert into s (id, n, u) values (:id, coalesce(:a, :b), :u)", NAMED),
    ],
)
def test_values_of_an_insert_are_found_in_every_style_of_parameters(sql: str, values: Any):
    reading = _only(sql)
    assert (reading.verb, reading.table) == ("insert", "s")
    found = _values(reading.rows[0], values)
    assert (found["id"], found["u"]) == ("I", "U")


@pytest.mark.parametrize(
    ("sql", "conflict", "columns"),
    [
        ("insert into s (id) values (?)", Conflict.REFUSE, None),
        ("insert or ignore into s (id) values (?)", Conflict.NOTHING, None),
        ("insert ignore into s (id) values (?)", Conflict.NOTHING, None),
        ("insert or replace into s (id) values (?)", Conflict.REPLACE, None),
        ("replace into s (id) values (?)", Conflict.REPLACE, None),
        ("insert into s (id) select ? from t", Conflict.NOTHING, None),
        ("insert into s (id) values (?) on conflict do nothing", Conflict.NOTHING, None),
        ("insert into s (id) values (?) on conflict (id, u) do update set u = 1", Conflict.UPDATE, {"id", "u"}),
        ("insert into s (id) values (?) on conflict on constraint k do nothing", Conflict.NOTHING, {"constraint k"}),
        ("insert into s (id) values (?) on duplicate key update u = values(id)", Conflict.UPDATE, None),
    ],
)
def test_what_an_insert_does_about_a_conflict_is_read(sql: str, conflict: Conflict, columns: Any):
    reading = _only(sql)
    assert (reading.conflict, reading.conflict_columns) == (conflict, columns)


def test_what_an_upsert_updates_is_read():
    sql = "insert into s (id, u) values (:id, :u) on conflict (id) do update set u = excluded.u, n = now(), m = :a"
    assert _values(_only(sql).sets, NAMED) == {"u": "U", "n": UNKNOWN, "m": "A"}


@pytest.mark.parametrize(
    ("sql", "pins", "is_only_pins"),
    [
        ("delete from s where id = ?", {"id": ["p0"]}, True),
        ("delete from s where ? = s.id and n > 3", {"id": ["p0"]}, False),
        ("delete from s as x where (x.id = ? and (x.u = ? and x.n = 5))", {"id": ["p0"], "u": ["p1"], "n": [5]}, True),
        ("delete from s where id in (?, ?)", {"id": ["p0", "p1"]}, True),
        ("delete from s where id in :ids", {"id": "ids"}, True),
        ("delete from s where id = ? or u = ?", {}, False),
        ("delete from s where not id = ?", {}, False),
        ("delete from s where lower(id) = ?", {}, False),
        ("delete from s where id = ? and n between 1 and 2", {}, False),
        ("delete from s where case when n and id = ? then 1 else 0 end = 1", {}, False),
        ("delete from s where id in (select id from t)", {}, False),
        ("delete from s", {}, False),
        ("delete from s using t where t.id = ? and s.n = ?", {"n": ["p1"]}, False),
    ],
)
def test_what_a_condition_pins_is_read(sql: str, pins: Any, is_only_pins: Any):
    reading = _only(sql)
    assert (_pins(reading), reading.where.is_only_pins) == (pins, is_only_pins)


def test_columns_of_a_query_are_found_by_place_or_by_name():
    assert _only("select x.u as who, lower(x.id), x.id from s x where x.id = ?").outputs == {"u": 0, "id": 2}
    star = _only("select s.*, n as m from s where id = ?")
    assert (star.output("id"), star.output("n")) == ("id", "m")
    joined = {
        reading.table: reading for reading in read("select a.*, b.x from s a join t b on b.s = a.id where a.id = ?")
    }
    assert joined["s"].has_star
    assert _pins(joined["s"]) == {"id": ["p0"]}
    assert joined["t"].outputs == {"x": "x"}


def test_a_merge_of_one_row_is_an_upsert():
    reading = _only(
        "merge into s using (values (:id, :u)) as n (id, u) on s.id = n.id "
        "when matched then update set u = n.u when not matched then insert (id, u) values (n.id, n.u)"
    )
    assert (reading.conflict, reading.conflict_columns) == (Conflict.UPDATE, {"id"})
    assert _values(reading.rows[0], NAMED) == {"id": "I", "u": "U"}


@pytest.mark.parametrize(
    "sql",
    [
        "",
        ";",
        "select 1",
        "select 1; delete from s where id = 1",
        "with x as (select 1) delete from s where id = 1",
        "select count(*) from s where id = ?",
        "select id from s where id = ? union select id from s",
        "select id from (select 1 as id) x where id = ?",
        "select a.id from s a join s b on a.u = b.u where a.id = ?",
        "select $$x$$ from s where id = 1",
        "select id from s where u = E'\\'' and id = ?",
        "select id from s where (id = ?",
        "update s set (a, b) = (1, 2) where id = ?",
        "update s join t on t.s = s.id set s.a = 1 where s.id = ?",
        "delete s from s join t on t.s = s.id where s.id = ?",
        "insert into s (id, u) values (?)",
        "insert into s values",
        "create table s (id)",
        "merge into s using t on t.id = s.id when matched then delete",
        "select " + "x, " * 50_000 + "id from s",
    ],
)
def test_of_what_is_not_certain_nothing_is_said(sql: str):
    assert [reading for reading in read(sql) if reading.rows or reading.where.pins or reading.sets] == []


WORDS = st.sampled_from(
    [
        "select",
        "insert",
        "into",
        "update",
        "delete",
        "from",
        "where",
        "values",
        "set",
        "on",
        "conflict",
        "do",
        "nothing",
        "returning",
        "and",
        "or",
        "in",
        "not",
        "using",
        "merge",
        "when",
        "matched",
        "then",
        "s",
        "t",
        "id",
        "u",
        "(",
        ")",
        ",",
        ".",
        "*",
        "=",
        "?",
        ":a",
        "%s",
        "'x'",
        '"q"',
        "1",
        "-",
        "::",
        "as",
        "cast",
        "join",
        "union",
        ";",
        "'",
        '"',
        "[",
        "--",
        "/*",
        "$1",
        "\\",
    ]
)


@given(st.lists(WORDS, max_size=30).map(" ".join))
def test_no_text_makes_the_reader_fail(sql: str):
    for reading in read(sql):
        assert reading.table
