"""A table to be audited, as expressions of SQL: whose a row is, when it was created, whether it is active."""

from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from session_exporter.core.scopes import ScopeRules
from session_exporter.mappings import TableMapping

# Names of what `entries` selects.
USER: Final = "the_user"
AT: Final = "created_us"


@dataclass(frozen=True)
class Subject:
    """A mapped table of a database.

    Attributes:
        mapping: What the configuration says of it.
        rules: Those of its scope.
        table: As reflected.
        dialect: `postgresql` or `sqlite`.
        may_have_indexes: It is no view.
        is_concurrent: Whether an index can be made while rows are written.
        user: Whose a row is; None when no column says so.
        keys: The columns of the key.
        ids: The columns of the session's id.
        created_us: When it was created, whole microseconds; None when no column says so.
        active: Whether it is active; None when no column says so.
    """

    mapping: TableMapping
    rules: ScopeRules
    table: sa.Table
    dialect: str
    may_have_indexes: bool
    is_concurrent: bool
    user: Any
    created_us: Any
    active: Any
    keys: tuple[Any, ...] = field(init=False)
    ids: tuple[Any, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", tuple(self.table.c[name] for name in self.mapping.key))
        object.__setattr__(self, "ids", tuple(self.table.c[name] for name in self.mapping.id))

    @property
    def is_one(self) -> bool:
        """Whether a user (and key) is meant to have one session."""
        return self.rules.sessions_per_user == "one"

    @property
    def has_user(self) -> Any:
        """The condition that a row has a user."""
        return is_there(self.user)

    def entries(self) -> Any:
        """One row for each session that has a user and a time: `USER`, `AT`, `key0`…, `id0`…; a subquery."""
        columns = [
            self.user.label(USER),
            self.created_us.label(AT),
            *(each.label(f"key{place}") for place, each in enumerate(self.keys)),
            *(each.label(f"id{place}") for place, each in enumerate(self.ids)),
        ]
        if self.mapping.rows == "sessions":
            return _dated(self._whole(sa.select(*columns)).subquery("whole"))
        # Of a session that is kept as messages, the first one has created it, whoever wrote the others.
        order = [sa.case((self.created_us.is_(None), 1), else_=0), self.created_us]
        first = sa.func.row_number().over(partition_by=self.ids, order_by=order).label("place")
        placed = self._whole(sa.select(*columns, first)).subquery("placed")
        return _dated(placed, placed.c.place == 1)

    def _whole(self, rows: Any) -> Any:
        """Rows whose times SQLite makes of texts once, and not again wherever they are used."""
        return rows.limit(-1) if self.dialect == "sqlite" else rows


def _dated(rows: Any, *conditions: Any) -> Any:
    columns = [each for each in rows.c if each.name != "place"]
    return sa.select(*columns).where(is_there(rows.c[USER]), rows.c[AT].is_not(None), *conditions).subquery("entries")


def is_there(value: Any) -> Any:
    """The condition that an id is one: neither NULL nor empty."""
    return sa.and_(value.is_not(None), value != "") if isinstance(value.type, sa.String) else value.is_not(None)


def same(one: Any, other: Any) -> Any:
    """The condition that two values are equal, or both NULL."""
    return one.is_not_distinct_from(other)


def numbered(row: Any, name: str, count: int) -> tuple[Any, ...]:
    """The columns `name0`, `name1`, … of a row."""
    return tuple(getattr(row, f"{name}{place}") for place in range(count))
