"""A mapped table, and how the values of its columns become ids, users and reasons."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from session_exporter.columntexts import end_reason, id_value, inside, plain_text, user_text, uuid_text
from session_exporter.hooks.sqlalchemy.knowledge import Knowledge
from session_exporter.hooks.sqlalchemy.readings import UNKNOWN, Source, StatementReading, parameter
from session_exporter.identity import SHORT_CHARS, canonical_id
from session_exporter.mappings import TableMapping, is_value_among
from session_exporter.reporter import Reporter

if TYPE_CHECKING:
    from session_exporter.hooks.sqlalchemy.work import Execution

# Names of SQLAlchemy's own types, and of those that applications declare as its documentation shows, begin with them.
_UUID_TYPES: Final = ("uuid", "guid")


class MappedTable:
    """A table that keeps sessions, and what is known of them.

    Args:
        mapping: What the columns mean.
        reporter: Reports for this table.
        knowledge: What this process knows of ids.

    Attributes:
        mapping: As given.
        scope: The mapping's.
        reporter: As given.
        knowledge: As given.
        has_uuids: Ids are UUIDs that the database keeps as text: written with hyphens or without, they are the same.
        is_plain: Most texts are ids as they are.
    """

    def __init__(self, mapping: TableMapping, reporter: Reporter, knowledge: Knowledge) -> None:
        self.mapping = mapping
        self.scope = mapping.scope
        self.reporter = reporter
        self.knowledge = knowledge
        self.has_uuids = False
        self.is_plain = not mapping.id_prefix
        schema, _, name = mapping.table.rpartition(".")
        self.name = name.lower()
        self._schema = schema.lower()
        self.columns = TableColumns(mapping)

    def is_meant(self, reading: StatementReading) -> bool:
        """Whether a statement is about this table."""
        return reading.table == self.name and (not self._schema or not reading.schema or reading.schema == self._schema)

    def learn(self, sqltable: Any) -> None:
        """Take note of how SQLAlchemy declares the columns of the table."""
        column = next((each for each in sqltable.c if each.name.lower() == self.columns.id[-1]), None)
        if column is not None and type(column.type).__name__.lower().startswith(_UUID_TYPES):
            self.has_uuids = True
            self.is_plain = False

    def id_text(self, value: object) -> str:
        """One column of an id as text; `""` for NULL."""
        text = canonical_id(id_value(value), "session")
        return uuid_text(text) if self.has_uuids else text

    def joined_id(self, texts: Sequence[str]) -> str:
        """The session's id of its columns; `""` when one of them is not known."""
        if not all(texts):
            return ""
        return "/".join(texts).removeprefix(self.mapping.id_prefix)


class TableColumns:
    """Names of a mapping's columns, as statements are read: in lower case."""

    __slots__ = ("active", "end_reason", "id", "key", "restart_on", "user")

    def __init__(self, mapping: TableMapping) -> None:
        self.id = tuple(name.lower() for name in mapping.id)
        self.user = mapping.user.lower()
        self.key = tuple(name.lower() for name in mapping.key)
        self.active = {name.lower(): texts for name, texts in mapping.active.items()}
        self.end_reason = mapping.end_reason.lower()
        self.restart_on = tuple(name.lower() for name in mapping.restart_on)

    def all(self) -> tuple[str, ...]:
        """Each once."""
        named = (*self.id, self.user, *self.key, *self.active, self.end_reason, *self.restart_on)
        return tuple(dict.fromkeys(name for name in named if name))


class Record:
    """Reads what a mapping says from the parameters of a statement or from a row.

    Args:
        table: The mapped table.
        sources: By column.
    """

    __slots__ = ("_active", "_generation", "_ids", "_key", "_reason", "_table", "_user", "has_id")

    def __init__(self, table: MappedTable, sources: Mapping[str, Source]) -> None:
        columns = table.columns
        self._table = table
        self._ids = _all_of(columns.id, sources)
        self._user = sources.get(columns.user) if columns.user else None
        self._key = _all_of(columns.key, sources)
        self._generation = _all_of(columns.restart_on, sources)
        self._active = tuple((sources[name], texts) for name, texts in columns.active.items() if name in sources)
        self._reason = sources.get(columns.end_reason) if columns.end_reason else None
        self.has_id = bool(self._ids)

    @property
    def says_anything(self) -> bool:
        """Whether there is more than ids and keys."""
        return bool(self._user or self._generation or self._active)

    def session(self, values: Any) -> str:
        """The session's id, `""` when only the database knows it."""
        ids, table = self._ids, self._table
        if len(ids) == 1:
            value = ids[0](values)
            if type(value) is str and table.is_plain and len(value) <= SHORT_CHARS and value.isascii():
                return value
            return "" if value is UNKNOWN else table.joined_id((table.id_text(value),))
        found = [source(values) for source in ids]
        return "" if not found or UNKNOWN in found else table.joined_id([table.id_text(value) for value in found])

    def user(self, values: Any) -> str | None:
        """The user's id: `""` when there is none (NULL), None when the statement does not say."""
        if self._user is None:
            return None
        value = self._user(values)
        if value is UNKNOWN:
            return None
        path = self._table.mapping.user_path
        return user_text(inside(value, path) if path else value)

    def key(self, values: Any) -> str:
        """Device, app or thread; `""` when not known."""
        return _joined(self._key, values) if self._key else ""

    def generation(self, values: Any) -> str:
        """What the columns of `restart_on` hold; `""` when not known."""
        return _joined(self._generation, values) if self._generation else ""

    def is_inactive(self, values: Any) -> bool:
        """Whether a column has a value with which no session is active."""
        for source, texts in self._active:
            value = source(values)
            if value not in texts if type(value) is str else _is_outside(value, texts):
                return True
        return False

    def is_active(self, values: Any) -> bool:
        """Whether columns that say so are there, and all have a value with which sessions are active."""
        found = [(source(values), texts) for source, texts in self._active]
        return bool(found) and all(value is not UNKNOWN and is_value_among(value, texts) for value, texts in found)

    def reason(self, values: Any) -> str:
        """Why a session ends, one of `END_REASONS`: from the column that says so, else from the new state's name."""
        if self._reason is not None and (named := end_reason(self._reason(values))):
            return named
        left = (source(values) for source, texts in self._active)
        return next((named for value in left if (named := end_reason(value))), "other")


class Returned:
    """The columns of a result that a mapping is about, and where they are.

    Args:
        table: The mapped table.
        reading: The statement.
    """

    def __init__(self, table: MappedTable, reading: StatementReading) -> None:
        places = {name: reading.output(name) for name in table.columns.all()}
        found = {name: place for name, place in places.items() if place is not None}
        self.outputs: tuple[int | str, ...] = tuple(found.values())
        self._fixed = tuple(place for place in self.outputs if isinstance(place, int))
        self.record = Record(table, {name: parameter(at) for at, name in enumerate(found)})

    def places(self, execution: "Execution") -> tuple[int, ...] | None:
        """Where they are in the rows of a result; None when one is missing or there twice."""
        return self._fixed if len(self._fixed) == len(self.outputs) else execution.places(self.outputs)

    @property
    def has_id(self) -> bool:
        """Whether each row says which session it is."""
        return self.record.has_id


def _all_of(names: tuple[str, ...], sources: Mapping[str, Source]) -> tuple[Source, ...]:
    return tuple(sources[name] for name in names) if all(name in sources for name in names) else ()


def _joined(sources: tuple[Source, ...], values: Any) -> str:
    found = [source(values) for source in sources]
    return "" if UNKNOWN in found else "/".join(plain_text(value) for value in found)


def _is_outside(value: object, texts: frozenset[str]) -> bool:
    if value is UNKNOWN:  # an expression, such as now(), is everything but NULL
        return texts == {"null"}
    return not is_value_among(value, texts)
