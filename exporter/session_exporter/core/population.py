"""The sessions and users of one scope that the ledger has in memory, and what of them must be written to the state."""

from typing import Final, NamedTuple, Protocol

from session_exporter.core.expiry import IdleQueue
from session_exporter.core.generations import CREATE, END, EXPIRED, SIGHT, Mark
from session_exporter.core.records import BORN, DIRTY, FOUND, KNOWN, LIVE, KeyedOwner, Owner, Session, owner_of
from session_exporter.core.scopes import ScopeRules
from session_exporter.core.totals import ScopeTotals

_MARK_BYTES: Final = 7


class Known(NamedTuple):
    """What is remembered of a session that has left the ledger.

    Attributes:
        last_us: Its last activity.
        ended: It had ended or expired; False when it was evicted alive.
        born: Its last generation had been counted as a create.
        user: Whose it was, as `mark_of` says, where that is remembered; else 0.
        found: Its row was found in the database.
    """

    last_us: int
    ended: bool
    born: bool
    user: int = 0
    found: bool = False


def mark_of(user: bytes) -> int:
    """What tells users apart in little space: 56 bits of the digest; 0 for nobody."""
    return int.from_bytes(user[:_MARK_BYTES])


class KnownIds(Protocol):
    """The long memory for ids; the state keeps it."""

    def find(self, scope: int, session: bytes) -> Known | None:
        """What is remembered of a session; None for one never seen, or seen too long ago."""


class Population:
    """Sessions and owners of one scope.

    Args:
        number: The scope's number in the state.
        rules: How the scope is judged.
        totals: Where live sessions and users are counted.
        known: The long memory for ids.

    Attributes:
        forgets_used: Of what leaves, only that is remembered which was created or adopted.
        remembers_users: Of what leaves, it is remembered whose it was.
        deleting: When sessions were deleted of which it is not certain yet that they are not being rewritten.
    """

    forgets_used = False
    remembers_users = False

    def __init__(self, number: int, rules: ScopeRules, totals: ScopeTotals, known: KnownIds) -> None:
        self.number = number
        self.rules = rules
        self.totals = totals
        self.sessions: dict[bytes, Session] = {}
        self.owners: dict[bytes, Owner] = {}
        self.idle = IdleQueue(rules.idle_timeout_us)
        self.changed_sessions: list[Session] = []
        self.changed_owners: dict[bytes, Owner] = {}
        self.left_sessions: dict[bytes, Known | None] = {}
        self.left_owners: set[bytes] = set()
        self.deleting: dict[bytes, int] = {}
        self._known = known
        # Asked for in vain since the last commit, before which nothing new gets into the long memory.
        self._unknown = b""
        self._live_keyed: dict[bytes, int] = {}

    def meet(self, identifier: bytes, at_us: int, *, revive: bool = True) -> Session:
        """The session of this id, from memory, from the long memory, or new.

        Args:
            identifier: Its digest.
            at_us: Time of the event that needs it.
            revive: Whether that event is activity; an end is none.
        """
        session = self.sessions.get(identifier)
        if session is None:
            session = self.sessions[identifier] = Session(identifier, last_us=at_us)
            session.ended_us = 0 if revive else at_us
            known = self.recall(identifier)
            self.left_sessions.pop(identifier, None)
            if known is not None:
                _remind(session, known, revive=revive)
            self.idle.add(session)
            self.change(session)
        return session

    def remembers(self, identifier: bytes) -> bool:
        """Whether a session that is not in the ledger has been there."""
        return self.recall(identifier) is not None

    def recall(self, identifier: bytes) -> Known | None:
        """What is remembered of a session that is not in the ledger; None for nothing."""
        if identifier in self.left_sessions:
            return self.left_sessions[identifier]
        if identifier == self._unknown:
            return None
        known = self._known.find(self.number, identifier)
        if known is None:
            self._unknown = identifier
        return known

    def forget_changes(self) -> None:
        """Note that all changes so far are stored; what left the ledger meanwhile is in the long memory now."""
        self.changed_sessions, self.changed_owners = [], {}
        self.left_sessions, self.left_owners = {}, set()
        self._unknown = b""

    def owner(self, identifier: bytes, user: bytes) -> Owner:
        """The owner of this id, known or new."""
        owner = self.owners.get(identifier)
        if owner is None:
            owner = self.owners[identifier] = owner_of(identifier, user)
            self.left_owners.discard(identifier)
            self.change_owner(owner)
        return owner

    def give(self, session: Session, owner: Owner) -> None:
        """Attribute a session that has no user yet."""
        session.owner = owner
        owner.tracked += 1
        if session.flags & LIVE:
            self._count_user(owner, 1)
        self.change(session)

    def touch(self, session: Session, at_us: int) -> None:
        """Note activity at `at_us`; after an idle time that was too long it revives the session."""
        if session.flags & LIVE and at_us - session.last_us > self.idle.timeout_us:
            marks = marks_of(session)
            marks += [(session.last_us + self.idle.timeout_us, EXPIRED, True), (at_us, SIGHT, False)]
            set_marks(session, marks)
        session.last_us = max(at_us, session.last_us)
        self.refresh(session)

    def is_over(self, session: Session) -> bool:
        """Whether a session has ended and has not been created again, whoever uses it all the same."""
        return is_closed(session) or session.id in self.deleting

    def refresh(self, session: Session) -> None:
        """Bring the count of live sessions and users up to date with what is known of a session."""
        live = not self.is_over(session)
        if live != bool(session.flags & LIVE):
            session.flags ^= LIVE
            step = 1 if live else -1
            self.totals.active_sessions += step
            if session.owner is not None:
                self._count_user(session.owner, step)
        self.change(session)

    def leave(self, session: Session, *, ended: bool) -> None:
        """Let a session leave the ledger for the long memory; it must be out of the idle queue already."""
        whose = mark_of(session.user) if self.remembers_users else 0
        known = Known(session.last_us, ended, bool(session.flags & BORN), whose, bool(session.flags & FOUND))
        self.left_sessions[session.id] = None if self.forgets_used and not _was_made(session) else known
        del self.sessions[session.id]
        owner = session.owner
        if session.flags & LIVE:
            session.flags ^= LIVE
            self.totals.active_sessions -= 1
            if owner is not None:
                self._count_user(owner, -1)
        if owner is not None:
            owner.tracked -= 1
            if not owner.tracked:
                del self.owners[owner.id]
                self.left_owners.add(owner.id)
        session.owner = None

    def give_up(self, identifier: bytes) -> None:
        """Let a session, which has no user, go to where it is kept from now on; nothing is remembered of it."""
        session = self.sessions.pop(identifier, None)
        self.left_sessions[identifier] = None
        self.deleting.pop(identifier, None)
        if session is not None and session.flags & LIVE:
            self.totals.active_sessions -= 1

    def take_over(self, session: Session) -> None:
        """Go on with a session that was given up elsewhere."""
        session.flags &= ~DIRTY
        self.left_sessions.pop(session.id, None)
        self.restore(session)
        self.change(session)

    def change(self, session: Session) -> None:
        """Note that a session differs from its row in the state."""
        if not session.flags & DIRTY:
            session.flags |= DIRTY
            self.changed_sessions.append(session)

    def change_owner(self, owner: Owner) -> None:
        """Note that an owner differs from its row in the state."""
        self.changed_owners[owner.id] = owner

    def restore(self, session: Session) -> None:
        """Take back a session that the state kept, with its owner set."""
        self.sessions[session.id] = session
        self.idle.add(session)
        if session.owner is not None:
            session.owner.tracked += 1
        if session.flags & LIVE:
            self.totals.active_sessions += 1
            if session.owner is not None:
                self._count_user(session.owner, 1)

    def _count_user(self, owner: Owner, step: int) -> None:
        """Count a user once, however many keys (devices, apps, threads) have live sessions."""
        owner.live += step
        if owner.live != (1 if step > 0 else 0):
            return
        others = self._live_keyed.get(owner.user, 0)
        if isinstance(owner, KeyedOwner):
            self._live_keyed[owner.user] = others + step
            if not others + step:
                del self._live_keyed[owner.user]
            others = others if step > 0 else others + step
            unkeyed = self.owners.get(owner.user)
            others += int(unkeyed is not None and unkeyed.live > 0)
        if not others:
            self.totals.active_users += step


def marks_of(session: Session) -> list[Mark]:
    """The marks of a session, the unwritten one of a plain session included."""
    if session.marks is not None:
        return list(session.marks)
    return [(session.started_us, CREATE, True)] if session.flags & BORN else []


def is_closed(session: Session) -> bool:
    """Whether a session's newest generation has ended; a deletion counts only once it is certain."""
    return bool(session.marks and session.marks[-1][1] >= END)


def set_marks(session: Session, marks: list[Mark]) -> None:
    """Write the marks back; whether the current generation has been born follows from them."""
    born = False
    for _, kind, counted in reversed(marks):
        if kind >= END:
            break
        born = born or (kind == CREATE and counted)
    session.flags = session.flags | BORN if born else session.flags & ~BORN
    if born and len(marks) == 1:
        session.started_us = marks[0][0]
        session.marks = None
    else:
        session.marks = tuple(marks)


def _was_made(session: Session) -> bool:
    """Whether a session was created or adopted, now or in a generation before."""
    return any(kind < END or kind == EXPIRED for _, kind, _ in marks_of(session))


def _remind(session: Session, known: Known, *, revive: bool) -> None:
    """Give a returning session what is remembered of it; it came back by an event at `session.last_us`."""
    session.flags |= KNOWN | (FOUND if known.found else 0)
    if known.ended and not revive:
        session.marks = ((known.last_us, EXPIRED, True),)
        session.last_us = session.ended_us = known.last_us
    elif known.ended:
        session.marks = ((known.last_us, EXPIRED, True), (max(session.last_us, known.last_us), SIGHT, False))
        session.ended_us = min(known.last_us, session.last_us - 1)
    elif known.born:
        session.started_us = known.last_us
        session.flags |= BORN
