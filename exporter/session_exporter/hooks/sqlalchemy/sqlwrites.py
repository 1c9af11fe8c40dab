"""What INSERT, UPDATE, DELETE and MERGE, written as text, do to their table."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from session_exporter.hooks.sqlalchemy.readings import Conflict, Source, StatementReading, Where
from session_exporter.hooks.sqlalchemy.sqlterms import (
    Table,
    clauses_of,
    known,
    names_in,
    outputs_of,
    table_at,
    told,
    value_of,
    where_of,
)
from session_exporter.hooks.sqlalchemy.sqltokens import Tokens, UnclearError, closing, places, split, unwrapped

_BEFORE_INTO: Final = frozenset({"OR", "IGNORE", "REPLACE", "ABORT", "FAIL", "ROLLBACK"})
_AFTER_SELECT: Final = ("FROM", "WHERE", "ORDER", "LIMIT")
_NOT_ROWS: Final = ("UNION", "INTERSECT", "EXCEPT")

Row = Mapping[str, Source]


@dataclass(frozen=True, slots=True)
class _Resolution:
    """What an insert does about a row that is there."""

    kind: Conflict = Conflict.REFUSE
    columns: frozenset[str] | None = None
    sets: Row = field(default_factory=dict)


def insert(tokens: Tokens) -> StatementReading | None:
    """Read an INSERT or REPLACE."""
    into = places(tokens, "INTO")
    if not into or not all(token.word in _BEFORE_INTO for token in tokens[1 : into[0]]):
        return None
    table, place = table_at(tokens, into[0] + 1)
    columns: list[str] = []
    if tokens[place].word == "(" and tokens[place + 1].word not in {"SELECT", "WITH", "VALUES"}:
        end = closing(tokens, place)
        columns, place = names_in(tokens[place : end + 1]), end + 1
    body, outputs, has_star = _returning(tokens[place:], table)
    ends = [each for each in places(body, "ON") if body[each + 1].word in {"CONFLICT", "DUPLICATE"}]
    source, clause = (body[: ends[0]], body[ends[0] + 1 :]) if ends else (body, ())
    rows, from_query = _rows(source, columns)
    words = {token.word for token in tokens[: into[0]]}
    how = _resolution(clause, table, rows[0] if rows else {})
    if "REPLACE" in words:
        how = replace(how, kind=Conflict.REPLACE)
    elif how.kind is Conflict.REFUSE and (from_query or "IGNORE" in words):
        how = replace(how, kind=Conflict.NOTHING)
    return StatementReading(
        "insert",
        table.name,
        table.schema,
        rows=rows,
        conflict=how.kind,
        conflict_columns=how.columns,
        sets=how.sets,
        outputs=outputs,
        has_star=has_star,
    )


def update(tokens: Tokens) -> StatementReading | None:
    """Read an UPDATE."""
    start = 3 if tokens[1].word == "OR" else 1
    table, place = table_at(tokens, start)
    if tokens[place].word != "SET":
        raise UnclearError
    body, outputs, has_star = _returning(tokens[place:], table)
    clauses = clauses_of(body, "SET", "FROM", "WHERE", "ORDER", "LIMIT")
    return StatementReading(
        "update",
        table.name,
        table.schema,
        sets=told(_assignments(clauses["SET"], table)),
        where=where_of(clauses.get("WHERE", ()), replace(table, is_alone="FROM" not in clauses)),
        outputs=outputs,
        has_star=has_star,
    )


def delete(tokens: Tokens) -> StatementReading | None:
    """Read a DELETE."""
    if tokens[1].word != "FROM":
        raise UnclearError
    table, place = table_at(tokens, 2)
    body, outputs, has_star = _returning(tokens[place:], table)
    clauses = clauses_of(body, "USING", "WHERE", "ORDER", "LIMIT")
    if body and body[0].word not in clauses:
        raise UnclearError
    table = replace(table, is_alone="USING" not in clauses)
    where = where_of(clauses.get("WHERE", ()), table)
    where = Where(where.pins, where.is_only_pins and not clauses.keys() - {"WHERE"})
    return StatementReading("delete", table.name, table.schema, where=where, outputs=outputs, has_star=has_star)


def merge(tokens: Tokens) -> StatementReading | None:
    """Read a MERGE of one row whose values the statement names: `USING (SELECT :id AS id) AS n ON t.id = n.id`."""
    if tokens[1].word != "INTO":
        return None
    table, place = table_at(tokens, 2)
    body, outputs, has_star = _returning(tokens[place:], table)
    on, whens = places(body, "ON"), places(body, "WHEN")
    if body[0].word != "USING" or not on or not whens:
        raise UnclearError
    new = _merged(body[1 : on[0]])
    inserts: Row | None = None
    sets: Row = {}
    updates = False
    for when in split(body[whens[0] + 1 :], "WHEN"):
        action = when[places(when, "THEN")[0] + 1 :]
        if action[0].word == "INSERT":
            values = places(action, "VALUES")[0]
            inserts = _row(names_in(action[1:values]), action[values + 1 :], new)
        elif action[0].word == "UPDATE":
            updates, sets = True, told(_assignments(action[2:], table, new))
        elif action[0].word == "DELETE":
            return None
    if inserts is None:
        return None
    return StatementReading(
        "insert",
        table.name,
        table.schema,
        rows=(inserts,),
        conflict=Conflict.UPDATE if updates else Conflict.NOTHING,
        conflict_columns=_compared(body[on[0] + 1 : whens[0]], table),
        sets=sets,
        outputs=outputs,
        has_star=has_star,
    )


def _merged(tokens: Tokens) -> Table:
    """The one row of a MERGE's source, by the names it gives to its values."""
    end = closing(tokens, 0)
    inside, after = unwrapped(tokens[: end + 1]), tokens[end + 1 :]
    table, place = table_at(after, 1 if after[0].word == "AS" else 0)
    if inside[0].word == "VALUES":
        values = split(unwrapped(inside[1:]), ",")
        names = names_in(after[place:])
    elif inside[0].word == "SELECT" and not places(inside, "FROM", *_NOT_ROWS):
        parts = split(inside[1:], ",")
        values = [part[: -2 if part[-2].word == "AS" else -1] for part in parts]
        names = [part[-1].text.lower() for part in parts]
    else:
        raise UnclearError
    columns = {name: value_of(value) for name, value in zip(names, values, strict=False)}
    return replace(table, columns=known(columns), is_alone=False)


def _compared(tokens: Tokens, table: Table) -> frozenset[str]:
    columns = set()
    for part in split(unwrapped(tokens), "AND"):
        sides = split(unwrapped(part), "=")
        columns |= {replace(table, is_alone=False).column(side) for side in sides}
    return frozenset(columns - {""})


def _returning(tokens: Tokens, table: Table) -> tuple[Tokens, dict[str, int | str], bool]:
    returned = places(tokens, "RETURNING")
    if not returned:
        return tokens, {}, False
    return tokens[: returned[0]], *outputs_of(tokens[returned[0] + 1 :], table)


def _rows(tokens: Tokens, columns: list[str]) -> tuple[tuple[Row, ...], bool]:
    """The rows that are inserted, and whether a query gives them: none, one or many."""
    tokens = unwrapped(tokens)
    values = places(tokens, "VALUES", "SELECT", "DEFAULT", "WITH")
    if not values:
        raise UnclearError
    first = tokens[values[0]].word
    if first == "VALUES":
        parts = split(tokens[values[0] + 1 :], ",")
        if not columns:
            return (), True
        return tuple(_row(columns, part) for part in parts), False
    if first == "SELECT" and not places(tokens, *_NOT_ROWS):
        clauses = clauses_of(tokens, "SELECT", *_AFTER_SELECT)
        return ((_row(columns, clauses["SELECT"]),), True) if columns else ((), True)
    return ((), True) if first != "DEFAULT" else (({},), False)


def _row(columns: list[str], tokens: Tokens, aliased: Table | None = None) -> Row:
    values = split(unwrapped(tokens), ",")
    if len(values) != len(columns):
        raise UnclearError
    pairs = zip(columns, values, strict=True)
    return told({column: value_of(value, aliased) for column, value in pairs})


def _assignments(tokens: Tokens, table: Table, aliased: Table | None = None) -> dict[str, Source | None]:
    assigned = {}
    for part in split(tokens, ","):
        equals = places(part, "=")
        column = table.column(part[: equals[0]]) if equals else ""
        if not column:
            raise UnclearError
        assigned[column] = value_of(part[equals[0] + 1 :], aliased)
    return assigned


def _resolution(tokens: Tokens, table: Table, row: Row) -> _Resolution:
    if not tokens:
        return _Resolution()
    new = Table("excluded", alias="excluded", is_alone=False, columns=row)
    if tokens[0].word == "DUPLICATE":  # ON DUPLICATE KEY UPDATE a = ..., b = VALUES(b)
        return _Resolution(Conflict.UPDATE, None, told(_assignments(tokens[3:], table, new)))
    columns: frozenset[str] | None = None
    if tokens[1].word == "(":
        columns = frozenset(names_in(tokens[1 : closing(tokens, 1) + 1]))
    elif tokens[1].word == "ON":  # CONSTRAINT name
        columns = frozenset({f"constraint {tokens[3].text.lower()}"})
    do = places(tokens, "DO")[0]
    if tokens[do + 1].word == "NOTHING":
        return _Resolution(Conflict.NOTHING, columns)
    clauses = clauses_of(tokens[do + 2 :], "SET", "WHERE")
    return _Resolution(Conflict.UPDATE, columns, told(_assignments(clauses["SET"], table, new)))
