"""What is counted of a table from time to time: its active rows, and users who have more than one of them."""

import logging
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from session_exporter.core.scopes import ScopeRules
from session_exporter.watch import catalog
from session_exporter.watch.findings import Census, Twin
from session_exporter.watch.tables import SessionTable

from sqlalchemy import and_, func, or_, select  # isort: skip

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

logger = logging.getLogger(__name__)

TWINS_MAX: Final = 20
SESSIONS_MAX: Final = 10
# So many users that stand inside of JSON are read, and compared here.
ROWS_MAX: Final = 100_000
_READ_AT_ONCE: Final = 1000


def take_census(connection: "Connection", table: SessionTable, rules: ScopeRules, now_us: int) -> Census:
    """Count the active rows of a table, and the users who have more than one where one is all they may have.

    Args:
        connection: In a transaction that reads, with a statement timeout.
        table: Whose rows are counted.
        rules: Of the scope that the table keeps.
        now_us: The sidecar's clock.

    Returns:
        At most `TWINS_MAX` twins, with at most `SESSIONS_MAX` sessions each.

    Raises:
        SQLAlchemyError: As the connection; `Database.reading` translates it.
    """
    active = table.active()
    if active is None:
        return Census(now_us, None, None)
    counted = select(func.count()).select_from(table.table).where(table.has_id(), active)
    rows = int(connection.execute(counted).scalar_one())
    if rules.sessions_per_user != "one" or not table.mapping.user:
        return Census(now_us, rows, None)
    if table.mapping.user_path:
        return _compared_here(connection, table, active, rows, now_us)
    found = connection.execute(_duplicates(table, active)).all()
    twins = _twins(connection, table, active, found)
    return Census(now_us, rows, int(found[0].users_) if found else 0, twins)


def _duplicates(table: SessionTable, active: Any) -> Any:
    """Users and keys with more than one active row, the newest first, each with how many such users there are."""
    owner = _owner(table)
    rows = func.count()
    newest = func.max(table.created_at.column) if table.created_at else rows
    counted = [rows.label("rows_"), func.count().over().label("users_")]
    return (
        select(*owner, *counted)
        .select_from(table.table)
        .where(table.has_id(), active, *_has_user(table))
        .group_by(*owner)
        .having(rows > 1)
        .order_by(newest.desc().nulls_last(), *owner)
        .limit(TWINS_MAX)
    )


def _owner(table: SessionTable) -> list[Any]:
    return [table.column(name) for name in (table.mapping.user, *table.mapping.key)]


def _has_user(table: SessionTable) -> list[Any]:
    name = table.mapping.user
    user = table.column(name)
    is_text = table.shape.columns[table.name_of(name)] == catalog.TEXT
    return [user.is_not(None), *([user != ""] if is_text else [])]


def _twins(connection: "Connection", table: SessionTable, active: Any, found: Sequence[Any]) -> list[Twin]:
    """The newest sessions of each user that was found; of who has but one left by now, nothing."""
    if not found:
        return []
    owner = _owner(table)
    owners = [tuple(each)[: len(owner)] for each in found]
    newest = table.created_at.column.desc().nulls_last() if table.created_at else table.ids[0]
    place = func.row_number().over(partition_by=owner, order_by=newest).label("place_")
    those = or_(*(_is_of(owner, values) for values in owners))
    ranked = table.rows(active, those, beside=(place, *_labelled(owner))).subquery()
    sessions: dict[tuple[Any, ...], list[Any]] = {values: [] for values in owners}
    wanted = select(*ranked.c).where(ranked.c.place_ <= SESSIONS_MAX).order_by(ranked.c.place_)
    for row in connection.execute(wanted):
        sessions.setdefault(tuple(row)[-len(owner) :], []).append(row)
    counts = zip(owners, (int(each.rows_) for each in found), strict=True)
    told = [_twin(table, sessions[values], rows) for values, rows in counts if len(sessions[values]) > 1]
    return [each for each in told if each.user]


def _is_of(owner: list[Any], values: Iterable[Any]) -> Any:
    pairs = zip(owner, values, strict=True)
    return and_(*(column.is_(None) if value is None else column == value for column, value in pairs))


def _labelled(owner: list[Any]) -> list[Any]:
    return [column.label(f"owner_{number}_") for number, column in enumerate(owner)]


def _twin(table: SessionTable, rows: Sequence[Any], count: int) -> Twin:
    sessions, created_us = tuple(map(table.session, rows)), tuple(map(table.created_us, rows))
    return Twin(table.user(rows[0]), table.key(rows[0]), sessions, created_us, count)


# Users inside of JSON.


def _compared_here(connection: "Connection", table: SessionTable, active: Any, rows: int, now_us: int) -> Census:
    if rows > ROWS_MAX:
        _warn_of_size(table.mapping.table)
        return Census(now_us, rows, None)
    owners: dict[tuple[str, str], list[tuple[int, str]]] = {}
    statement = table.rows(active, *_has_user(table)).limit(ROWS_MAX)
    for part in connection.execute(statement.execution_options(stream_results=True)).partitions(_READ_AT_ONCE):
        for row in part:
            owners.setdefault((table.user(row), table.key(row)), []).append((table.created_us(row), table.session(row)))
    found = {owner: sorted(each, reverse=True) for owner, each in owners.items() if owner[0] and len(each) > 1}
    newest = sorted(found, key=lambda owner: found[owner], reverse=True)[:TWINS_MAX]
    return Census(now_us, rows, len(found), [_twin_of(owner, found[owner]) for owner in newest])


def _twin_of(owner: tuple[str, str], found: list[tuple[int, str]]) -> Twin:
    created_us, sessions = zip(*found[:SESSIONS_MAX], strict=True)
    return Twin(*owner, sessions, created_us, len(found))


@lru_cache(maxsize=256)
def _warn_of_size(table: str) -> None:
    """Said once for each table: nobody can help it while the sidecar runs."""
    logger.warning(
        "%s: users stand inside of JSON, and of more than %d active rows they are not compared: none is told of as"
        " having several active sessions",
        table,
        ROWS_MAX,
    )
