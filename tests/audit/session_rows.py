"""Rows of a session table, put into a real database, and what an audit must find in them, worked out in Python."""

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

import sqlalchemy as sa
from hypothesis import strategies as st

from session_exporter.core.totals import INTERVAL_BUCKETS_S

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BEGUN_US = 1_800_000_000_000_000
WINDOW_US = 10_000_000
DAY_US = 86_400_000_000


class StoredSession(NamedTuple):
    """A row: its number makes its id, its time is an offset from `BEGUN_US`."""

    number: int
    user: str | None
    device: str | None
    at_us: int | None
    is_active: bool

    @property
    def id(self):
        return f"s{self.number:03}"

    @property
    def created_us(self):
        return None if self.at_us is None else BEGUN_US + self.at_us


GAPS_US = st.sampled_from([0, 1, 9_999, 10_000, 10_001, 999_999, 9_999_999, 10_000_000, 10_000_001, 50_000_000, DAY_US])


@st.composite
def stored_sessions(draw):
    """Rows with ties, with gaps on and around every edge, and some without a user, key or time."""
    at_us, rows = 0, []
    for number in range(draw(st.integers(0, 25))):
        at_us += draw(GAPS_US)
        user = draw(st.sampled_from(["ann", "bob", "cleo", "", None]))
        at = draw(st.sampled_from([at_us, at_us, at_us, at_us, None]))
        rows.append(StoredSession(number, user, draw(st.sampled_from([None, "a", "b"])), at, draw(st.booleans())))
    return draw(st.permutations(rows))


def table(name="chats", **more):
    """The table of these rows."""
    return sa.Table(
        name,
        sa.MetaData(),
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("user_id", sa.String(40)),
        sa.Column("device", sa.String(40)),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True)),
        sa.Column("updated_at", sa.DateTime(timezone=True)),
        sa.Column("ended_reason", sa.String(40)),
        **more,
    )


def store(engine, where, rows):
    """Make the table contain these rows only."""
    values = [
        {
            "id": row.id,
            "user_id": row.user,
            "device": row.device,
            "status": "active" if row.is_active else "ended",
            "created_at": None if row.at_us is None else EPOCH + timedelta(microseconds=row.created_us),
        }
        for row in rows
    ]
    with engine.begin() as connection:
        connection.execute(where.delete())
        if values:
            connection.execute(where.insert(), values)


class Expected:
    """What an audit must find, worked out the long way."""

    def __init__(self, rows, since_us=None):
        dated = [row for row in rows if row.user and row.at_us is not None]
        lines = defaultdict(list)
        for row in sorted(dated, key=lambda row: (row.created_us, row.id)):
            lines[row.user, row.device].append(row)
        pairs = [(one, two) for line in lines.values() for one, two in pairwise(line)]
        if since_us is not None:
            dated = [row for row in dated if row.created_us >= since_us]
            least_us = since_us - WINDOW_US
            pairs = [pair for pair in pairs if pair[1].created_us >= since_us and pair[0].created_us > least_us]
        rapid = [(one, two) for one, two in pairs if two.created_us - one.created_us < WINDOW_US]
        self.creates = len(dated)
        self.duplicates = len(rapid)
        self.users = {two.user for _, two in rapid}
        days = defaultdict(list)
        for _, two in rapid:
            days[(EPOCH + timedelta(microseconds=two.created_us)).date().isoformat()].append(two.user)
        self.days = [(day, len(users), len(set(users))) for day, users in sorted(days.items())]
        self.by_user = Counter(two.user for _, two in rapid)
        self.gaps = sorted(two.created_us - one.created_us for one, two in rapid)[:10]
        self.pairs = {(one.id, two.id) for one, two in rapid}
        intervals = Counter(_bucket(two.created_us - one.created_us) for one, two in pairs)
        self.intervals = [intervals[place] for place in range(len(INTERVAL_BUCKETS_S) + 1)]
        crowds = Counter((row.user, row.device or "") for row in rows if row.user and row.is_active)
        self.crowds = {whose: count for whose, count in crowds.items() if count > 1}
        self.active = sum(row.is_active for row in rows)
        self.without_user = sum(not row.user for row in rows)
        self.undated = sum(row.at_us is None for row in rows)


def _bucket(gap_us):
    return next((place for place, bound_s in enumerate(INTERVAL_BUCKETS_S) if gap_us <= bound_s * 1e6), 14)
