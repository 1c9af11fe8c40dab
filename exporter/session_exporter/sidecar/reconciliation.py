"""What hooks have told of a scope beside what its table in the database says: read from the committed state."""

import sqlite3
from collections import Counter
from typing import Any, Final

from session_exporter.core.checkpoint import Waiting
from session_exporter.core.documents import iso
from session_exporter.core.minutes import MINUTE_US
from session_exporter.core.records import ROW_NEW
from session_exporter.core.totals import LedgerTotals, ScopeTotals
from session_exporter.sidecar.records import ExporterState, read_meta

# What was read that long ago tells nothing of now.
_BEHIND_US: Final = 15 * MINUTE_US


def reconciliations(
    connection: sqlite3.Connection, totals: LedgerTotals, exporter: ExporterState
) -> dict[str, dict[str, Any] | None]:
    """Compare by scope; None for those whose tables are not read.

    Args:
        connection: A consistent view of the state.
        totals: Of that state.
        exporter: Likewise.
    """
    watched = {name: each for name, each in totals.scopes.items() if each.watched_since_us}
    waiting = _waiting(connection) if watched else {}
    return {
        name: _compared(connection, name, each, exporter, waiting.get(name, 0)) if name in watched else None
        for name, each in totals.scopes.items()
    }


def _compared(
    connection: sqlite3.Connection, scope: str, totals: ScopeTotals, exporter: ExporterState, waiting: int
) -> dict[str, Any]:
    read_us = _read_until_us(exporter, scope)
    unread = _created_since(connection, scope, read_us)
    missing = max(totals.reported - (totals.found - totals.unseen) - waiting - unread, 0)
    return {
        "since": iso(totals.watched_since_us),
        "read_until": iso(read_us) if read_us else None,
        "reported": totals.reported,
        "found": totals.found,
        "unseen": totals.unseen,
        "unreported": totals.unreported,
        "difference": totals.found - totals.reported,
        "waiting": waiting,
        "unread": unread,
        "missing": missing,
        "agree": _agree(totals, missing, is_current=exporter.committed_at_us - read_us < _BEHIND_US),
    }


def _agree(totals: ScopeTotals, missing: int, *, is_current: bool) -> bool | None:
    """Whether both say the same; None when there is nothing to compare, or not any more."""
    if totals.unreported or missing:
        return False
    return True if totals.has_hooks and is_current else None


def _read_until_us(exporter: ExporterState, scope: str) -> int:
    """Up to when all tables of a scope have been read, by the database's clock; 0 for not at all."""
    places = [each.created_us for place, each in exporter.watches.items() if place.rpartition("/")[2] == scope]
    return min(places, default=0)


def _created_since(connection: sqlite3.Connection, scope: str, read_us: int) -> int:
    """How many creates hooks told of that the table may not have been read for.

    A minute for clocks that differ is included.
    """
    sql = "SELECT name, sum(count) FROM minutes WHERE scope = ? AND minute >= ? GROUP BY name"
    counts: dict[str, int] = dict(connection.execute(sql, (scope, read_us // MINUTE_US - 1)))
    return counts.get("creates", 0) - counts.get("unseen", 0)


def _waiting(connection: sqlite3.Connection) -> dict[str, int]:
    """Rows whose hook may still tell of them, by scope."""
    names = {number: name for name, number in (read_meta(connection, "numbers", dict[str, int]) or {}).items()}
    reports = (read_meta(connection, "waiting", Waiting) or Waiting()).reports
    return Counter(names.get(each.scope, "") for each in reports if each.kind == ROW_NEW)
