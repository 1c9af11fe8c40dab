"""What is known of the uses of database sessions: counts, and the newest ones as the canonical model tells them."""

from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from session_exporter.core.events import DbSession, Writer
from session_exporter.core.model import DatabaseSessionMetrics
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.scopes import DB_ERRORS, OUTCOMES
from session_exporter.core.totals import DbTotals

RECENT_MAX: Final = 100

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class DbUse(msgspec.Struct, frozen=True):
    """One use that is over; `event` holds pseudonyms where the worker reported ids."""

    event: DbSession
    worker: str
    pid: int
    replica: str


class DbSessions:
    """Counts uses, and remembers the newest.

    Args:
        totals: The counts to add to.
        names: For the pseudonyms of users and requests.

    Attributes:
        totals: As given.
        recent: The newest uses, oldest first.
        changed: Whether `recent` differs from the state's copy.
    """

    def __init__(self, totals: DbTotals, names: Pseudonyms) -> None:
        self.totals = totals
        self.recent: deque[DbUse] = deque(maxlen=RECENT_MAX)
        self.changed = False
        self._names = names

    def add(self, event: DbSession, writer: Writer) -> None:
        """Count a use."""
        totals = self.totals
        totals.closed[event.outcome if event.outcome in OUTCOMES else "error"] += 1
        totals.queries += event.queries
        totals.transactions += event.transactions
        for kind, count in event.errors.items():
            totals.errors[kind if kind in DB_ERRORS else "other"] += count
        totals.durations.observe(event.total_time_us / 1e6)
        names = self._names
        told = msgspec.structs.replace(
            event,
            user=names.label("u", names[event.user]),
            request=names.label("r", names[event.request]),
        )
        self.recent.append(DbUse(told, writer.id, writer.pid, writer.replica))
        self.changed = True


def metrics_of(event: DbSession) -> DatabaseSessionMetrics:
    """Put a use into the canonical model.

    Raises:
        ValueError: The worker reported what no use can have been, such as an unknown state.
    """
    return DatabaseSessionMetrics(
        event.session,
        event.request,
        event.user,
        created_at=_time(event.opened_at_us),
        last_activity_at=_time(event.last_activity_us),
        error_count=sum(event.errors.values()),
        last_error=event.last_error or None,
        state=event.state,  # type: ignore[arg-type]  # the model takes a state's value
        query_count=event.queries,
        transaction_count=event.transactions,
        total_time_ms=event.total_time_us / 1000,
        closed_at=_time(event.at_us),
    )


def _time(at_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at_us)
