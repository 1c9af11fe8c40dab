"""What the ledger remembers of sessions and their users.

These records hold no containers that the garbage collector would have to walk (`gc=False`): a ledger may hold a million
of them, and one full collection of a million objects stops everything for 200 to 320 ms.
"""

from typing import Final

import msgspec

# Kinds of reports: the events' numbers on the wire, and the ledger's own deadlines, after all events of their time.
CREATED: Final = 1
REUSED: Final = 2
LOOKED_UP: Final = 3
OBSERVED: Final = 4
ENDED: Final = 5
ATTRIBUTED: Final = 6
CONTEXT_LOST: Final = 7
CONFLICTED: Final = 8
CREATE_FAILED: Final = 9
VIOLATED: Final = 10
UNMET: Final = 12
IDENTIFIED: Final = 13
CLAIMED: Final = 14
CHECKED: Final = 15
KEPT_UNMET: Final = 16
ADOPTION_DUE: Final = 100
DELETION_DUE: Final = 101
ROTATION_DUE: Final = 102
REPLACEMENT_DUE: Final = 103
ROW_NEW: Final = 104
ROW_USED: Final = 105
ROW_ENDED: Final = 106

LIVE: Final = 1  # counted in active_sessions
BORN: Final = 2  # its current generation has been counted as a create; follows from the marks
KNOWN: Final = 4  # seen by a judged event, or remembered: a sighting of it is a reuse
STARTED: Final = 8  # `started_us` is when its current generation began
DIRTY: Final = 16  # differs from its row in the state
LOST: Final = 32  # the loss of its current generation has been counted
WAS_LOST: Final = 64  # and that of the one before
FOUND: Final = 128  # its row was found in the database

# Whether a create is a rotation, as long as nobody knows whose it is.
NO_ROTATION: Final = 0
PERHAPS_ROTATION: Final = 1  # the session that its request expected, and found, may still be ended
ROTATION: Final = 2


class Evidence(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who did it, where: what an incident tells about one create or loss. Ids are digests, empty when not known."""

    request: bytes = b""
    trace: bytes = b""
    worker: str = ""
    replica: str = ""
    pid: int = 0
    sites: tuple[str, ...] = ()


class Anchor(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A point on a user's timeline that a create can be too close to: a create, or an adoption.

    Attributes:
        at_us: When.
        session: The session's digest; ties of time are ordered by it.
        is_create: False for what is no duplicate itself: an adoption, a rotation.
        request: Digest of the request; what `many` scopes compare.
        evidence: None once the window has passed.
        is_met: Nothing to be too close to at all: a session that was first seen when it was used.
        is_rotation: A create that is a rotation, or may be one.
    """

    at_us: int
    session: bytes
    is_create: bool = True
    request: bytes = b""
    evidence: Evidence | None = None
    is_met: bool = False
    is_rotation: bool = False


class Owner(msgspec.Struct, eq=False, gc=False):
    """One user in one scope.

    Attributes:
        id: Digest of the user.
        live: Number of live sessions.
        tracked: Number of sessions in the ledger; the owner leaves with the last of them.
        anchor_us: Time of the only anchor, a create, when `anchors` is None; 0 for none.
        anchor_session: Its session; without an anchor, one that was first seen when it was used.
        anchors: All anchors in order of time, when there is more to remember than one create without evidence.
    """

    id: bytes
    live: int = 0
    tracked: int = 0
    anchor_us: int = 0
    anchor_session: bytes = b""
    anchors: tuple[Anchor, ...] | None = None

    @property
    def user(self) -> bytes:
        """Digest of the user."""
        return self.id


class KeyedOwner(Owner, eq=False, gc=False):
    """One device, app or thread of one user in one scope; `id` is the digest of user and key.

    Attributes:
        of_user: Digest of the user.
    """

    of_user: bytes = b""

    @property
    def user(self) -> bytes:
        """Digest of the user."""
        return self.of_user


def owner_of(identifier: bytes, user: bytes) -> Owner:
    """A new owner for the digest of user and key, and that of the user: the same when there is no key."""
    return Owner(identifier) if identifier == user else KeyedOwner(identifier, of_user=user)


class Past(msgspec.Struct, eq=False, gc=False):
    """What few sessions have: they ended, or were reported more than once, or have no user yet.

    Attributes:
        ended_us: Last end; 0 for none.
        marks: Creates, sightings and ends in order of time; None for a session that was created once.
        evidence: Of a create, or an adoption, whose user is not known yet.
        version: Digest of what the scope's `restart_on` columns held; empty when they are not known.
        unseen_us: The last two ends that nobody told but the database.
        others: Digests of users it was used by, besides its own.
        rotates: Of a create whose user is not known yet: whether it is a rotation.
    """

    ended_us: int = 0
    marks: tuple[tuple[int, int, bool], ...] | None = None
    evidence: Evidence | None = None
    version: bytes = b""
    unseen_us: tuple[int, ...] = ()
    others: tuple[bytes, ...] = ()
    rotates: int = NO_ROTATION


class Session(msgspec.Struct, eq=False, gc=False):
    """One session id in one scope.

    Attributes:
        id: Its digest.
        owner: Its user; None while not known.
        started_us: When its current generation began, when STARTED says so.
        last_us: Last activity; a session that has ended may be used all the same.
        flags: LIVE, BORN, KNOWN, STARTED, DIRTY, LOST, WAS_LOST, FOUND.
        past: None for the plain session: created once, at `started_us`, or only met.
    """

    id: bytes
    owner: Owner | None = None
    started_us: int = 0
    last_us: int = 0
    flags: int = 0
    past: Past | None = None

    @property
    def user(self) -> bytes:
        """Digest of the user; empty while not known."""
        return self.owner.user if self.owner is not None else b""

    @property
    def ended_us(self) -> int:
        """Last end; 0 for none."""
        return self.past.ended_us if self.past is not None else 0

    @ended_us.setter
    def ended_us(self, ended_us: int) -> None:
        if ended_us or self.past is not None:
            self.with_past().ended_us = ended_us

    @property
    def marks(self) -> tuple[tuple[int, int, bool], ...] | None:
        """Creates, sightings and ends in order of time; None for the plain session."""
        return self.past.marks if self.past is not None else None

    @marks.setter
    def marks(self, marks: tuple[tuple[int, int, bool], ...] | None) -> None:
        if marks is not None or self.past is not None:
            self.with_past().marks = marks

    def with_past(self) -> Past:
        """Its past, which from now on it has."""
        if self.past is None:
            self.past = Past()
        return self.past


class Report(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event that waits for the watermark, in the form that may rest in the state: ids are digests.

    Attributes:
        at_us: Event time.
        session: Digest.
        kind: The event's wire number, or a deadline of the ledger's own.
        scope: Number of the scope.
        owner: Digest of user and key; empty when not known.
        user: Digest of the user.
        evidence: Who and where.
        created_at_us: Of an observation: what the result of a call said; 0 for nothing. Of an unmet expectation: since
            when it was unmet. Of a deadline, and of what the database said: the time of what it is about.
        reason: Of an end.
        first: Nothing before it in its request has found or made this session; without a request always. Of an unmet
            expectation: the request has to do with no other scope.
        origin: Of an observation, as the event has it; of an unmet expectation, how it was missed; of a claim, the kind
            of what it tells of.
        version: Digest of what the scope's `restart_on` columns hold; empty when they are not known.
        other: Digest of another session: the one that the request of a create had expected and found; the one that a
            request used instead of what it expected; the one that may have been replaced.
    """

    at_us: int
    session: bytes
    kind: int
    scope: int
    owner: bytes = b""
    user: bytes = b""
    evidence: Evidence = Evidence()
    created_at_us: int = 0
    reason: str = ""
    first: bool = True
    origin: int = 0
    version: bytes = b""
    other: bytes = b""

    def order(self) -> tuple[int, bool, bytes, int, str, bytes]:
        """The order of judgement: event time, session id, kind; the rest only makes ties the same everywhere.

        A deadline comes after all events of its time. A deletion comes first: one transaction that deletes a row and
        inserts it again has one time. A claim comes where the event that it tells of comes elsewhere. What was
        read of a database together comes in the order in which it happened.
        """
        kind = 0 if self.reason == "deleted" else self.origin if self.kind == CLAIMED else self.kind
        is_deadline = kind >= ADOPTION_DUE
        session = self.created_at_us.to_bytes(8) + self.session if kind >= ROW_NEW else self.session
        return (self.at_us, is_deadline, session, kind, self.evidence.worker, self.evidence.request)
