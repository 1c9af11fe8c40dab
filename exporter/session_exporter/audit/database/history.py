"""The history of rapid duplicates: one pass over the table, in which the database puts every create beside the last.

A create is a rapid duplicate when the one before it, of the same user and key, is less than the window older. All that
is told of them comes of one statement, so that the rows are sorted once, and all figures are of one moment.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from session_exporter.audit.database.results import AuditedSession, CreateHistory, RapidDay, RapidPair, RapidUser
from session_exporter.audit.database.rowtexts import RowTexts
from session_exporter.audit.database.subject import AT, USER, Subject, numbered
from session_exporter.core.totals import DAY_US, INTERVAL_BUCKETS_S
from session_exporter.watch.clock import EPOCH, MICROSECOND

LISTED_MAX: Final = 10
DAYS_MAX: Final = 3660

# The parts of the answer.
_PAIR, _DAY, _WORST, _INTERVAL, _RAPID, _ALL = range(6)


def read_history(connection: Connection, subject: Subject, *, since_us: int | None, texts: RowTexts) -> CreateHistory:
    """Ask for the whole history of a table that names its users and times.

    Args:
        connection: In a transaction that only reads.
        subject: The table.
        since_us: Creates before are left aside; None for all.
        texts: Makes texts of ids.
    """
    rows = connection.execute(_statement(subject, since_us))
    parts = {part: list(group) for part, group in groupby(rows, lambda row: int(row.part))}
    rapid, every = parts[_RAPID][0], parts[_ALL][0]
    intervals = {int(row.number): int(row.amount) for row in parts.get(_INTERVAL, ())}
    return CreateHistory(
        creates=int(every.amount),
        first_us=_whole(every.at),
        last_us=_whole(every.number),
        duplicates=int(rapid.amount),
        users=int(rapid.number),
        days=tuple(RapidDay(_day(row.at), int(row.amount), int(row.number)) for row in parts.get(_DAY, ())),
        worst=tuple(
            RapidUser(texts.user(row.the_user), int(row.amount), int(row.number)) for row in parts.get(_WORST, ())
        ),
        smallest=tuple(_pair(row, subject, texts) for row in parts.get(_PAIR, ())),
        intervals=tuple(intervals.get(place, 0) for place in range(len(INTERVAL_BUCKETS_S) + 1)),
    )


def _statement(subject: Subject, since_us: int | None) -> Any:
    creates = _creates(subject, since_us)
    rapid = sa.select(creates).where(creates.c.gap_us < subject.rules.duplicate_window_us).cte("rapid")
    # The first one names the columns and their types.
    parts = (_pairs(rapid), _days(rapid), _worst(rapid), _intervals(creates), _rapid(rapid), _all(creates))
    columns = [f"{name}{place}" for name, count in _values(subject) for place in range(count)]
    answer = sa.union_all(*(_part(number, part, columns) for number, part in enumerate(parts))).subquery("answer")
    return sa.select(answer).order_by(answer.c.part, answer.c.place)


def _values(subject: Subject) -> tuple[tuple[str, int], ...]:
    return ("key", len(subject.keys)), ("id", len(subject.ids)), ("last", len(subject.ids))


def _creates(subject: Subject, since_us: int | None) -> Any:
    """Every create of the period beside the last one of its user and key."""
    entries = subject.entries()
    keys = [entries.c[f"key{place}"] for place in range(len(subject.keys))]
    ids = [entries.c[f"id{place}"] for place in range(len(subject.ids))]
    # Where nothing else is asked of it, the order of the bytes is as good as one that a language asks for, and faster.
    whose = [_plainly(each, subject.dialect) for each in (entries.c[USER], *keys)]
    window: dict[str, Any] = {"partition_by": whose, "order_by": [entries.c[AT], *ids]}
    gap = entries.c[AT] - sa.func.lag(entries.c[AT]).over(**window)
    last = [sa.func.lag(each).over(**window).label(f"last{place}") for place, each in enumerate(ids)]
    beside = sa.select(*entries.c, gap.label("gap_us"), *last)
    if since_us is None:
        return beside.cte("creates")
    # What was created just before the period makes a duplicate of what comes in it.
    earlier = beside.where(entries.c[AT] > since_us - subject.rules.duplicate_window_us).subquery("beside")
    return sa.select(earlier).where(earlier.c[AT] >= since_us).cte("creates")


def _plainly(column: Any, dialect: str) -> Any:
    is_text = isinstance(column.type, sa.String) and not isinstance(column.type, sa.Enum)
    return column.collate("C") if dialect == "postgresql" and is_text else column


def _pairs(rapid: Any) -> Any:
    order = [rapid.c.gap_us, rapid.c[AT].desc(), rapid.c.id0]
    values = [each for each in rapid.c if each.name not in {AT, "gap_us"}]
    columns = (*values, rapid.c[AT].label("at"), rapid.c.gap_us.label("number"), sa.literal_column("0").label("amount"))
    place = sa.func.row_number().over(order_by=order).label("place")
    return sa.select(*columns, place).order_by(*order).limit(LISTED_MAX)


def _days(rapid: Any) -> Any:
    day = rapid.c[AT] - rapid.c[AT] % DAY_US
    users = sa.func.count(sa.distinct(rapid.c[USER])).label("number")
    newest = sa.select(day.label("at"), users, sa.func.count().label("amount"), day.label("place")).group_by(day)
    return newest.order_by(day.desc()).limit(DAYS_MAX)


def _worst(rapid: Any) -> Any:
    order = [sa.func.count().desc(), sa.func.min(rapid.c.gap_us), rapid.c[USER]]
    place = sa.func.row_number().over(order_by=order).label("place")
    columns = (rapid.c[USER], sa.func.min(rapid.c.gap_us).label("number"), sa.func.count().label("amount"), place)
    return sa.select(*columns).group_by(rapid.c[USER]).order_by(*order).limit(LISTED_MAX)


def _intervals(creates: Any) -> Any:
    bounds = [(creates.c.gap_us <= round(bound_s * 1e6), place) for place, bound_s in enumerate(INTERVAL_BUCKETS_S)]
    bucket = sa.case(
        *((condition, sa.literal_column(str(place))) for condition, place in bounds),
        else_=sa.literal_column(str(len(bounds))),
    )
    beside = sa.select(bucket.label("bucket")).where(creates.c.gap_us.is_not(None)).subquery("intervals")
    columns = (beside.c.bucket.label("number"), sa.func.count().label("amount"), beside.c.bucket.label("place"))
    return sa.select(*columns).group_by(beside.c.bucket)


def _rapid(rapid: Any) -> Any:
    users = sa.func.count(sa.distinct(rapid.c[USER])).label("number")
    return sa.select(users, sa.func.count().label("amount"))


def _all(creates: Any) -> Any:
    first, last = sa.func.min(creates.c[AT]).label("at"), sa.func.max(creates.c[AT]).label("number")
    return sa.select(first, last, sa.func.count().label("amount"))


def _part(number: int, statement: Any, values: Sequence[str]) -> Any:
    """A part of the answer, with NULL in all columns that it has nothing to say in."""
    part = statement.subquery(f"part{number}")
    names = ("amount", "number", "at", "place", USER, *values)
    columns: Iterable[Any] = (part.c[name] if name in part.c else sa.null().label(name) for name in names)
    return sa.select(sa.literal_column(str(number)).label("part"), *columns)


def _pair(row: Any, subject: Subject, texts: RowTexts) -> RapidPair:
    key, second, first = (numbered(row, name, count) for name, count in _values(subject))
    at_us, gap_us = int(row.at), int(row.number)
    return RapidPair(
        texts.user(row.the_user),
        texts.key(key),
        AuditedSession(texts.session(first), at_us - gap_us),
        AuditedSession(texts.session(second), at_us),
        gap_us,
    )


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def _day(at_us: Any) -> str:
    return (EPOCH + int(at_us) * MICROSECOND).date().isoformat()
