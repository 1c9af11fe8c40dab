"""An audit as a JSON document: version 1. Times are ISO 8601 in UTC, spans seconds; ids are pseudonyms unless shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from session_exporter.audit.database.results import (
    ActiveFindings,
    AuditedSession,
    CreateHistory,
    Guards,
    Remedy,
    TableAudit,
)
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.totals import INTERVAL_BUCKETS_S
from session_exporter.watch.clock import EPOCH, MICROSECOND

VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class AuditWriter:
    """Writes the document of an audit.

    Attributes:
        names: What becomes of ids.
    """

    names: Pseudonyms

    def document(
        self, tables: Sequence[TableAudit], *, address: str, at_us: int, since_us: int | None
    ) -> dict[str, Any]:
        """The whole document.

        Args:
            tables: What was found.
            address: Where the database is.
            at_us: When it was audited, by its own clock.
            since_us: From when on its history was read; None for all of it.
        """
        return {
            "version": VERSION,
            "database": address,
            "at": time_text(at_us),
            "since": time_text(since_us),
            "ids": "plain" if self.names.show_ids else "pseudonyms",
            "found": any(table.is_found for table in tables),
            "complete": all(table.is_told for table in tables),
            "tables": [self._table(table) for table in tables],
        }

    def _table(self, table: TableAudit) -> dict[str, Any]:
        return {
            "table": table.table,
            "scope": table.scope,
            "duplicate_window_seconds": table.window_us / 1e6,
            "problem": table.problem or None,
            "not_told": list(table.gaps),
            "rows": table.rows,
            "rows_without_user": table.without_user,
            "rows_without_created_at": table.undated,
            "active": table.active and self._active(table.active),
            "history": table.history and self._history(table.history),
            "indexes": table.guards and _indexes(table.guards),
            "sql": table.remedy and _sql(table.remedy),
        }

    def _active(self, active: ActiveFindings) -> dict[str, Any]:
        worst = [
            {
                "user": self._user(each.user),
                "key": self._key(each.key),
                "rows": each.rows,
                "sessions": list(map(self._session, each.sessions)),
            }
            for each in active.worst
        ]
        return {"rows": active.rows, "duplicate_users": active.users, "surplus_rows": active.surplus, "worst": worst}

    def _history(self, history: CreateHistory) -> dict[str, Any]:
        bounds = [*INTERVAL_BUCKETS_S, None]
        return {
            "creates": history.creates,
            "first_at": time_text(history.first_us),
            "last_at": time_text(history.last_us),
            "rapid_duplicates": history.duplicates,
            "users": history.users,
            "days": [day._asdict() for day in history.days],
            "worst": [
                {
                    "user": self._user(each.user),
                    "rapid_duplicates": each.duplicates,
                    "smallest_gap_seconds": each.smallest_gap_us / 1e6,
                }
                for each in history.worst
            ],
            "smallest_gaps": [
                {
                    "user": self._user(pair.user),
                    "key": self._key(pair.key),
                    "gap_seconds": pair.gap_us / 1e6,
                    "sessions": [self._session(pair.first), self._session(pair.second)],
                }
                for pair in history.smallest
            ],
            "intervals": [
                {"at_most_seconds": bound_s, "count": count}
                for bound_s, count in zip(bounds, history.intervals, strict=True)
            ],
        }

    def _session(self, session: AuditedSession) -> dict[str, Any]:
        return {
            "session": self.names.label("s", self.names.digest(session.id)),
            "created_at": time_text(session.created_us),
        }

    def _user(self, user: str) -> str:
        return self.names.label("u", self.names.digest(user))

    def _key(self, key: str) -> str:
        return self.names.label("k", self.names.digest(key))


def time_text(at_us: int | None) -> str | None:
    """Write a time as ISO 8601, in UTC, with microseconds."""
    if at_us is None:
        return None
    return (EPOCH + at_us * MICROSECOND).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _indexes(guards: Guards) -> dict[str, Any]:
    named = {"unique": guards.unique, "invalid_unique": guards.invalid, "created_at": guards.created_at}
    return {what: name or None for what, name in named.items()}


def _sql(remedy: Remedy) -> dict[str, Any]:
    return {
        "look": remedy.look or None,
        "clean_up": remedy.clean_up or None,
        "index": remedy.guard or None,
        "notes": list(remedy.notes),
    }
