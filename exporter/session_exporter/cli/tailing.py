"""One line of `session-exporter tail`: an event or a verdict as a record, and the record as text or JSON.

The keys of a record are a promise, see docs/tail.md: all of them are always there, and None is what is not known or
does not belong to the kind.
"""

import json
from typing import Any, Final, TypeAlias

from session_exporter.cli.stories import time_text
from session_exporter.core.documents import iso
from session_exporter.core.events import KINDS, DbSession, Event, Unmet, Violated, Writer
from session_exporter.core.incidents import ID_LABELS
from session_exporter.core.plaintext import inert
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.recollection import MISSES
from session_exporter.core.tally import Verdict

Record: TypeAlias = dict[str, Any]

UNKNOWN: Final = "-"
# What the columns take when nothing is longer: the longest kind and verdict, a pseudonym, a UUID.
_EVENT_CHARS: Final = 13
_VERDICT_CHARS: Final = 22
_SCOPE_CHARS: Final = 15
_PSEUDONYM_CHARS: Final = 14
_ID_CHARS: Final = 36
_DUPLICATE: Final = "rapid_duplicate_create"


def event_record(event: Event, writer: Writer, names: Pseudonyms) -> Record:
    """What a hook recorded.

    Args:
        event: Of any kind.
        writer: The worker process that recorded it.
        names: Makes the pseudonyms of all ids.
    """
    created_at_us, duration_us = getattr(event, "created_at_us", 0), getattr(event, "duration_us", 0)
    return {
        "at": iso(event.at_us),
        "event": KINDS[type(event)],
        "scope": event.scope,
        "session": _name(names, "s", event.session),
        "user": _name(names, "u", event.user),
        "key": _name(names, "k", event.key),
        "request": _name(names, "r", event.request),
        "trace": event.trace.hex() or None,
        "worker": writer.id,
        "pid": writer.pid or None,
        "replica": writer.replica or None,
        "call_sites": list(getattr(event, "sites", ())),
        "reason": getattr(event, "reason", None),
        "expected": _name(names, "s", getattr(event, "expected", "")),
        "actual": _name(names, "s", getattr(event, "actual", "")),
        "asked": _name(names, "s", getattr(event, "asked", "")),
        "missed": MISSES[event.missed] if isinstance(event, Unmet) else None,
        "since": iso(event.since_us) if isinstance(event, Unmet) else None,
        "shared": event.shared if isinstance(event, Unmet) else None,
        "thread": _name(names, ID_LABELS["thread"], getattr(event, "thread", "")),
        "run": _name(names, ID_LABELS["run"], getattr(event, "run", "")),
        "created_at": iso(created_at_us) if created_at_us else None,
        "duration_ms": duration_us / 1000 if duration_us else None,
        "generation": _name(names, "g", getattr(event, "generation", "")),
        "violation": event.kind if isinstance(event, Violated) else None,
        "other_user": _name(names, "u", getattr(event, "other_user", "")),
        "other_request": _name(names, "r", getattr(event, "other_request", "")),
        "db_session": _db_session(event) if isinstance(event, DbSession) else None,
    }


def _db_session(event: DbSession) -> Record:
    return {
        "outcome": event.outcome,
        "state": event.state,
        "opened_at": iso(event.opened_at_us),
        "last_activity_at": iso(event.last_activity_us),
        "query_count": event.queries,
        "transaction_count": event.transactions,
        "errors": event.errors,
        "last_error": event.last_error or None,
        "total_time_ms": event.total_time_us / 1000,
    }


def verdict_record(verdict: Verdict, names: Pseudonyms) -> Record:
    """What the ledger made of an event; `names` are those of the ledger."""
    is_duplicate = verdict.verdict == _DUPLICATE
    detail = verdict.detail or None
    return {
        "at": iso(verdict.at_us),
        "verdict": verdict.verdict,
        "scope": verdict.scope,
        "session": names.label("s", verdict.session) or None,
        "user": names.label("u", verdict.user) or None,
        "cause": detail if is_duplicate else None,
        "reason": None if is_duplicate else detail,
    }


def _name(names: Pseudonyms, prefix: str, identifier: str) -> str | None:
    return names.label(prefix, names[identifier]) or None


def json_line(record: Record) -> str:
    """One JSON object on one line, in ASCII."""
    return json.dumps(record, separators=(", ", ": "))


def text_line(record: Record, *, show_ids: bool = False) -> str:
    """One line for people and for grep: time, kind, scope, session, user, then `name=value` for what is known.

    Nothing in it can pretend to be another field or another line: what is unprintable is escaped, and a value with a
    space, a quote or an equals sign in it is quoted.
    """
    id_chars = _ID_CHARS if show_ids else _PSEUDONYM_CHARS
    kind = record["event"].ljust(_EVENT_CHARS) if "event" in record else record["verdict"].ljust(_VERDICT_CHARS)
    columns = [
        time_text(record["at"]),
        kind,
        _value(record["scope"]).ljust(_SCOPE_CHARS),
        _value(record["session"]).ljust(id_chars),
        _value(record["user"]).ljust(id_chars),
    ]
    named = " ".join(f"{name}={_value(value)}" for name, value in _details(record) if value is not None)
    return "  ".join((*columns, named)).rstrip()


def _details(record: Record) -> list[tuple[str, str | None]]:
    if "verdict" in record:
        return [("cause", record["cause"]), ("reason", record["reason"])]
    sites, duration_ms = record["call_sites"], record["duration_ms"]
    lost = record["event"] == "context_lost"
    return [
        ("key", record["key"]),
        ("request", record["request"]),
        ("trace", record["trace"]),
        ("worker", f"{record['pid'] or '?'}@{record['replica'] or '?'}"),
        ("at", sites[0] if sites else None),
        ("reason", record["reason"]),
        ("missed", record["missed"]),
        ("asked", record["asked"]),
        ("expected", record["expected"] or ("" if lost else None)),
        ("actual", record["actual"] or ("" if lost else None)),
        ("since", None if record["since"] is None else time_text(record["since"])),
        ("shared", "yes" if record["shared"] else None),
        ("thread", record["thread"]),
        ("run", record["run"]),
        ("created_at", record["created_at"]),
        ("duration", None if duration_ms is None else f"{duration_ms:g}ms"),
        ("violation", record["violation"]),
        ("other_user", record["other_user"]),
        ("other_request", record["other_request"]),
        *_db_details(record["db_session"]),
    ]


def _db_details(use: Record | None) -> list[tuple[str, str | None]]:
    if use is None:
        return []
    errors = ",".join(f"{kind}:{count}" for kind, count in use["errors"].items())
    return [
        ("outcome", use["outcome"]),
        ("queries", str(use["query_count"])),
        ("transactions", str(use["transaction_count"])),
        ("errors", errors or None),
        ("last_error", use["last_error"]),
        ("total", f"{use['total_time_ms']:g}ms"),
    ]


def _value(text: str | None) -> str:
    if not text:
        return UNKNOWN
    shown = inert(text)
    if text == UNKNOWN or any(char in shown for char in ' "='):
        return '"' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return shown
