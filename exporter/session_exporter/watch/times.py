"""Columns that say when, in every way that databases keep a time: made into microseconds since the epoch, and back."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from session_exporter.errors import TableUnusable
from session_exporter.watch import catalog
from session_exporter.watch.clock import EPOCH, MICROSECOND

from sqlalchemy import BigInteger, Integer, case, cast, extract, func, null, select  # isort: skip

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.sql import ColumnElement

MINUTE_US: Final = 60_000_000
_SECOND_US: Final = 1_000_000
# As in moments.py: a count of milliseconds, taken for seconds, lies far beyond it.
_TIME_US_MAX: Final = 9_000_000_000_000_000
_SECONDS_MAX: Final[int] = _TIME_US_MAX // _SECOND_US
_MINUTE_CHARS: Final = 16
_DATE_CHARS: Final = 10
# What no Python has for a time: before Christ, infinity.
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


class TimeColumn:
    """A column of PostgreSQL's own types for times; one without a zone is taken for UTC.

    Args:
        column: The column.
        is_aware: Whether it has a zone.

    Attributes:
        column: As given.
        selected: What to select: NULL for what Python has no time for.
        is_guessed: There is no row yet that tells how the column keeps times.
    """

    is_guessed = False

    def __init__(self, column: Any, *, is_aware: bool) -> None:
        self.column = column
        self._is_aware = is_aware
        first, last = (each if is_aware else each.replace(tzinfo=None) for each in (_FIRST, _LAST))
        self.selected: Any = case((column.between(first, last), column), else_=None)

    def to_us(self, value: Any) -> int:
        """Microseconds of what a row has; 0 for NULL, and for what is no time."""
        if not isinstance(value, datetime):
            return 0
        aware = value if value.utcoffset() is not None else value.replace(tzinfo=UTC)
        return _within((aware - EPOCH) // MICROSECOND)

    def bound(self, us: int, *, is_end: bool = False) -> Any:  # noqa: ARG002 - other columns need it
        """A time to compare with: where it cannot be the same, up to a second earlier, or later when it is an end."""
        at = EPOCH + us * MICROSECOND
        return at if self._is_aware else at.replace(tzinfo=None)

    @property
    def minute(self) -> "ColumnElement[Any]":
        """The minute that a time is in, to group by."""
        return func.floor(extract("epoch", self.column) / 60)

    def minute_us(self, value: Any) -> int:
        """When a `minute` begins; 0 for none."""
        return int(value) * MINUTE_US if value is not None else 0

    @property
    def total_us(self) -> "ColumnElement[Any]":
        """The microseconds of all rows of a group together: which rows they are, as far as a number can tell."""
        return func.sum(cast(func.round(extract("epoch", self.column) * _SECOND_US), BigInteger))


class SecondsColumn(TimeColumn):
    """A number of seconds since the epoch."""

    def __init__(self, column: Any, *, is_whole: bool, floor: Callable[[Any], Any]) -> None:
        self.column = self.selected = column
        self._is_whole = is_whole
        self._floor = floor

    def to_us(self, value: Any) -> int:
        """As `TimeColumn`."""
        if not isinstance(value, int | float | Decimal) or isinstance(value, bool):
            return 0
        # NaN is not less than anything.
        return _within(round(Decimal(value) * _SECOND_US)) if abs(float(value)) < _SECONDS_MAX else 0

    def bound(self, us: int, *, is_end: bool = False) -> Any:
        """As `TimeColumn`."""
        if self._is_whole:
            return -(-us // _SECOND_US) if is_end else us // _SECOND_US
        return us / _SECOND_US

    @property
    def minute(self) -> "ColumnElement[Any]":
        """As `TimeColumn`."""
        return self._floor(self.column / 60)  # type: ignore[no-any-return]

    @property
    def total_us(self) -> "ColumnElement[Any]":
        """As `TimeColumn`."""
        return func.sum(cast(func.round(self.column * _SECOND_US), BigInteger))


class TextColumn(TimeColumn):
    """ISO 8601, as SQLite's own functions, SQLAlchemy and Django write it; without an offset taken for UTC.

    Texts are compared as texts: a bound has no fraction, and so comes before all of its second.
    """

    def __init__(self, column: Any, *, separator: str) -> None:
        self.column = self.selected = column
        self._separator = separator

    def to_us(self, value: Any) -> int:
        """As `TimeColumn`."""
        try:
            return super().to_us(datetime.fromisoformat(value)) if isinstance(value, str) else 0
        except ValueError:
            return 0

    def bound(self, us: int, *, is_end: bool = False) -> Any:
        """As `TimeColumn`."""
        at = EPOCH + (us + (_SECOND_US - 1 if is_end else 0)) * MICROSECOND
        return at.strftime(f"%Y-%m-%d{self._separator}%H:%M:%S")

    @property
    def minute(self) -> "ColumnElement[Any]":
        """As `TimeColumn`."""
        return func.substr(self.column, 1, _MINUTE_CHARS)

    def minute_us(self, value: Any) -> int:
        """As `TimeColumn`."""
        return self.to_us(value)

    @property
    def total_us(self) -> "ColumnElement[Any]":
        """NULL: SQL cannot add them up."""
        return null()


def time_column(connection: "Connection", table: Any, column: Any, kind: str, name: str) -> TimeColumn:
    """How a column keeps times.

    Args:
        connection: Asked where the type of a column does not tell: SQLite.
        table: The table.
        column: The column.
        kind: What its type comes to.
        name: What messages call it.

    Raises:
        TableUnusable: It keeps none.
    """
    if connection.dialect.name == "postgresql":
        if kind in {catalog.AWARE, catalog.NAIVE}:
            return TimeColumn(column, is_aware=kind == catalog.AWARE)
        if kind in {catalog.INTEGER, catalog.NUMBER}:
            return SecondsColumn(column, is_whole=kind == catalog.INTEGER, floor=func.floor)
        raise TableUnusable(f"{name}: expected a timestamp, or a number of seconds since 1970")
    newest = connection.execute(select(column).select_from(table).order_by(column.desc()).limit(1)).scalar()
    found = _of_sqlite(column, newest, kind)
    found.is_guessed = newest is None
    return found


def _of_sqlite(column: Any, newest: Any, kind: str) -> TimeColumn:
    if isinstance(newest, int | float) or (newest is None and kind == catalog.INTEGER):
        return SecondsColumn(column, is_whole=False, floor=_truncated)
    is_iso = isinstance(newest, str) and len(newest) > _DATE_CHARS and newest[_DATE_CHARS] == "T"
    return TextColumn(column, separator="T" if is_iso else " ")


def _truncated(value: Any) -> Any:
    return cast(value, Integer)


def _within(us: int) -> int:
    return us if 0 < us <= _TIME_US_MAX else 0
