"""A mapped table, and how the values of its columns become ids, users and reasons."""

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final
from uuid import UUID

from session_exporter.core.scopes import END_REASONS
from session_exporter.hooks.sqlalchemy.knowledge import Knowledge
from session_exporter.hooks.sqlalchemy.readings import UNKNOWN, Reading, Source, parameter
from session_exporter.identity import canonical_id
from session_exporter.mappings import TableMapping, is_value_among
from session_exporter.reporter import Reporter

_UUID_CHARS: Final = (32, 36)
_WORDS_IN_PATH_MAX: Final = 16


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
    """

    def __init__(self, mapping: TableMapping, reporter: Reporter, knowledge: Knowledge) -> None:
        self.mapping = mapping
        self.scope = mapping.scope
        self.reporter = reporter
        self.knowledge = knowledge
        self.has_uuids = False
        schema, _, name = mapping.table.rpartition(".")
        self.name = name.lower()
        self._schema = schema.lower()
        self.columns = Columns(mapping)

    def is_meant(self, reading: Reading) -> bool:
        """Whether a statement is about this table."""
        return reading.table == self.name and (not self._schema or not reading.schema or reading.schema == self._schema)

    def learn(self, sqltable: Any) -> None:
        """Take note of how SQLAlchemy declares the columns of the table."""
        column = next((each for each in sqltable.c if each.name.lower() == self.columns.id[-1]), None)
        if column is not None and type(column.type).__name__ in {"Uuid", "UUID"}:
            self.has_uuids = True

    def id_text(self, value: object) -> str:
        """One column of an id as text; `""` for NULL."""
        text = canonical_id(value.value if isinstance(value, Enum) else value, "session")
        if self.has_uuids and len(text) in _UUID_CHARS:
            try:
                return str(UUID(text))
            except ValueError:
                return text
        return text

    def joined_id(self, texts: Sequence[str]) -> str:
        """The session's id of its columns; `""` when one of them is not known."""
        if not all(texts):
            return ""
        return "/".join(texts).removeprefix(self.mapping.id_prefix)


class Columns:
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
            if type(value) is str and not table.has_uuids:
                return table.joined_id((canonical_id(value),))
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
        return _joined(self._key, values)

    def generation(self, values: Any) -> str:
        """What the columns of `restart_on` hold; `""` when not known."""
        return _joined(self._generation, values)

    def is_inactive(self, values: Any) -> bool:
        """Whether a column has a value with which no session is active."""
        return any(_is_outside(source(values), texts) for source, texts in self._active)

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

    def __init__(self, table: MappedTable, reading: Reading) -> None:
        places = {name: reading.output(name) for name in table.columns.all()}
        found = {name: place for name, place in places.items() if place is not None}
        self.outputs: tuple[int | str, ...] = tuple(found.values())
        self.names = frozenset(found)
        self.record = Record(table, {name: parameter(at) for at, name in enumerate(found)})

    @property
    def has_id(self) -> bool:
        """Whether each row says which session it is."""
        return self.record.has_id


def _all_of(names: tuple[str, ...], sources: Mapping[str, Source]) -> tuple[Source, ...]:
    return tuple(sources[name] for name in names) if all(name in sources for name in names) else ()


def _joined(sources: tuple[Source, ...], values: Any) -> str:
    if not sources:
        return ""
    found = [source(values) for source in sources]
    return "" if UNKNOWN in found else "/".join(plain_text(value) for value in found)


def _is_outside(value: object, texts: frozenset[str]) -> bool:
    if value is UNKNOWN:  # an expression, such as now(), is everything but NULL
        return texts == {"null"}
    return not is_value_among(value, texts)


def end_reason(value: object) -> str:
    """The end reason that a value names; `""` when it names none."""
    texts = (value.name, value.value) if isinstance(value, Enum) else (value,)
    return next((text.lower() for text in texts if isinstance(text, str) and text.lower() in END_REASONS), "")


def plain_text(value: object) -> str:
    """A value of any type as text, `""` for NULL."""
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, str | int | UUID | bytes):
        return canonical_id(str(value).lower() if isinstance(value, bool) else value)
    return canonical_id(str(value))


def user_text(value: object) -> str:
    """A user's id as text, `""` for NULL."""
    return canonical_id(value.value if isinstance(value, Enum) else value, "user")


def inside(value: object, path: str) -> object:
    """What a JSON value has at a path of keys joined by dots; None when it has nothing there."""
    if isinstance(value, str | bytes | bytearray | memoryview):
        try:
            value = json.loads(bytes(value) if isinstance(value, memoryview) else value)
        except ValueError:
            return None
    for word in path.split(".", _WORDS_IN_PATH_MAX):
        if isinstance(value, Mapping):
            value = value.get(word)
        elif isinstance(value, list | tuple) and word.isdigit() and int(word) < len(value):
            value = value[int(word)]
        else:
            return None
    return value
