"""Events as they are remembered for a story: digests in place of ids, and texts of closed sets only."""

from collections.abc import Callable, Collection
from typing import Any, Final, TypeAlias

import msgspec

from session_exporter.core import events as wire
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.records import Evidence
from session_exporter.core.scopes import DB_ERRORS, END_REASONS, FAILURES, OTHER_SCOPE, OUTCOMES, VIOLATIONS

ORIGINS: Final = {wire.RESULT: "result", wire.UPSERT: "upsert", wire.ROW: "row"}
MISSES: Final = {
    wire.OTHER_USED: "other_used",
    wire.MISSED_BY_USER: "missed_by_user",
    wire.MISSED_BY_ID: "missed_by_id",
}
TROUBLES: Final = frozenset(wire.KINDS[kind] for kind in (wire.Conflicted, wire.CreateFailed, wire.DbSession))

Note: TypeAlias = dict[str, str | int | float | bool]


class Remembered(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event in the form that may rest in the state: ids are digests, empty when not known.

    Attributes:
        at_us: Event time.
        kind: A value of `events.KINDS`.
        scope: The scope's name; `other` for an undeclared one, whose name is the application's own affair.
        session: What the event names as its session.
        user: The user.
        key: The key, without the user.
        evidence: Who and where.
        note: What else matters of this kind; ids as pseudonyms.
    """

    at_us: int
    kind: str
    scope: str = ""
    session: bytes = b""
    user: bytes = b""
    key: bytes = b""
    evidence: Evidence = Evidence()
    note: Note = {}


class Recollection:
    """Turns events into what is remembered of them, and that into what is told.

    Args:
        names: Digests of ids.
        scopes: The names of the declared scopes.
    """

    def __init__(self, names: Pseudonyms, scopes: Collection[str] = ()) -> None:
        self._names = names
        self._scopes = frozenset((*scopes, OTHER_SCOPE))
        self._notes: dict[type[Any], Callable[[Any], Note]] = {
            wire.Created: self._created,
            wire.LookedUp: self._looked_up,
            wire.Observed: self._observed,
            wire.Ended: self._ended,
            wire.CreateFailed: self._create_failed,
            wire.ContextLost: self._context_lost,
            wire.Violated: self._violated,
            wire.Unmet: self._unmet,
            wire.DbSession: self._db_session,
        }

    def session_texts(self, events: Collection[wire.Event]) -> list[str]:
        """What the digest of each event's session is made of; `""` for an event without one."""
        declared = self._scopes
        return [
            event.session if event.scope in declared or not event.session else f"{event.scope}/{event.session}"
            for event in events
        ]

    def request_label(self, event: "wire.Event | Remembered", writer: wire.Writer) -> str:
        """What the request of an event is called; `""` when it is not known."""
        names = self._names
        if isinstance(event, Remembered):
            return names.label("r", event.evidence.request)
        return names.label("r", names.digest(_request_text(event, writer)))

    def of(self, event: wire.Event, writer: wire.Writer) -> Remembered:
        """What is remembered of an event."""
        names = self._names
        declared = event.scope in self._scopes
        request = names[_request_text(event, writer)]
        sites = getattr(event, "sites", ())
        return Remembered(
            event.at_us,
            wire.KINDS[type(event)],
            event.scope if declared else OTHER_SCOPE,
            self._session(event.session, event.scope),
            names[event.user],
            names[event.key],
            Evidence(request, event.trace, writer.id, writer.replica, writer.pid, sites),
            {name: value for name, value in self._note(event).items() if value},
        )

    def told(self, event: Remembered) -> dict[str, Any]:
        """An entry of a timeline: plain JSON values, ids as pseudonyms."""
        names, evidence = self._names, event.evidence
        return {
            "at_us": event.at_us,
            "kind": event.kind,
            "scope": event.scope,
            "session": names.label("s", event.session),
            "user": names.label("u", event.user),
            "key": names.label("k", event.key),
            "request": names.label("r", evidence.request),
            "trace": evidence.trace.hex(),
            "worker": evidence.worker,
            "pid": evidence.pid,
            "replica": evidence.replica,
            "call_sites": list(evidence.sites),
            "note": event.note,
        }

    def told_error(self, event: Remembered, at_us: int) -> dict[str, Any]:
        """A database error that came before what happened at `at_us`."""
        label = event.note.get("last_error") or event.note.get("errors") or event.note.get("reason") or "unique index"
        return {
            "at_us": event.at_us,
            "kind": event.kind,
            "label": label,
            "gap_ms": (at_us - event.at_us) / 1000,
            "request": self._names.label("r", event.evidence.request),
            "call_sites": list(event.evidence.sites),
        }

    def _session(self, session: str, scope: str) -> bytes:
        if not session:
            return b""
        return self._names[session if scope in self._scopes else f"{scope}/{session}"]

    def _label(self, session: str, scope: str) -> str:
        return self._names.label("s", self._session(session, scope))

    def _note(self, event: wire.Event) -> Note:
        note = self._notes.get(type(event))
        return note(event) if note is not None else {}

    def _created(self, event: wire.Created) -> Note:
        return {"expected": self._label(event.expected, event.scope)}

    def _looked_up(self, event: wire.LookedUp) -> Note:
        asked = self._label(event.asked, event.scope)
        return {"asked": asked, "again": event.again, "duration_ms": event.duration_us / 1000}

    def _observed(self, event: wire.Observed) -> Note:
        expected = self._label(event.expected, event.scope)
        origin = ORIGINS.get(event.origin, "")
        return {"origin": origin, "expected": expected, "duration_ms": event.duration_us / 1000}

    def _ended(self, event: wire.Ended) -> Note:
        return {"reason": _of(END_REASONS, event.reason)}

    def _create_failed(self, event: wire.CreateFailed) -> Note:
        return {"reason": _of(FAILURES, event.reason)}

    def _context_lost(self, event: wire.ContextLost) -> Note:
        names = self._names
        return {
            "expected": names.label("s", names[event.expected]),
            "actual": names.label("s", names[event.actual]),
        }

    def _violated(self, event: wire.Violated) -> Note:
        names = self._names
        return {
            "violation": _of(VIOLATIONS, event.kind),
            "other_user": names.label("u", names[event.other_user]),
            "other_request": names.label("r", names[event.other_request]),
        }

    def _unmet(self, event: wire.Unmet) -> Note:
        actual = self._label(event.actual, event.scope)
        return {"missed": MISSES.get(event.missed, ""), "actual": actual, "shared": event.shared}

    def _db_session(self, event: wire.DbSession) -> Note:
        errors = ", ".join(sorted({_of(DB_ERRORS, kind) for kind in event.errors}))
        return {"outcome": _of(OUTCOMES, event.outcome), "errors": errors, "last_error": event.last_error}


# Only these can be trouble: a quick look before the closer one.
TROUBLESOME: Final = frozenset((Remembered, wire.Conflicted, wire.CreateFailed, wire.DbSession))


def is_trouble(event: wire.Event | Remembered) -> bool:
    """Whether a create failed, or a use of a database session saw errors."""
    match event:
        case Remembered():
            return event.kind in TROUBLES
        case wire.DbSession():
            return bool(event.errors)
    return isinstance(event, wire.Conflicted | wire.CreateFailed)


def trace_of(event: wire.Event | Remembered) -> bytes:
    """The trace of an event; empty for none."""
    return event.evidence.trace if isinstance(event, Remembered) else event.trace


def is_noise(event: wire.Event | Remembered) -> bool:
    """Whether an event tells nobody anything: a use of a database session without errors, the ids of a request."""
    return isinstance(event, wire.Identified) or (isinstance(event, wire.DbSession) and not event.errors)


def _request_text(event: wire.Event, writer: wire.Writer) -> str:
    """What the digest of an event's request is made of; a trace stands for one within a worker."""
    return event.request or (f"{event.trace.hex()}@{writer.id}" if event.trace else "")


def _of(words: Collection[str], word: str) -> str:
    return word if word in words else "other"
