"""What a SQL text does to one table; where that is not certain, nothing is said."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Final

from session_exporter.hooks.sqlalchemy.readings import NOWHERE, StatementReading, Where
from session_exporter.hooks.sqlalchemy.sqlterms import Table, clauses_of, outputs_of, table_at, where_of
from session_exporter.hooks.sqlalchemy.sqltokens import Tokens, UnclearError, places, split, tokens_of
from session_exporter.hooks.sqlalchemy.sqlwrites import delete, insert, merge, update

_JOIN_WORDS: Final = frozenset({"LEFT", "RIGHT", "FULL", "INNER", "OUTER", "CROSS", "NATURAL"})
# What makes the rows of a query something else than rows of its tables.
_NOT_ROWS: Final = ("GROUP", "HAVING", "UNION", "INTERSECT", "EXCEPT", "WINDOW", "INTO")
_AGGREGATES: Final = frozenset({"COUNT", "MAX", "MIN", "SUM", "AVG", "ARRAY_AGG", "STRING_AGG", "GROUP_CONCAT"})
_AFTER_FROM: Final = ("WHERE", "ORDER", "LIMIT", "OFFSET", "FOR", "FETCH")


def read(sql: str) -> tuple[StatementReading, ...]:
    """Read one statement.

    Args:
        sql: With parameters as `?`, `?1`, `%s`, `%(name)s`, `:name` or `$1`.

    Returns:
        What it does to each of its tables; nothing when that is not certain.
    """
    try:
        tokens = tokens_of(sql)
        if not tokens or places(tokens, ";"):
            return ()
        if tokens[0].word == "SELECT":
            return _select(tokens)
        verb = _VERBS.get(tokens[0].word)
        reading = None if verb is None else verb(tokens)
    except (UnclearError, IndexError):
        return ()
    return () if reading is None else (reading,)


def condition(sql: str, table: str) -> Where:
    """Read a condition, on columns of one table, that stands in a statement as text."""
    try:
        return where_of(tokens_of(sql), Table(table, alias=table))
    except (UnclearError, IndexError):
        return NOWHERE


def _select(tokens: Tokens) -> tuple[StatementReading, ...]:
    clauses = clauses_of(tokens, "SELECT", "FROM", *_AFTER_FROM)
    if "FROM" not in clauses or places(tokens, *_NOT_ROWS) or _aggregates(clauses["SELECT"]):
        return ()
    tables = _tables(clauses["FROM"])
    is_alone = len(tables) == 1 and "OFFSET" not in clauses
    return tuple(_of_table(table, clauses, is_alone=is_alone) for table in tables)


def _of_table(table: Table, clauses: Mapping[str, Tokens], *, is_alone: bool) -> StatementReading:
    where = where_of(clauses.get("WHERE", ()), table)
    outputs, has_star = outputs_of(clauses["SELECT"], table)
    return StatementReading(
        "select",
        table.name,
        table.schema,
        where=Where(where.pins, where.is_only_pins and is_alone),
        outputs=outputs,
        has_star=has_star,
    )


def _aggregates(tokens: Tokens) -> bool:
    """Whether the result is one row whatever there is."""
    if any(token.word == "OVER" for token in tokens):
        return False
    return any(one.word in _AGGREGATES and two.word == "(" for one, two in pairwise(tokens))


def _tables(tokens: Tokens) -> list[Table]:
    """The tables that a query joins; none of them may be a query itself, or be there twice.

    Raises:
        UnclearError: One is.
    """
    tables = []
    for part in split(tokens, "JOIN", ","):
        table, after = table_at(part, 0)
        if after < len(part) and part[after].word not in _JOIN_WORDS | {"ON", "USING"}:
            raise UnclearError
        tables.append(table if table.alias.upper() not in _JOIN_WORDS else replace(table, alias=table.name))
    if len({table.name for table in tables}) < len(tables):
        raise UnclearError
    return [replace(table, is_alone=len(tables) == 1) for table in tables]


_VERBS: Final = {
    "INSERT": insert,
    "REPLACE": insert,
    "UPDATE": update,
    "DELETE": delete,
    "MERGE": merge,
}
