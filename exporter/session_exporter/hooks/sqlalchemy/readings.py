"""What a statement says about one table, whatever language it was written in: the tree of an expression, or a text."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, NamedTuple, TypeAlias

# Reads one value from a statement's parameters (a mapping, or a sequence), or from a row.
Source: TypeAlias = Callable[[Any], object]


class Unknown(Enum):
    """Stands for a value that only the database knows."""

    VALUE = "unknown"


UNKNOWN: Final = Unknown.VALUE


class Conflict(Enum):
    """What an insert does about a row that is there already."""

    REFUSE = "refuse"
    NOTHING = "nothing"
    UPDATE = "update"
    REPLACE = "replace"


class Pin(NamedTuple):
    """What a column must be equal to.

    Attributes:
        sources: One for each of the values it may have.
        expanding: Name of the parameter that holds a list of values instead.
    """

    sources: tuple[Source, ...] = ()
    expanding: str = ""


class Where(NamedTuple):
    """The condition that rows meet.

    Attributes:
        pins: By column.
        is_only_pins: There is no further condition.
    """

    pins: Mapping[str, Pin]
    is_only_pins: bool


NOWHERE: Final = Where({}, is_only_pins=False)


@dataclass(frozen=True, slots=True)
class StatementReading:
    """One statement, as far as it is about one table. Names of columns are in lower case.

    Attributes:
        verb: `insert`, `update`, `delete`, `select`, or `load` for a query by which the ORM completes what it has.
        table: The table's name in lower case.
        schema: Its schema in lower case; `""` when it does not say.
        rows: Of an insert: by column, where its value comes from; a column that is missing has one that only the
            database knows. Empty when the rows come from a query.
        conflict: Of an insert.
        conflict_columns: The columns that decide about a conflict; None when it does not say.
        sets: Of an update, or of an insert that updates: the values that columns get.
        where: Of the others.
        outputs: By column, its index in the result, or its name where only the result knows the index.
        primary_key: Its columns in their order; empty when that is not known.
        has_star: The result has all other columns too, under their own names.
    """

    verb: str
    table: str
    schema: str = ""
    rows: tuple[Mapping[str, Source], ...] = ()
    conflict: Conflict = Conflict.REFUSE
    conflict_columns: frozenset[str] | None = None
    sets: Mapping[str, Source] = field(default_factory=dict)
    where: Where = NOWHERE
    outputs: Mapping[str, int | str] = field(default_factory=dict)
    primary_key: tuple[str, ...] = ()
    has_star: bool = False

    def output(self, column: str) -> int | str | None:
        """Where the result has a column; None when it has not."""
        return self.outputs.get(column, column if self.has_star else None)


def parameter(key: str | int) -> Source:
    """Read a parameter by name or position, or a row's value by position."""

    def read(values: Any) -> object:
        try:
            return values[key]
        except (LookupError, TypeError):
            return UNKNOWN

    return read


def constant(value: object) -> Source:
    """Read what the statement itself says."""
    return lambda _: value


unknown: Final = constant(UNKNOWN)
