"""From a mapping and what a database has to what can be asked."""

import sqlite3
import warnings
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection
from sqlalchemy.exc import NoSuchTableError

from session_exporter.audit.database.subject import Subject
from session_exporter.core.scopes import ScopeRules
from session_exporter.errors import TableUnusable
from session_exporter.mappings import TableMapping
from session_exporter.watch.catalog import TableShape, shape_of_table
from session_exporter.watch.clock import EPOCH, MICROSECOND

# Beyond is no time that anybody means: the year 2255.
TIME_US_MAX: Final = 9_000_000_000_000_000
NUMBERS: Final = (sa.Integer, sa.Numeric, sa.Float)
_DATED: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:.]+)?([+-][0-9:]+|Z)?$"
# A function that every connection to a SQLite is given: what it has no type for becomes microseconds.
_SQLITE_US: Final = "session_exporter_us"
_TRUTHS: Final = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}


def find_subject(connection: Connection, mapping: TableMapping, rules: ScopeRules) -> Subject:
    """Find a mapped table.

    Raises:
        TableUnusable: It is not there, or a column is missing.
    """
    shape = shape_of_table(connection, mapping.table)
    mapping = _named(mapping, shape)
    table = _reflected(connection, shape, mapping)
    dialect = connection.dialect.name
    if dialect == "sqlite":
        _teach(connection)
    return Subject(
        mapping,
        rules,
        table,
        dialect,
        shape.may_have_indexes,
        shape.is_concurrent,
        user=_user(table, mapping, dialect),
        created_us=_microseconds(table.c[mapping.created_at], dialect) if mapping.created_at else None,
        active=is_active(table, mapping),
    )


def is_active(table: sa.Table, mapping: TableMapping) -> Any:
    """The condition that a row is active; None where no column says so."""
    terms = [_is_among(table.c[name], texts) for name, texts in mapping.active.items()]
    return None if not terms else sa.and_(*terms) if len(terms) > 1 else terms[0]


def active_values(column: Any, texts: Iterable[str]) -> list[Any]:
    """The values of a column with which a row is active, None for NULL: those of its type."""
    kind, found = column.type, sorted(texts)
    values: list[Any] = [None] if "null" in found else []
    if isinstance(kind, sa.Enum) and kind.enums:
        return values + [text for text in found if text in kind.enums]
    if isinstance(kind, sa.Boolean):
        return values + sorted({_TRUTHS[text] for text in found if text in _TRUTHS})
    if isinstance(kind, sa.Integer):
        return values + [int(text) for text in found if text.lstrip("-").isdigit()]
    if isinstance(kind, (sa.DateTime, sa.Date, sa.Numeric, sa.Float)):
        return values
    return values + [text for text in found if text != "null"]


def _is_among(column: Any, texts: Iterable[str]) -> Any:
    values = active_values(column, texts)
    if isinstance(column.type, sa.types.NullType):  # of an extension: all that is known of it is that it has a text
        column = sa.cast(column, sa.Text)
    whole = [value for value in values if value is not None]
    terms = [column.is_(None)] if None in values else []
    if len(whole) == 1:
        terms.append(column == whole[0])
    elif whole:
        terms.append(column.in_(whole))
    if not terms:
        raise TableUnusable(f"{column.table.name}.{column.name}: expected values of its type in `active`")
    return terms[0] if len(terms) == 1 else sa.or_(*terms)


def _named(mapping: TableMapping, shape: TableShape) -> TableMapping:
    """The mapping with the names of columns as the table has them."""
    names = {**{name.lower(): name for name in shape.columns}, **{name: name for name in shape.columns}}

    def found(name: str) -> str:
        if name and name not in names and name.lower() not in names:
            raise TableUnusable(f"table {mapping.table}: there is no column {name}")
        return names.get(name, names.get(name.lower(), ""))

    return replace(
        mapping,
        id=tuple(map(found, mapping.id)),
        user=found(mapping.user),
        key=tuple(map(found, mapping.key)),
        active={found(name): texts for name, texts in mapping.active.items()},
        created_at=found(mapping.created_at),
        updated_at=found(mapping.updated_at),
        end_reason=found(mapping.end_reason),
    )


def _reflected(connection: Connection, shape: TableShape, mapping: TableMapping) -> sa.Table:
    # Printed SQL names a schema where the mapping does.
    schema = shape.schema if "." in mapping.table and shape.schema else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", sa.exc.SAWarning)  # of types that it does not know, which do no harm
            table = sa.Table(shape.name, sa.MetaData(), schema=schema, autoload_with=connection, resolve_fks=False)
    except NoSuchTableError:
        raise TableUnusable(f"table {mapping.table}: there is none of this name that we may see") from None
    for column in table.columns:
        column.type = _plain_type(column.type, connection.dialect.name)
    return table


def _plain_type(kind: Any, dialect: str) -> Any:
    """A domain's own type; and what a column of SQLite that declares none is compared with."""
    if isinstance(kind, sa.types.NullType):
        return sa.Text() if dialect == "sqlite" else kind
    return getattr(kind, "data_type", kind)


def _user(table: sa.Table, mapping: TableMapping, dialect: str) -> Any:
    if not mapping.user:
        return None
    column = table.c[mapping.user]
    if not mapping.user_path:
        return column
    words = mapping.user_path.split(".")
    if dialect == "postgresql":
        return sa.func.jsonb_extract_path_text(sa.cast(column, postgresql.JSONB), *words, type_=sa.Text)
    quoted = "".join('."' + word.replace('"', "") + '"' for word in words)
    valid = sa.case((sa.func.json_valid(column) == 1, column), else_=None)
    return sa.cast(sa.func.json_extract(valid, f"${quoted}"), sa.Text)


def _microseconds(column: Any, dialect: str) -> Any:
    if dialect == "sqlite":
        return getattr(sa.func, _SQLITE_US)(column, type_=sa.BigInteger)
    if isinstance(column.type, NUMBERS):
        # As everywhere: milliseconds, taken for seconds, are no time of ours.
        in_seconds = column.between(0, TIME_US_MAX // 1_000_000)
        return sa.case((in_seconds, sa.cast(sa.func.round(column * 1_000_000), sa.BigInteger)), else_=None)
    if not isinstance(column.type, sa.DateTime | sa.Date):
        text = sa.cast(column, sa.Text)
        column = sa.case((text.regexp_match(_DATED), sa.cast(text, sa.DateTime(timezone=True))), else_=None)
    since_s = sa.func.date_part("epoch", column, type_=sa.Float)
    # `infinity` is no time.
    return sa.case((sa.func.isfinite(column), sa.cast(sa.func.round(since_s * 1_000_000), sa.BigInteger)), else_=None)


def _teach(connection: Connection) -> None:
    own: Any = connection.connection.dbapi_connection
    if isinstance(own, sqlite3.Connection):
        own.create_function(_SQLITE_US, 1, _moment_us, deterministic=True)


def _moment_us(value: object) -> int | None:
    """Read a time as applications keep it in SQLite: ISO 8601, UTC where it does not say; or seconds."""
    if isinstance(value, int | float):
        return round(value * 1_000_000) if 0 <= value <= TIME_US_MAX // 1_000_000 else None
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return ((found if found.tzinfo else found.replace(tzinfo=UTC)) - EPOCH) // MICROSECOND
