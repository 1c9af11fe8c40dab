"""What time it is for a database, and since when transactions are open that others do not see yet."""

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)

# Who may not see others' transactions gets this for their statement.
_HIDDEN: Final = "<insufficient privilege>"
# What is told of others is otherwise told again as it was in the same transaction.
_FRESH: Final = text("SELECT pg_stat_clear_snapshot()")
# A transaction that is being prepared tells when that was, not when it began. Workers that clean up, or send to
# standbys, insert no rows.
_MOMENT: Final = text(
    f"""
    SELECT clock.now, CASE WHEN pg_is_in_recovery() THEN pg_last_xact_replay_timestamp() END AS replayed,
        pg_is_in_recovery() AS is_standby, others.is_hidden, others.oldest, prepared.oldest AS prepared
    FROM (SELECT clock_timestamp() AS now OFFSET 0) AS clock,
        LATERAL (
            SELECT bool_or(query = '{_HIDDEN}' OR state = 'disabled') AS is_hidden, min(xact_start) AS oldest
            FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()
                AND coalesce(backend_type, '') NOT IN ('autovacuum worker', 'walsender')
                AND clock.now IS NOT NULL
        ) AS others,
        (SELECT min(prepared) AS oldest FROM pg_prepared_xacts WHERE database = current_database()) AS prepared
    """  # noqa: S608 - constants only
)


class Moment(NamedTuple):
    """What a database says of time, microseconds since the Unix epoch.

    Attributes:
        now_us: Its clock.
        known_us: Up to when it knows of commits: its clock, or on a standby the last commit that it has heard of.
        oldest_us: Since when the oldest other transaction is open, `now_us` when there is none; None where it does not
            tell: SQLite, a standby, or without the right to see others.
        prepared_us: When the oldest prepared transaction was prepared; None for none.
    """

    now_us: int
    known_us: int
    oldest_us: int | None
    prepared_us: int | None = None

    def settled_us(self, longest_transaction_us: int) -> int:
        """Up to when all has become visible that ever will, if no transaction is open longer than that unseen."""
        settled_us = self.known_us - longest_transaction_us if self.oldest_us is None else self.oldest_us
        if self.prepared_us is not None:
            settled_us = min(settled_us, self.prepared_us - longest_transaction_us)
        return min(settled_us, self.known_us)


def moment(connection: "Connection") -> Moment:
    """Ask for it; before anything is read of which it is to tell.

    Raises:
        SQLAlchemyError: As the connection; `Database.reading` translates it.
    """
    if connection.dialect.name != "postgresql":
        now_us = time.time_ns() // 1000
        return Moment(now_us, now_us, None)
    connection.execute(_FRESH)
    found = connection.execute(_MOMENT).one()
    now_us = _us(found.now)
    known_us = min(now_us, _us(found.replayed)) if found.is_standby and found.replayed else now_us
    tells = not found.is_standby and not found.is_hidden
    oldest_us = min(now_us, _us(found.oldest) if found.oldest else now_us) if tells else None
    return Moment(now_us, known_us, oldest_us, _us(found.prepared) if found.prepared else None)


def now_us(connection: "Connection") -> int:
    """The database's clock; raises as `moment`."""
    return moment(connection).now_us


def oldest_transaction_us(connection: "Connection") -> int | None:
    """Since when the oldest other transaction is open; as `Moment.oldest_us`."""
    return moment(connection).oldest_us


def _us(at: datetime) -> int:
    return (at - EPOCH) // MICROSECOND
