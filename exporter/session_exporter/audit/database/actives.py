"""Who has more than one active session now, and what the table counts."""

from itertools import groupby
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from session_exporter.audit.database.results import ActiveFindings, AuditedSession, CrowdedUser
from session_exporter.audit.database.rowtexts import RowTexts
from session_exporter.audit.database.subject import Subject, numbered, same

LISTED_MAX: Final = 10


class RowCounts(NamedTuple):
    """How many rows a table has, of messages sessions; and how many of them lack something."""

    rows: int
    without_user: int
    undated: int
    active: int


def count_rows(connection: Connection, subject: Subject) -> RowCounts:
    """Count what the table has, in one pass."""
    if subject.mapping.rows != "sessions":
        ids = sa.select(*subject.ids).distinct().subquery("sessions")
        return RowCounts(int(connection.execute(sa.select(sa.func.count()).select_from(ids)).scalar_one()), 0, 0, 0)
    lacking = (sa.not_(subject.has_user) if subject.user is not None else None, _is_undated(subject), subject.active)
    columns = [sa.literal_column("0") if each is None else _how_many(each) for each in lacking]
    row = connection.execute(sa.select(sa.func.count(), *columns).select_from(subject.table)).one()
    return RowCounts(*(int(each or 0) for each in row))


def read_actives(connection: Connection, subject: Subject, rows: int, *, texts: RowTexts) -> ActiveFindings:
    """Ask for the users (and keys) who have more than one active row.

    Args:
        connection: In a transaction that only reads.
        subject: A table that says whose a row is, and whether it is active.
        rows: How many are active.
        texts: Makes texts of ids.
    """
    found = connection.execute(_statement(subject)).all()
    if not found:
        return ActiveFindings(rows, 0, 0, ())
    worst = tuple(_crowded(list(group), subject, texts) for _, group in groupby(found, lambda row: row.worst))
    return ActiveFindings(rows, int(found[0].users), int(found[0].surplus), worst)


def _is_undated(subject: Subject) -> Any:
    return None if subject.created_us is None else subject.created_us.is_(None)


def _how_many(condition: Any) -> Any:
    return sa.func.sum(sa.case((condition, 1), else_=0))


def _statement(subject: Subject) -> Any:
    crowded = _crowds(subject)
    at = sa.null() if subject.created_us is None else subject.created_us
    order = [*_newest_first(subject), *(each.desc() for each in subject.ids)]
    whose = [crowded.c.user, *(crowded.c[f"key{place}"] for place in range(len(subject.keys)))]
    place = sa.func.row_number().over(partition_by=crowded.c.worst, order_by=order).label("place")
    columns = [*crowded.c, at.label("at"), place]
    columns += [each.label(f"id{number}") for number, each in enumerate(subject.ids)]
    mine = [subject.user == crowded.c.user]
    mine += [same(own, other) for own, other in zip(subject.keys, whose[1:], strict=True)]
    rows = sa.select(*columns).select_from(subject.table.join(crowded, sa.and_(*mine))).where(subject.active)
    placed = rows.subquery("placed")
    return sa.select(placed).where(placed.c.place <= LISTED_MAX).order_by(placed.c.worst, placed.c.place)


def _newest_first(subject: Subject) -> list[Any]:
    if subject.created_us is None:
        return []
    return [sa.case((subject.created_us.is_(None), 1), else_=0), subject.created_us.desc()]


def _crowds(subject: Subject) -> Any:
    """The users with the most active rows, and how many there are of them."""
    whose = [subject.user, *subject.keys]
    rows = sa.func.count()
    newest = sa.null() if subject.created_us is None else sa.func.max(subject.created_us)
    columns = [subject.user.label("user"), *(each.label(f"key{place}") for place, each in enumerate(subject.keys))]
    columns += [rows.label("rows"), newest.label("newest")]
    crowds = sa.select(*columns).where(subject.active, subject.has_user).group_by(*whose).having(rows > 1)
    each = crowds.subquery("crowds")
    totals = (sa.func.count().over().label("users"), sa.func.sum(each.c.rows - 1).over().label("surplus"))
    order = [each.c.rows.desc(), each.c.newest.desc(), each.c.user]
    worst = sa.func.row_number().over(order_by=order).label("worst")
    return sa.select(each, *totals, worst).order_by(*order).limit(LISTED_MAX).subquery("crowded")


def _crowded(rows: list[Any], subject: Subject, texts: RowTexts) -> CrowdedUser:
    first = rows[0]
    sessions = tuple(
        AuditedSession(texts.session(numbered(row, "id", len(subject.ids))), None if row.at is None else int(row.at))
        for row in rows
    )
    return CrowdedUser(
        texts.user(first.user), texts.key(numbered(first, "key", len(subject.keys))), int(first.rows), sessions
    )
