"""The SQL that ends what is there twice, and the index that refuses it from then on: printed, and never run.

What is printed names every column and value itself, so that its reader can judge it, and change it.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from session_exporter.audit.database.mapped import NUMBERS, active_values
from session_exporter.audit.database.results import Guards, Remedy
from session_exporter.audit.database.subject import Subject

REASON: Final = "duplicate_cleanup"
# What whoever runs the SQL has to put in, where the data do not say what an ended session is called.
PLACEHOLDER: Final = "<THE VALUE OF AN ENDED SESSION>"
# What ended sessions are called, the likeliest first.
_OVER: Final = (
    *("ended", "closed", "terminated", "inactive", "replaced", "expired", "completed", "complete", "finished", "done"),
    *("archived", "abandoned", "cancelled", "canceled", "stopped"),
)
_SEEN_MAX: Final = 20
_NAME_BYTES_MAX: Final = 63


class Assignment(NamedTuple):
    """A column, the SQL of what it is to be, and whether somebody has to fill that in."""

    column: str
    value: str
    is_open: bool = False


def find_remedy(connection: Connection, subject: Subject, guards: Guards, *, is_crowded: bool) -> Remedy | None:
    """Write the SQL that a table needs.

    Args:
        connection: In a transaction that only reads: values of ended sessions are looked up.
        subject: A table that says whose a row is, and whether it is active.
        guards: The indexes that it has.
        is_crowded: Whether users have more than one active row.

    Returns:
        None when there is nothing to do, or to be done elsewhere: it is a view.
    """
    if not subject.may_have_indexes or (guards.unique and not is_crowded):
        return None
    text = SqlText(subject, has_empty_users=_has_empty_users(connection, subject))
    notes: list[str] = []
    clean_up = ""
    if is_crowded:
        ending = _ending(connection, subject, text)
        if ending.is_open:
            notes.append(f"Put in, for {PLACEHOLDER}, what column {ending.column} says of a session that is over.")
        clean_up = text.clean_up([ending, *_remarks(subject, text, notes)])
    guard = "" if guards.unique else text.guard(guards.invalid)
    if guard and text.is_postgresql and not subject.is_concurrent:
        notes.append("The table is partitioned: what it is partitioned by has to be in the index.")
    return Remedy(text.look() if is_crowded else "", clean_up, guard, tuple(notes))


class SqlText:
    """Writes SQL for one table.

    Args:
        subject: One that says whose a row is, and whether it is active.
        has_empty_users: Whether rows are active whose user is an empty text: they are nobody's.
    """

    def __init__(self, subject: Subject, *, has_empty_users: bool) -> None:
        self._subject = subject
        module: Any = postgresql if subject.dialect == "postgresql" else sqlite
        # Of a style of parameters that leaves percent signs as they are.
        self._dialect: Any = module.dialect(paramstyle="named")
        self.is_postgresql = subject.dialect == "postgresql"
        self.table = self._dialect.identifier_preparer.format_table(subject.table)
        self._whose = [self.of(subject.user), *map(self.of, subject.keys)]
        self._order = ", ".join(self._whose)
        active = self.of(subject.active)
        self._active = f"({active})" if " OR " in active else active
        not_empty = f" AND {self._whose[0]} <> ''" if has_empty_users else ""
        self._guarded = f"{self._active}{not_empty}"
        is_nullable = subject.mapping.user_path or subject.table.c[subject.mapping.user].nullable
        self._counted = f"{self._guarded} AND {self._whose[0]} IS NOT NULL" if is_nullable else self._guarded

    def of(self, expression: Any) -> str:
        """An expression as it stands in a statement on this table alone."""
        options = {"literal_binds": True, "include_table": False}
        return str(expression.compile(dialect=self._dialect, compile_kwargs=options))

    def name(self, column: str) -> str:
        """A column's name, quoted where it has to be."""
        return str(self._dialect.identifier_preparer.quote(column))

    def look(self) -> str:
        """The rows that would be ended."""
        rows = self._ranked(_shown_columns(self._subject))
        return "\n".join(
            ["SELECT * FROM (", *rows, ") AS ranked", "WHERE place > 1", f"ORDER BY {self._order}, place;"]
        )

    def clean_up(self, assignments: Sequence[Assignment]) -> str:
        """End all but the newest."""
        names = [self.name(column.name) for column in _row_key(self._subject)]
        whole = names[0] if len(names) == 1 else f"({', '.join(names)})"
        values = ",\n    ".join(f"{self.name(each.column)} = {each.value}" for each in assignments)
        surplus = [f"SELECT {', '.join(names)}", "FROM (", *self._ranked(_row_key(self._subject)), ") AS ranked"]
        inner = [f"  {line}" for line in (*surplus, "WHERE place > 1")]
        lines = [
            "BEGIN;",
            f"UPDATE {self.table}",
            f"SET {values}",
            f"WHERE {self._active} AND {whole} IN (",
            *inner,
            ");",
            "COMMIT;",
        ]
        return "\n".join(lines)

    def guard(self, invalid: str) -> str:
        """The index that refuses a second active row."""
        schema = self._subject.table.schema
        name = self._index_name()
        concurrently = " CONCURRENTLY" if self._subject.is_concurrent else ""
        drop = f"DROP INDEX CONCURRENTLY {self._qualified(invalid, schema)};\n" if invalid else ""
        on, indexed = (self.table, self.name(name)) if self.is_postgresql else self._in_schema(name)
        terms = ", ".join([self._term(self._whose[0], self._subject.user), *self._key_terms()])
        return f"{drop}CREATE UNIQUE INDEX{concurrently} {indexed}\n  ON {on} ({terms})\n  WHERE {self._guarded};"

    def now(self, column: Any) -> str | None:
        """The present time as a column has it; None when it has none."""
        kind = column.type
        if self.is_postgresql:
            if isinstance(kind, sa.DateTime):
                return "now()" if kind.timezone else "now() AT TIME ZONE 'UTC'"
            if isinstance(kind, NUMBERS):
                return "extract(epoch FROM now())"
            return "CURRENT_DATE" if isinstance(kind, sa.Date) else None
        if isinstance(kind, NUMBERS):
            return "CAST(strftime('%s', 'now') AS INTEGER)"
        return "strftime('%Y-%m-%d %H:%M:%f', 'now') || '000'"

    def _ranked(self, columns: Iterable[Any]) -> list[str]:
        order = ", ".join([*self._newest_first(), *(f"{self.of(each)} DESC" for each in self._subject.ids)])
        shown = ", ".join(dict.fromkeys(self.of(each) for each in columns))
        ranked = ["row_number() OVER (", f"  PARTITION BY {self._order}", f"  ORDER BY {order}", ") AS place"]
        lines = [f"SELECT {shown},", *(f"  {line}" for line in ranked), f"FROM {self.table}", f"WHERE {self._counted}"]
        return [f"  {line}" for line in lines]

    def _newest_first(self) -> list[str]:
        name = self._subject.mapping.created_at
        if not name:
            return []
        last = [f"{self.name(name)} IS NULL"] if self._subject.table.c[name].nullable else []
        return [*last, f"{self.name(name)} DESC"]

    def _key_terms(self) -> Iterable[str]:
        for column, text in zip(self._subject.keys, self._whose[1:], strict=True):
            if not column.nullable:
                yield text
                continue
            # Else two rows without it would be of two different keys.
            value = text if isinstance(column.type, sa.String) else f"CAST({text} AS TEXT)"
            yield f"(COALESCE({value}, ''))" if self.is_postgresql else f"COALESCE({value}, '')"

    def _term(self, text: str, expression: Any) -> str:
        return text if isinstance(expression, sa.Column) or not self.is_postgresql else f"({text})"

    def _index_name(self) -> str:
        name = f"{self._subject.table.name}_one_active"
        return name.encode()[-_NAME_BYTES_MAX:].decode("utf-8", "ignore")

    def _qualified(self, name: str, schema: str | None) -> str:
        return f"{self.name(schema)}.{self.name(name)}" if schema else self.name(name)

    def _in_schema(self, name: str) -> tuple[str, str]:
        """SQLite has the schema at the index."""
        return self.name(self._subject.table.name), self._qualified(name, self._subject.table.schema)


def _has_empty_users(connection: Connection, subject: Subject) -> bool:
    if not isinstance(subject.user.type, sa.String) or isinstance(subject.user.type, sa.Enum):
        return False
    nobody: Any = sa.select(sa.literal_column("1")).select_from(subject.table).where(subject.active, subject.user == "")
    return connection.execute(nobody.limit(1)).first() is not None


def _shown_columns(subject: Subject) -> list[Any]:
    """What shows a person which row it is: id, user, key, what says that it is active, and its times."""
    mapping, columns = subject.mapping, subject.table.c
    names = [*mapping.id, mapping.user, *mapping.key, *mapping.active, mapping.created_at, mapping.updated_at]
    return [*_row_key(subject), *(columns[name] for name in names if name)]


def _row_key(subject: Subject) -> list[Any]:
    """What says which row it is: the primary key, or else the session's id."""
    return list(subject.table.primary_key.columns) or list(subject.ids)


def _ending(connection: Connection, subject: Subject, text: SqlText) -> Assignment:
    """What makes a row one that is not active."""
    found = [_ended(connection, subject, text, name) for name in subject.mapping.active]
    return min(found, key=lambda each: each.is_open)


def _ended(connection: Connection, subject: Subject, text: SqlText, name: str) -> Assignment:
    column = subject.table.c[name]
    active = active_values(column, subject.mapping.active[name])
    if isinstance(column.type, sa.Boolean):
        return Assignment(name, text.of(sa.literal(True not in active, column.type)))
    now = text.now(column)
    if None in active and now is not None and isinstance(column.type, sa.DateTime | sa.Date):
        return Assignment(name, now)
    seen = _seen(connection, column, active)
    if not seen:
        return Assignment(name, PLACEHOLDER, is_open=True)
    ranks = {word: rank for rank, word in enumerate(_OVER)}
    chosen = min(seen, key=lambda value: ranks.get(str(value).lower(), len(ranks)))
    return Assignment(name, text.of(sa.literal(chosen, column.type)))


def _seen(connection: Connection, column: Any, active: Sequence[Any]) -> list[Any]:
    """Values with which a row is not active: those in the table, the most frequent first, then those of the type."""
    values = sa.select(column).where(column.is_not(None)).group_by(column).order_by(sa.func.count().desc())
    found = [value for (value,) in connection.execute(values.limit(_SEEN_MAX)) if value not in active]
    declared = column.type.enums if isinstance(column.type, sa.Enum) else ()
    return [*found, *(each for each in declared if each not in active and each not in found)]


def _remarks(subject: Subject, text: SqlText, notes: list[str]) -> Iterable[Assignment]:
    """Why and when it ended, where the table has columns for it."""
    mapping, columns = subject.mapping, subject.table.c
    if mapping.end_reason:
        if _takes(columns[mapping.end_reason], REASON):
            yield Assignment(mapping.end_reason, f"'{REASON}'")
        else:
            notes.append(f"Column {mapping.end_reason} has no room for '{REASON}': it is left as it is.")
    if mapping.updated_at and mapping.updated_at not in mapping.active:
        now = text.now(columns[mapping.updated_at])
        if now is not None:
            yield Assignment(mapping.updated_at, now)


def _takes(column: Any, value: str) -> bool:
    kind = column.type
    if isinstance(kind, sa.Enum):
        return value in kind.enums
    return isinstance(kind, sa.String) and (kind.length is None or kind.length >= len(value))
