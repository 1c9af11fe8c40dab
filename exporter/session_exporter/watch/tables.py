"""A table that keeps sessions, as the database has it: what to select, and what rows say.

Names come from the configuration: they are checked against the catalogue, and quoted by SQLAlchemy.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from session_exporter.columntexts import end_reason, id_value, inside, plain_text, user_text, uuid_text
from session_exporter.errors import TableUnusable
from session_exporter.identity import IdError, canonical_id
from session_exporter.mappings import TableMapping, is_value_among
from session_exporter.watch import catalog
from session_exporter.watch.catalog import shape_of_table
from session_exporter.watch.times import TimeColumn, time_column

from sqlalchemy import String, and_, cast, column, or_, select, table, tuple_  # isort: skip
from sqlalchemy.types import UserDefinedType  # isort: skip

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.sql import ColumnElement, Select

POSTGRESQL: Final = "postgresql"


class _AsIs(UserDefinedType[Any]):
    """A type of which SQLAlchemy knows nothing: values go to the driver, and come from it, as they are."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Never asked for: nothing is created, and nothing cast to it."""
        raise NotImplementedError


class SessionTable:
    """A table that keeps sessions.

    Args:
        mapping: What its columns mean.
        connection: Asked for the table's columns and indexes.

    Attributes:
        mapping: As given.
        shape: As the catalogue has it.
        table: What to select from.
        created_at: The column of `mapping.created_at`; None for none.
        updated_at: The column of `mapping.updated_at`; None for none.
        ids: The columns of the id.
        is_guessed: A column without a value yet may turn out to keep times in another way.

    Raises:
        TableUnusable: The table, or one of its columns, is not there, or keeps no times.
    """

    def __init__(self, mapping: TableMapping, connection: "Connection") -> None:
        self.mapping = mapping
        self.shape = shape_of_table(connection, mapping.table)
        self.is_postgresql = connection.dialect.name == POSTGRESQL
        self._quote = connection.dialect.identifier_preparer.quote
        self._names = {name.lower(): name for name in self.shape.columns}
        named = (*mapping.id, mapping.user, *mapping.key, *mapping.active, mapping.end_reason)
        self._places = {name: at for at, name in enumerate(dict.fromkeys(name for name in named if name))}
        times = [name for name in (mapping.created_at, mapping.updated_at) if name]
        columns = [column(self.name_of(name), _AsIs()) for name in dict.fromkeys((*self._places, *times))]
        self.table = table(self.shape.name, *columns, schema=self.shape.schema or None)
        self.ids = tuple(map(self.column, mapping.id))
        self.created_at = self._time(mapping.created_at, connection)
        self.updated_at = self._time(mapping.updated_at, connection)
        self.is_guessed = any(times.is_guessed for times, _ in self._times())
        # What is read of every row.
        self._ids = [(self._places[name], self._has_uuids(name)) for name in mapping.id]
        self._user = self._places.get(mapping.user, -1)
        self._user_is_uuid = self._user >= 0 and not mapping.user_path and self._has_uuids(mapping.user)
        self._active = [(self._places[name], texts) for name, texts in mapping.active.items()]

    # What to select.

    def name_of(self, name: str) -> str:
        """A column's name as the table has it.

        Raises:
            TableUnusable: It has none of this name.
        """
        found = name if name in self.shape.columns else self._names.get(name.lower())
        if found is None:
            raise TableUnusable(f"table {self.mapping.table}: there is no column {name}")
        return found

    def column(self, name: str) -> Any:
        """A column by its name in the mapping."""
        return self.table.c[self.name_of(name)]

    def rows(self, *conditions: Any, beside: Sequence[Any] = ()) -> "Select[Any]":
        """Select what the other methods read from a row, and what is asked for beside; rows without an id are none."""
        columns = [self.column(name) for name in self._places]
        columns += [each.selected.label(label) for each, label in self._times()]
        columns += beside
        return select(*columns).select_from(self.table).where(self.has_id(), *conditions)

    def distinct_rows(self, *conditions: Any) -> "Select[Any]":
        """What `rows` selects; of a table of messages one row for each session, which says nothing but its id."""
        if self.mapping.rows == "sessions":
            return self.rows(*conditions)
        return select(*self.ids).where(self.has_id(), *conditions).group_by(*self.ids)

    def has_id(self) -> "ColumnElement[bool]":
        """Whether no column of the id is NULL."""
        return and_(*(each.is_not(None) if hasattr(each, "is_not") else each.isnot(None) for each in self.ids))

    def is_one_of(self, keys: Iterable[Sequence[Any]]) -> "ColumnElement[bool]":
        """Whether a row has one of these ids, each as `id_key` gives it."""
        if len(self.ids) == 1:
            return self.ids[0].in_([key[0] for key in keys])  # type: ignore[no-any-return]
        return tuple_(*self.ids).in_([tuple(key) for key in keys])

    def active(self) -> "ColumnElement[bool] | None":
        """Whether a row is active; None where the mapping does not say which are."""
        mapping = self.mapping.active
        return and_(*(self._among(name, texts) for name, texts in mapping.items())) if mapping else None

    def _among(self, name: str, texts: frozenset[str]) -> Any:
        kind, values = self.shape.columns[self.name_of(name)], self.column(name)
        words = sorted(texts - {"null"})
        if kind == catalog.INTEGER:
            named: Any = values.in_([int(word) for word in words if word.lstrip("-").isdigit()])
        else:
            # A text is compared as it is, so that an index serves.
            named = (values if kind == catalog.TEXT else cast(values, String)).in_(words)
        return or_(named, values.is_(None)) if "null" in texts else named

    # What is known of it.

    def has_index_on(self, name: str) -> bool:
        """Whether an index of all rows begins with a column."""
        wanted = self.name_of(name)
        return any(each.columns[:1] == (wanted,) and not each.predicate for each in self.shape.indexes)

    def index_statement(self, name: str) -> str:
        """The SQL that makes such an index; to be shown, never run."""
        where = ".".join(self._quote(word) for word in (self.shape.schema, self.shape.name) if word)
        how = "CREATE INDEX CONCURRENTLY" if self.shape.is_concurrent else "CREATE INDEX"
        index = self._quote(f"{self.shape.name}_{self.name_of(name)}_idx"[:63])
        made = index if self.is_postgresql else f"IF NOT EXISTS {index}"
        return f"{how} {made} ON {where} ({self._quote(self.name_of(name))});"

    def index_advice(self, name: str) -> str:
        """What to do about the lack of such an index."""
        where = f"table {self.mapping.table}: column {self.name_of(name)}"
        if not self.shape.may_have_indexes:
            return f"{where}: of a view, so it is asked for less often: expected a table with an index on it"
        return (
            f"{where}: no index begins with it, so it is asked for less often; make one: {self.index_statement(name)}"
        )

    # What a row says.

    def id_key(self, row: Any) -> tuple[Any, ...]:
        """The columns of its id as they are, to ask for it again."""
        return tuple(row[: len(self.ids)])

    def session(self, row: Any) -> str:
        """The session's id, as hooks tell it; `""` for what is no id."""
        try:
            texts = [canonical_id(id_value(row[at]), "session") for at, _ in self._ids]
        except IdError:
            return ""
        if not all(texts):
            return ""
        texts = [uuid_text(text) if is_uuid else text for text, (_, is_uuid) in zip(texts, self._ids, strict=True)]
        return "/".join(texts).removeprefix(self.mapping.id_prefix)

    def user(self, row: Any) -> str:
        """The user's id; `""` for none."""
        if self._user < 0:
            return ""
        value, path = row[self._user], self.mapping.user_path
        try:
            text = user_text(inside(value, path) if path else value)
        except IdError:
            return ""
        return uuid_text(text) if self._user_is_uuid else text

    def key(self, row: Any) -> str:
        """Device, app or thread; `""` for none."""
        return "/".join(plain_text(row[self._places[name]]) for name in self.mapping.key)

    def created_us(self, row: Any) -> int:
        """When it was created, microseconds; 0 when it does not say."""
        return self.created_at.to_us(row.created_at_) if self.created_at else 0

    def updated_us(self, row: Any) -> int:
        """When it was changed, microseconds; 0 when it does not say."""
        return self.updated_at.to_us(row.updated_at_) if self.updated_at else 0

    def is_active(self, row: Any) -> bool:
        """Whether it is active; True where the mapping does not say."""
        return all(is_value_among(row[at], texts) for at, texts in self._active)

    def reason(self, row: Any) -> str:
        """Why it ended, one of `END_REASONS`: as its column says, else by the name of its state."""
        names = [self.mapping.end_reason] if self.mapping.end_reason else []
        found = (end_reason(row[self._places[name]]) for name in (*names, *self.mapping.active))
        return next((reason for reason in found if reason), "other")

    def _times(self) -> list[tuple[TimeColumn, str]]:
        named = ((self.created_at, "created_at_"), (self.updated_at, "updated_at_"))
        return [(each, label) for each, label in named if each is not None]

    def _time(self, name: str, connection: "Connection") -> TimeColumn | None:
        if not name:
            return None
        kind, shown = self.shape.columns[self.name_of(name)], f"table {self.mapping.table}: column {name}"
        return time_column(connection, self.table, self.column(name), kind, shown)

    def _has_uuids(self, name: str) -> bool:
        return self.shape.columns[self.name_of(name)] == catalog.UUID_TEXT
