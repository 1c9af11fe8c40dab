"""The evidence of one duplicate, loss, violation, invalid id or duplicate user, as it is kept and shown."""

from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from session_exporter.core.duplicates import Duplicate, window_before
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.recollection import MISSES
from session_exporter.core.records import UNMET, Anchor, Evidence, Owner, Report

INCIDENT_KINDS: Final = (
    "rapid_duplicate_create",
    "context_loss",
    "isolation_violation",
    "invalid_id",
    "duplicate_active_user",
)

# What pseudonyms begin with, by kind of id.
ID_LABELS: Final = {"session": "s", "user": "u", "thread": "t", "run": "run", "request": "r"}
# A burst of more creates than this is told by its last ones.
CREATES_SHOWN_MAX: Final = 16


class Incident(msgspec.Struct, frozen=True):
    """One incident.

    Attributes:
        id: Short, unique with overwhelming probability, the same whenever the same events are judged again.
        kind: One of `INCIDENT_KINDS`.
        at_us: Event time of the create, loss, violation or id; of a duplicate user, when the database was asked.
        scope: The scope's name.
        detail: What `/api/v1/incidents` adds: plain JSON values, ids as pseudonyms.
        users: Digests of the users whose events tell its story.
        sessions: Digests of the sessions, likewise.
    """

    id: str
    kind: str
    at_us: int
    scope: str
    detail: dict[str, Any]
    users: tuple[bytes, ...] = ()
    sessions: tuple[bytes, ...] = ()


def duplicate_incident(duplicate: Duplicate, owner: Owner, scope: str, window_us: int, names: Pseudonyms) -> Incident:
    """Tell a rapid duplicate create: all creates that chain up to it, the duplicate last."""
    create = duplicate.create
    chain = window_before(owner, create, window_us)[-CREATES_SHOWN_MAX:]
    if duplicate.previous not in chain:  # an adoption can be what a create came too close to
        chain.insert(-1, duplicate.previous)
    detail = {
        "cause": duplicate.cause,
        "user": names.label("u", owner.user),
        "gap_ms": (create.at_us - duplicate.previous.at_us) / 1000,
        "sessions": [names.label("s", each.session) for each in chain],
        "creates": [_told(each, names) for each in chain],
    }
    return Incident(
        _identity("d", scope, create.at_us, create.session, owner.id),
        "rapid_duplicate_create",
        create.at_us,
        scope,
        detail,
        (owner.user,),
        tuple(each.session for each in chain),
    )


def loss_incident(
    report: Report, scope: str, reason: str, contexts: tuple[bytes, bytes], names: Pseudonyms
) -> Incident:
    """Tell a context loss; `contexts` are the expected and the actual session."""
    expected, actual = contexts
    detail = {
        "reason": reason,
        "user": names.label("u", report.user),
        "expected": names.label("s", expected),
        "actual": names.label("s", actual),
        **_place(report.evidence, names),
    }
    if report.kind == UNMET:
        detail |= {"missed": MISSES.get(report.origin, ""), "shared": not report.first}
    identity = _identity("l", scope, report.at_us, expected + actual, report.user)
    return Incident(identity, "context_loss", report.at_us, scope, detail, (report.user,), (expected, actual))


def violation_incident(
    report: Report, scope: str, kind: str, others: tuple[bytes, bytes], names: Pseudonyms
) -> Incident:
    """Tell an isolation violation; `others` are the user and the request on the other side of the border."""
    other_user, other_request = others
    detail = {
        "violation": kind,
        "user": names.label("u", report.user),
        "other_user": names.label("u", other_user),
        "session": names.label("s", report.session),
        "other_request": names.label("r", other_request),
        **_place(report.evidence, names),
    }
    identity = _identity("v", scope, report.at_us, report.session, kind.encode() + report.evidence.request)
    users = (report.user, other_user)
    return Incident(identity, "isolation_violation", report.at_us, scope, detail, users, (report.session,))


class OddId(NamedTuple):
    """An id that is not of the format that its scope declares.

    Attributes:
        kind: One of `ID_KINDS`.
        form: `legacy` or `invalid`.
        shape: As `shape_of` describes it, which does not tell the id.
        expected: The declared pattern.
        digest: Of the id.
    """

    kind: str
    form: str
    shape: str
    expected: str
    digest: bytes


def invalid_id_incident(report: Report, scope: str, odd: OddId, names: Pseudonyms) -> Incident:
    """Tell an invalid id; `report` is of the event that brought it."""
    detail = {
        "id_kind": odd.kind,
        "shape": odd.shape,
        "declared": odd.expected,
        "sample": names.label(ID_LABELS[odd.kind], odd.digest),
        "user": names.label("u", report.user),
        "session": names.label("s", report.session),
        **_place(report.evidence, names),
    }
    identity = _identity("i", scope, report.at_us, odd.digest, odd.kind.encode())
    users, sessions = ((each,) if each else () for each in (report.user, report.session))
    return Incident(identity, "invalid_id", report.at_us, scope, detail, users, sessions)


class DuplicateUser(NamedTuple):
    """A user who has more than one active session in the database.

    Attributes:
        user: Digest of the user.
        key: Digest of the device, app or thread; empty for none.
        owner: Digest of both.
        sessions: Digests of these sessions, the newest first; may be some of them.
        created_us: When they were created, microseconds; 0 where that is not known.
        rows: How many there are.
    """

    user: bytes
    key: bytes
    owner: bytes
    sessions: tuple[bytes, ...]
    created_us: tuple[int, ...]
    rows: int


def duplicate_user_incident(found: DuplicateUser, scope: str, at_us: int, names: Pseudonyms) -> Incident:
    """Tell of a user with more than one active session; the creates as the database knows them, the newest last."""
    pairs = list(zip(found.created_us, found.sessions, strict=True))[:CREATES_SHOWN_MAX][::-1]
    known_us = [created_us for created_us, _ in pairs if created_us]
    detail = {
        "user": names.label("u", found.user),
        "key": names.label("k", found.key),
        "active_rows": found.rows,
        "gap_ms": (known_us[-1] - known_us[-2]) / 1000 if len(known_us) > 1 else None,
        "sessions": [names.label("s", session) for _, session in pairs],
        "creates": [
            {**({"at_us": created_us} if created_us else {}), "session": names.label("s", session)}
            for created_us, session in pairs
        ],
    }
    identity = _identity("u", scope, at_us, b"".join(found.sessions), found.owner)
    return Incident(identity, "duplicate_active_user", at_us, scope, detail, (found.user,), found.sessions)


def _told(anchor: Anchor, names: Pseudonyms) -> dict[str, Any]:
    return {
        "at_us": anchor.at_us,
        "session": names.label("s", anchor.session),
        "adopted": not anchor.is_create,
        **_place(anchor.evidence or Evidence(), names),
    }


def _place(evidence: Evidence, names: Pseudonyms) -> dict[str, Any]:
    return {
        "request": names.label("r", evidence.request),
        "trace": evidence.trace.hex(),
        "worker": evidence.worker,
        "pid": evidence.pid,
        "replica": evidence.replica,
        "call_sites": list(evidence.sites),
    }


def _identity(kind: str, scope: str, at_us: int, about: bytes, whose: bytes) -> str:
    """Scopes may share ids, and one commit of a database may bring the same id to several, at one time."""
    text = b"%b/%b/%d/%b/%b" % (kind.encode(), scope.encode(), at_us, about, whose)
    return f"{kind}-{blake2b(text, digest_size=5).hexdigest()}"
