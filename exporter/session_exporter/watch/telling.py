"""What the rows of a table say of their sessions."""

from collections.abc import Iterable
from typing import Any

from session_exporter.core.rows import NEW, OVER, USED, Row
from session_exporter.watch.pages import Reader
from session_exporter.watch.tables import SessionTable

from sqlalchemy import func, select  # isort: skip


def created_rows(reader: Reader, rows: Iterable[Any], now_us: int) -> list[Row]:
    """What rows say that were not read before; of messages, the first one of its session is the create."""
    if reader.table.mapping.rows == "messages":
        return _of_messages(reader, list(rows))
    return [each for row in rows for each in _of_session(reader.table, row, now_us)]


def changed_rows(table: SessionTable, rows: Iterable[Any], now_us: int) -> list[Row]:
    """What rows say that have changed, whenever they were created."""
    return [each for row in rows if (each := _changed(table, row, now_us)) is not None]


def over_row(table: SessionTable, row: Any, now_us: int) -> Row:
    """What a row says that is not active."""
    created_us, updated_us = table.created_us(row), table.updated_us(row)
    # A row that was not changed since it was made does not say when it ended. Who changed it may have begun before
    # whoever made it: times are those of the beginning.
    at_us = max(created_us, updated_us) if updated_us not in {0, created_us} else now_us
    return _row(table, OVER, at_us, row, table.reason(row))


def _row(table: SessionTable, what: str, at_us: int, row: Any, reason: str = "") -> Row:
    return Row(what, at_us, table.session(row), table.user(row), table.key(row), reason)


def _of_session(table: SessionTable, row: Any, now_us: int) -> list[Row]:
    changed = _changed(table, row, now_us)
    return [_row(table, NEW, table.created_us(row), row), *([changed] if changed else [])]


def _changed(table: SessionTable, row: Any, now_us: int) -> Row | None:
    if not table.is_active(row):
        return over_row(table, row, now_us)
    updated_us = table.updated_us(row)
    return _row(table, USED, updated_us, row) if updated_us > table.created_us(row) else None


def _of_messages(reader: Reader, rows: list[Any]) -> list[Row]:
    table = reader.table
    first_us = _first_messages_us(reader, {table.session(row): table.id_key(row) for row in rows})
    told: list[Row] = []
    begun: set[str] = set()
    for row in sorted(rows, key=table.created_us):
        session, at_us = table.session(row), table.created_us(row)
        is_first = session not in begun and at_us <= first_us.get(session, at_us)
        begun.add(session)
        told.append(_row(table, NEW if is_first else USED, at_us, row))
    return told


def _first_messages_us(reader: Reader, keys: dict[str, tuple[Any, ...]]) -> dict[str, int]:
    """When each session's first message was written."""
    table, times = reader.table, reader.table.created_at
    if not keys or times is None:
        return {}
    first = func.min(times.selected).label("created_at_")
    statement = select(*table.ids, first).where(table.is_one_of(keys.values())).group_by(*table.ids)
    return {table.session(row): table.created_us(row) for row in reader.all(statement)}
