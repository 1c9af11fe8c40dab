"""Seeing the rows of a result as the application fetches them.

Every way to fetch (Core and ORM, buffered and streamed, sync and async, whole lists, parts and single rows) goes
through the result's cursor strategy, in 1.4, 2.0 and 2.1. It is internal: a result that has none is not watched.
"""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final, TypeAlias

from session_exporter.hooks.sqlalchemy.settlement import count_failure

OnRow: TypeAlias = Callable[[tuple[Any, ...]], None]
OnEnd: TypeAlias = Callable[[int, bool], None]
OnFailure: TypeAlias = Callable[[Exception], None]
Extract: TypeAlias = Callable[[Any], tuple[Any, ...]]


def positions_of(result: Any, columns: Sequence[str], table: str = "") -> tuple[int, ...] | None:
    """Where columns are in the rows of a result, from 0; the same for each execution of one compiled statement.

    Args:
        result: A CursorResult, not yet fetched from.
        columns: Names of columns.
        table: Whose columns they are, by its name without a schema, whatever aliases, subqueries and labels the
            statement has; of several aliases the first is meant. Text has no tables: there, and when none is given, the
            columns' names in the result count.

    Returns:
        None when a column is not there, or more than one has its name, or the result returns no rows.
    """
    try:
        keymap = result._metadata._keymap  # noqa: SLF001 - knows the columns behind labels, in all versions
    except Exception:  # noqa: BLE001 - raised by results without rows
        return None
    named = _columns_of(keymap, table) if table else {}
    found = []
    for name in columns:
        position = named.get(name) if named else _position(keymap.get(name))
        if position is None:
            return None
        found.append(position)
    return tuple(found)


def _columns_of(keymap: dict[Any, Any], table: str) -> dict[str, int]:
    """Positions by name of the columns of one table."""
    found: dict[str, int] = {}
    for key, record in keymap.items():
        position = _position(record)
        if position is not None:
            for column in getattr(key, "base_columns", ()):
                if getattr(getattr(column, "table", None), "name", None) == table:
                    found[column.name] = min(position, found.get(column.name, position))
    return found


def _position(record: Any) -> int | None:
    """Of an entry of the keymap; None when more than one column has the key."""
    return None if record is None else record[0]


def watch_rows(
    result: Any, columns: tuple[str | int, ...], on_row: OnRow, on_end: OnEnd, *, on_failure: OnFailure = count_failure
) -> bool:
    """See the rows of a result as the application fetches them; none is fetched for it, and nothing is raised.

    The ORM fetches all rows of a result, or as many as it yields at a time, when the first one is asked for. Rows that
    SQLAlchemy fetched itself, as it does for what RETURNING returns of inserted objects, are not seen.

    Args:
        result: A CursorResult, not yet fetched from.
        columns: Of which the values are wanted, by name or position; with none, they are empty.
        on_row: Called with the values of each row before the application has it: those that the driver returned, put
            through the column type's result processor as they are for the application (a UUID, where SQLite stores
            text). After it has raised, rows are only counted.
        on_end: Called once with the rows fetched so far, and whether these are all: when there are no more, the result
            is closed, or it is collected.
        on_failure: Counts an error of the two others, or of a result processor; the hook's own when not given.

    Returns:
        False when the result cannot be watched: it returns no rows, has been fetched already, or lacks a column.
    """
    try:
        if result._soft_closed or not result.returns_rows:  # noqa: SLF001 - no public name tells
            return False
        extract = _extracts.get(columns) or _extraction(result, columns)
        if extract is None:
            return False
        processors = extract(result._metadata._processors)  # noqa: SLF001 - of all versions
        if any(processors):
            extract = _processing(extract, processors)
        result.cursor_strategy = _Watch(result.cursor_strategy, extract, on_row, on_end, on_failure)
    except Exception as error:  # noqa: BLE001 - counted; the application goes on with the result as it is
        on_failure(error)
        return False
    return True


# By positions, as each execution of a statement has the same; those that come when it is full are made each time.
EXTRACTS_MAX: Final = 1024
_extracts: Final[dict[tuple[str | int, ...], Extract]] = {}


def _extraction(result: Any, columns: tuple[str | int, ...]) -> Extract | None:
    """What takes the values of columns out of a row; None when one is not there."""
    names = [column for column in columns if isinstance(column, str)]
    found = positions_of(result, names) if names else ()
    if found is None:
        return None
    named = dict(zip(names, found, strict=True))
    positions = [named[column] if isinstance(column, str) else column for column in columns]
    extract: Extract
    if len(positions) > 1:
        extract = itemgetter(*positions)
    else:
        extract = itemgetter(slice(positions[0], positions[0] + 1) if positions else slice(0))
    if not names and len(_extracts) < EXTRACTS_MAX:
        _extracts[columns] = extract
    return extract


def _processing(extract: Extract, processors: tuple[Any, ...]) -> Extract:
    def process(row: Any) -> tuple[Any, ...]:
        return tuple(
            [
                value if processor is None else processor(value)
                for processor, value in zip(processors, extract(row), strict=True)
            ]
        )

    return process


class _Watch:
    """A cursor strategy that has another one fetch, and looks at what it fetched.

    While that one fetches it is the result's again: it closes the result when there are no more rows, before they have
    been looked at.
    """

    __slots__ = ("_ended", "_extract", "_inner", "_on_end", "_on_failure", "_on_row", "_rows")

    def __init__(self, inner: Any, extract: Extract, on_row: OnRow, on_end: OnEnd, on_failure: OnFailure) -> None:
        self._inner = inner
        self._extract: Extract | None = extract
        self._on_row = on_row
        self._on_end = on_end
        self._on_failure = on_failure
        self._rows = 0
        self._ended = False

    def fetchone(self, result: Any, cursor: Any, hard_close: bool = False) -> Any:  # noqa: FBT001, FBT002 - SQLAlchemy's
        inner = result.cursor_strategy = self._inner
        try:
            row = inner.fetchone(result, cursor, hard_close)
        except BaseException:
            self._resume(result)
            raise
        if row is None:
            self._end(True)
            return None
        result.cursor_strategy = self
        self._rows += 1
        if self._extract is not None:
            try:
                self._on_row(self._extract(row))
            except Exception as error:  # noqa: BLE001 - as in `_see`, whose call takes as long as all of this
                self._extract = None
                self._on_failure(error)
        return row

    def fetchmany(self, result: Any, cursor: Any, size: int | None = None) -> Any:
        inner = result.cursor_strategy = self._inner
        try:
            rows = inner.fetchmany(result, cursor, size)
        except BaseException:
            self._resume(result)
            raise
        self._see(rows)
        if result.cursor_strategy is inner:
            result.cursor_strategy = self
        else:
            self._end(True)
        return rows

    def fetchall(self, result: Any, cursor: Any) -> Any:
        inner = result.cursor_strategy = self._inner
        try:
            rows = inner.fetchall(result, cursor)
        except BaseException:
            self._resume(result)
            raise
        self._see(rows)
        self._end(True)
        return rows

    def soft_close(self, result: Any, cursor: Any) -> None:
        try:
            self._inner.soft_close(result, cursor)
        finally:
            self._end(False)

    def hard_close(self, result: Any, cursor: Any) -> None:
        try:
            self._inner.hard_close(result, cursor)
        finally:
            self._end(False)

    def yield_per(self, result: Any, cursor: Any, num: int) -> None:
        self._inner.yield_per(result, cursor, num)
        if result.cursor_strategy is not self:
            self._inner, result.cursor_strategy = result.cursor_strategy, self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _resume(self, result: Any) -> None:
        """Go on after an error, unless it closed the result."""
        if result.cursor_strategy is self._inner:
            result.cursor_strategy = self
        else:
            self._end(False)

    def _see(self, rows: Sequence[Any]) -> None:
        try:
            self._rows += len(rows)
            extract, on_row = self._extract, self._on_row
            if extract is not None:
                for row in rows:
                    on_row(extract(row))
        except Exception as error:  # noqa: BLE001 - counted, once for what is the same for each row
            self._extract = None
            self._on_failure(error)

    def _end(self, exhausted: bool) -> None:  # noqa: FBT001 - as it is told
        if self._ended:
            return
        self._ended = True
        try:
            self._on_end(self._rows, exhausted)
        except Exception as error:  # noqa: BLE001 - counted
            self._on_failure(error)

    def __del__(self) -> None:
        if not self._ended:
            self._end(False)
