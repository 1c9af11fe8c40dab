"""Sessions in the statements that an application executes through SQLAlchemy."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from session_exporter.core.scopes import DEFAULT_SCOPE
from session_exporter.hooks.sqlalchemy.tables import install
from session_exporter.mappings import TableMapping, value_texts
from session_exporter.tracker import SessionTracker

__all__ = ["install_tables", "map_table"]

Names = str | Iterable[str]


def map_table(
    table: str,
    *,
    scope: str = DEFAULT_SCOPE,
    id: Names = "id",  # noqa: A002 - what the column is called
    id_prefix: str = "",
    user: str = "",
    user_path: str = "",
    key: Names = (),
    active: Mapping[str, Iterable[object]] | None = None,
    created_at: str = "",
    updated_at: str = "",
    end_reason: str = "",
    rows: str = "sessions",
    restart_on: Names = (),
    tracker: SessionTracker | None = None,
) -> Callable[[], None]:
    """Watch a table that keeps sessions, through every engine of this process, sync or async, made before or after.

    Creates, ends, attributions and restarts are reported once the transaction is committed; lookups when the
    application has fetched the rows; refused and failed creates at once. SQL is understood in every style: ORM, Core,
    `text()` and `exec_driver_sql`; what is not certain of a text says nothing.

    Args:
        table: Its name, or `schema.name`.
        scope: The kind of session.
        id: The column of the session's id, or several, which are joined by `/`.
        id_prefix: Removed from the front of the id when it is there.
        user: The column of the user's id; without one, the user is that of the request.
        user_path: Where the id is inside of a JSON value of that column: keys joined by dots.
        key: The column of the device, app or thread, or several, which are joined by `/`.
        active: By column, the values with which a session is active; a row that leaves them has ended.
        created_at: The column that says when the session was created.
        updated_at: The column that says when it was last used.
        end_reason: The column that says why it ended, one of `END_REASONS`.
        rows: `sessions`: one row per session. `messages`: many rows, the first of which is the create.
        restart_on: Columns whose change ends the session and starts another one under the same id.
        tracker: Reports; one of its own when not given.

    Returns:
        What takes it back; called twice, it does nothing.

    Raises:
        ValueError: A value is none of these.
    """
    mapping = TableMapping(
        table=table,
        scope=scope,
        id=_names(id),
        id_prefix=id_prefix,
        user=user,
        user_path=user_path,
        key=_names(key),
        active={column: value_texts(_values(values)) for column, values in (active or {}).items()},
        created_at=created_at,
        updated_at=updated_at,
        end_reason=end_reason,
        rows=rows,
        restart_on=_names(restart_on),
    )
    return install_tables([mapping], tracker)


def install_tables(mappings: Sequence[TableMapping], tracker: SessionTracker | None = None) -> Callable[[], None]:
    """Watch tables, as `map_table` does.

    Args:
        mappings: What their columns mean; one that is watched already is not reported twice.
        tracker: Reports; one of its own when not given.

    Returns:
        What takes it back; called twice, it does nothing.
    """
    return install(mappings, tracker if tracker is not None else SessionTracker())


def _names(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _values(values: object) -> Iterable[object]:
    """One value may be given without a list around it."""
    return values if isinstance(values, Iterable) and not isinstance(values, str | bytes) else (values,)
