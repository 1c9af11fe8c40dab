"""The indexes of a table: whether one refuses a second active row of a user, and whether one finds what is new.

A partial index guards when its condition holds for every active row. It is not read but asked: the database evaluates
it for a row that has nothing but the values with which a session is active.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import product
from math import prod
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from session_exporter.audit.database.mapped import active_values
from session_exporter.audit.database.results import Guards
from session_exporter.audit.database.subject import Subject

_COMBINATIONS_MAX: Final = 64
_PG_INDEXES: Final = sa.text("""
    SELECT c.relname AS name, i.indisunique AS is_unique, i.indisvalid AND i.indisready AS is_valid,
        pg_get_expr(i.indpred, i.indrelid) AS condition,
        ARRAY(SELECT pg_get_indexdef(i.indexrelid, n, true) FROM generate_series(1, i.indnkeyatts) AS n ORDER BY n)
            AS terms
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    WHERE i.indrelid = CAST(:table AS regclass) ORDER BY c.relname
""")
_WORD: Final = re.compile(r'"(?:[^"]|"")+"|[A-Za-z_][A-Za-z_0-9$]*')
_COALESCED: Final = re.compile(r"\A\(*coalesce\(", re.IGNORECASE)


class AuditedIndex(NamedTuple):
    """An index, each of its terms the name of a column (quoted where it has to be) or an expression."""

    name: str
    is_unique: bool
    is_valid: bool
    condition: str
    terms: Sequence[str]


def find_guards(connection: Connection, subject: Subject) -> Guards:
    """Look for the indexes that matter."""
    indexes = list(_indexes(connection, subject))
    refusing = [each for each in indexes if each.is_unique and _refuses(connection, subject, each)]
    leading = [each.name for each in indexes if each.is_valid and _leads(each, subject)]
    return Guards(
        unique=next((each.name for each in refusing if each.is_valid), ""),
        invalid=next((each.name for each in refusing if not each.is_valid), ""),
        created_at=next(iter(leading), ""),
    )


def _indexes(connection: Connection, subject: Subject) -> Iterable[AuditedIndex]:
    if subject.dialect == "postgresql":
        name = connection.dialect.identifier_preparer.format_table(subject.table)
        for row in connection.execute(_PG_INDEXES, {"table": name}):
            yield AuditedIndex(row.name, row.is_unique, row.is_valid, row.condition or "", row.terms)
    else:
        yield from _sqlite_indexes(connection, subject.table.name)
        # One that is an integer has no index of its own.
        keys = [_quoted(column.name) for column in subject.table.primary_key.columns]
        yield AuditedIndex("of the primary key", is_unique=True, is_valid=True, condition="", terms=keys)


def _sqlite_indexes(connection: Connection, table: str) -> Iterable[AuditedIndex]:
    found = sa.text(
        'SELECT l.name, l."unique" AS is_unique, m.sql FROM pragma_index_list(:table) AS l '
        "LEFT JOIN sqlite_master AS m ON m.type = 'index' AND m.name = l.name ORDER BY l.name"
    )
    columns = sa.text("SELECT name FROM pragma_index_info(:name) ORDER BY seqno")
    for index in connection.execute(found, {"table": table}).all():
        names = [row.name for row in connection.execute(columns, {"name": index.name})]
        terms, condition = _parts(index.sql or "")
        # An expression has no name.
        whole = [term if name is None else _quoted(name) for name, term in zip(names, terms or names, strict=False)]
        yield AuditedIndex(index.name, bool(index.is_unique), is_valid=True, condition=condition, terms=whole)


def _parts(sql: str) -> tuple[list[str], str]:
    """The terms and the condition of a CREATE INDEX."""
    terms, depth, begun = [], 0, 0
    for match in re.finditer(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|[(),]""", sql):
        mark = match.group()
        if mark == "(":
            depth += 1
            begun = match.end() if depth == 1 else begun
        elif mark in {")", ","} and depth == 1:
            terms.append(sql[begun : match.start()].strip())
            begun = match.end()
        depth -= mark == ")"
        if mark == ")" and depth == 0:
            _, _, condition = sql[match.end() :].strip().partition(" ")
            return terms, condition.strip()
    return [], ""


def _leads(index: AuditedIndex, subject: Subject) -> bool:
    return bool(index.terms) and not index.condition and _names(index.terms[0]) == {subject.mapping.created_at}


def _refuses(connection: Connection, subject: Subject, index: AuditedIndex) -> bool:
    """Whether two active rows of one user and key cannot be in an index that is unique."""
    mapping = subject.mapping
    if subject.user is None or not index.terms:
        return False
    of_user = [term for term in index.terms if mapping.user in _names(term)]
    others = [term for term in index.terms if term not in of_user]
    if not of_user or not all(_is_of_key(term, subject) for term in others):
        return False
    if not all(_is_of_user(term, subject) for term in of_user):
        return False
    return not index.condition or _holds(connection, subject, index.condition)


def _is_of_user(term: str, subject: Subject) -> bool:
    if not subject.mapping.user_path:
        return _names(term) == {subject.mapping.user}
    return all(word in term for word in subject.mapping.user_path.split("."))


def _is_of_key(term: str, subject: Subject) -> bool:
    """Whether it is a column of the key, which rows without a value have in common."""
    name = next((key for key in subject.mapping.key if key in _names(term)), None)
    if name is None:
        return False
    if _names(term) == {name}:
        return not subject.table.c[name].nullable
    return _COALESCED.match(term) is not None


def _names(term: str) -> set[str]:
    return {_unquoted(word) for word in _WORD.findall(re.sub(r"'(?:[^']|'')*'|::[a-z ]+", "", term))}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _unquoted(word: str) -> str:
    return word[1:-1].replace('""', '"') if word.startswith('"') else word


def _holds(connection: Connection, subject: Subject, condition: str) -> bool:
    """Whether an index's condition holds for every row that is active and has a user."""
    columns = [subject.table.c[name] for name in subject.mapping.active]
    values = [active_values(column, subject.mapping.active[column.name]) for column in columns]
    if not columns or not all(values) or prod(map(len, values)) > _COMBINATIONS_MAX:
        return False
    # What asks for a user holds: a row with one is meant.
    user = re.escape(subject.mapping.user)
    has_user = rf"""(?:\("?{user}"?\)(?:::[a-z ]+)?|"?{user}"?) (?:IS NOT NULL|<> ''(?:::[a-z ]+)?)"""
    asked = re.sub(has_user, "1 = 1", condition, flags=re.IGNORECASE)
    return all(_holds_for(connection, columns, row, asked) for row in product(*values))


def _holds_for(connection: Connection, columns: Sequence[Any], row: Sequence[Any], condition: str) -> bool:
    cells = [
        sa.cast(sa.null() if value is None else sa.literal(value, column.type), column.type).label(column.name)
        for column, value in zip(columns, row, strict=True)
    ]
    only = sa.select(*cells).subquery("a_row")
    try:
        with connection.begin_nested():
            return bool(connection.execute(sa.select(sa.literal_column(condition)).select_from(only)).scalar())
    except SQLAlchemyError:  # it asks for other columns: there may be active rows that it leaves out
        return False
