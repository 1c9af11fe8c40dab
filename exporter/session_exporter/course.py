"""What one request found, missed and used, and whether it ever got the session that it expected.

Per scope only what a verdict needs is kept: the first miss of the expected session, the first use of another one, and
which one was used last. Which session is expected may become known late; until then ids are remembered, within bounds.

In doubt nothing is told: what was found once was found, whatever is missed before or after, and in whichever scope.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from session_exporter.callsites import call_sites
from session_exporter.core.events import MISSED_BY_ID, MISSED_BY_USER, OTHER_USED
from session_exporter.shortfalls import Occasion, Shortfall, Teller

# What a request does with a session.
MENTIONED: Final = 0  # it tells of the scope, and of no session that it has
FOUND: Final = 1  # it was there, and is worked with
TOUCHED: Final = 2  # it was there; the request may have to do with another one all the same
MADE: Final = 3  # it was not there, and was made
WROTE: Final = 4  # it was made or changed
PROPOSED: Final = 5  # it is being made, and may still be rolled back
MISSED: Final = 6  # it was asked for (`""`: that of the user), and was not there
SWEPT: Final = 7  # it may be one of those that were ended, of which only the number is known

_BY_USER, _BY_ID = 1, 2
_USES: Final = frozenset((FOUND, MADE, WROTE))

# Scopes of one request; what is expected of a further one counts as got when it is met there.
SCOPES_MAX: Final = 64
# Sessions whose use is no news.
MET_MAX: Final = 16
# While nobody knows which session is expected: ids that were there, and ids that were missed, per scope.
SEEN_MAX: Final = 64
MISSES_MAX: Final = 16
# Requests inside of one, whose verdicts wait for its own.
HELD_MAX: Final = 64


_Where: TypeAlias = tuple[int, str, bytes, tuple[str, ...] | None]


class ScopeCourse:
    """What happened in one scope.

    Attributes:
        teller: What told of it first.
        touched: Something happened.
        missed: Whether a request inside of it missed the expected session, and how.
        found: The expected session was there.
        remade: The expected session was missed and made anew; whoever finds it then has another one of its id.
        misses: First misses: by user (`""`), and by id, as far as it is the expected one's or may still be.
        other: Another session than the expected one that was used, the last of those that came to be.
        first_other: When one was used first.
    """

    first_other: Occasion | None = None
    other = ""
    touched = found = remade = False
    missed = 0

    def __init__(self, teller: Teller) -> None:
        self.teller = teller
        self.misses: dict[str, Occasion] = {}

    def keep(self, expected: str | None) -> None:
        """Forget what has nothing to do with the session that is expected; None: all that was missed, or used."""
        if expected is None:
            self.misses, self.first_other, self.other = {}, None, ""
        else:
            for asked in list(self.misses):
                if asked not in {"", expected}:
                    self.misses.pop(asked, None)


class Course:
    """The course of one request.

    Threads may note at once, without a lock that a signal handler could find held: each step is atomic, what says that
    the session was got is never taken back, and what two lose in a race is one of two first moments.

    Args:
        expected: The session that the request expects; `""` while nobody knows.
        inherited: It is expected because a request around this one expects it.

    Attributes:
        expected: As given, or what became known first.
        entered: The scopes that the request itself has had to do with.
        met: By session, the scope of those that were used since anything else happened: no news when noted again.
        settled: There is nothing to tell: the expected session was got, or it is not certain that it was not.
        over: The verdict was given; nothing that comes now can change it.
        held: What requests inside of this one have lost, unless this one gets it.
    """

    # A request that has nothing to do with sessions is not to pay for more than it needs.
    settled = over = False
    _blurred = False
    _seen: Mapping[tuple[str, str], None] = MappingProxyType({})
    held: "Sequence[tuple[Any, list[Shortfall]]]" = ()

    def __init__(self, expected: str = "", *, inherited: bool = False) -> None:
        self.expected = expected
        self._inherited = inherited
        self.entered: dict[str, object] = {}
        self.met: dict[str, str] = {}
        self._parts: dict[str, ScopeCourse] = {}

    @property
    def is_blank(self) -> bool:
        """Whether nothing has happened so far."""
        return not self.entered and not self.held

    def hold(self, verdicts: list[tuple[Any, list[Shortfall]]]) -> None:
        """Keep the verdicts on requests inside of this one, as far as there is room."""
        held: list[tuple[Any, list[Shortfall]]] = self.__dict__.setdefault("held", [])
        held += verdicts[: max(0, HELD_MAX - len(held))]

    def enter(self, scope: str, teller: Teller) -> bool:
        """Take note of a scope; True the first time."""
        if self._part(scope, teller) is None:
            return False
        mark = object()
        return self.entered.setdefault(scope, mark) is mark

    def note(  # noqa: PLR0917 - by position is faster
        self,
        how: int,
        scope: str,
        session: str,
        at_us: int,
        user: str,
        trace: bytes,
        sites: tuple[str, ...] | None,
        *,
        lasting: bool,
    ) -> None:
        """Take note of what the request does with a session of a scope that it has entered.

        Args:
            how: One of the words above.
            scope: The scope.
            session: Its id, `""` for the one of the user that is missed.
            at_us: Event time.
            user: Whose.
            trace: The OpenTelemetry trace id.
            sites: Where; None to find out when it matters.
            lasting: Whether it counts although nobody knows yet which session the request has expected all along.
        """
        if how == FOUND and len(self.met) < MET_MAX:
            self.met[session] = scope
        else:
            self.met.clear()
        if self.over or how == MENTIONED:
            return
        part = self._parts.get(scope)
        expected = self.expected  # which another thread may find out meanwhile
        if part is None:  # one scope too many
            if session == expected and how != MISSED:
                self.settled = True
            return
        part.touched = True
        if how == MISSED:
            self._miss(part, session, (at_us, user, trace, sites), lasting=lasting)
        elif session == expected:
            self._meet(part, how)
        elif expected:
            self._use(part, how, session, (at_us, user, trace, sites))
        else:
            if lasting:
                self._use(part, how, session, (at_us, user, trace, sites))
            self._remember(scope, session)
            if session == self.expected:
                self._meet(part, how)

    def hear(self, how: int, scope: str, session: str, teller: Teller) -> None:
        """Take note of what a request inside of this one does with a session."""
        if self.over or how == MENTIONED:
            return
        if not self.expected and how != MISSED:
            self._remember(scope, session)
        expected = self.expected
        if expected and (session == expected or (how == MISSED and not session)):
            part = self._part(scope, teller)
            if part is None:
                if how != MISSED:
                    self.settled = True
            elif how == MISSED:
                part.missed = max(part.missed, _BY_ID if session else _BY_USER)
            else:
                self._meet(part, how)

    def expect(self, session: str, *, lasting: bool) -> None:
        """Take note of the session that the request expects, unless that is known.

        Args:
            session: Its id.
            lasting: Whether the request has expected it from its beginning on. Otherwise what was missed and used
                before, was before.
        """
        if self.expected and not (self._inherited and self.is_blank):
            return
        if self.expected:
            self._forget_outer()
        self.expected, self._inherited = session, False
        self.met.clear()
        # Whoever comes later than this compares with what is expected now.
        seen = set(self._seen)
        for scope, part in list(self._parts.items()):
            if (scope, session) in seen:
                part.found = True
            part.keep(session if lasting else None)
        if self._blurred or any(session == each for _, each in seen):
            self.settled = True

    def _forget_outer(self) -> None:
        """Forget what is known of the session that was expected because a request around this one expects it."""
        self.settled = False
        for part in list(self._parts.values()):
            part.found = False

    def tell(self, expected: str) -> None:
        """Take note that the application has reported by itself that this session was lost."""
        if expected and expected == self.expected:
            self.settled = True

    def is_found(self, scope: str) -> bool:
        """Whether the expected session was there in a scope."""
        part = self._parts.get(scope)
        return part is not None and part.found

    def shortfalls(self) -> list[Shortfall]:
        """The verdict: what to tell of each scope that the request had to do with; nothing when it got its session."""
        parts = [(scope, part) for scope, part in list(self._parts.items()) if part.touched]
        if self.settled or not self.expected:
            return []
        every = [self._shortfall(scope, part, shared=len(parts) > 1) for scope, part in parts]
        found = [each for each in every if each is not None]
        by_id = [each for each in found if each.missed == MISSED_BY_ID]
        return by_id or found

    def _shortfall(self, scope: str, part: ScopeCourse, *, shared: bool) -> Shortfall | None:
        misses = part.misses
        by_id, by_user = misses.get(self.expected), misses.get("")
        if by_id is not None:
            return Shortfall(part.teller, scope, MISSED_BY_ID, by_id, part.other, shared)
        if by_user is not None:
            return Shortfall(part.teller, scope, MISSED_BY_USER, by_user, part.other, shared)
        if part.first_other is not None:
            return Shortfall(part.teller, scope, OTHER_USED, part.first_other, part.other, shared)
        return None

    def _part(self, scope: str, teller: Teller) -> ScopeCourse | None:
        known = self._parts.get(scope)
        if known is not None or len(self._parts) >= SCOPES_MAX:
            return known
        return self._parts.setdefault(scope, ScopeCourse(teller))

    def _meet(self, part: ScopeCourse, how: int) -> None:
        """The expected session was met."""
        misses = part.misses
        if how == SWEPT:
            if not any(each.misses or each.missed for each in list(self._parts.values())):
                self.settled = True
        elif how in {MADE, PROPOSED} and (misses or part.missed):
            part.remade = True  # as stores do that adopt the client's id
        elif how == WROTE and (misses or part.missed):
            if self.expected in misses or part.missed == _BY_ID:
                part.remade = True
        elif not part.remade:
            self.settled = part.found = True

    def _use(self, part: ScopeCourse, how: int, session: str, moment: _Where) -> None:
        if how in _USES:
            part.other = session
            first = part.first_other
            if first is None or not first.sites:
                part.first_other = _first(first, *moment)

    def _miss(self, part: ScopeCourse, asked: str, moment: _Where, *, lasting: bool) -> None:
        if asked and asked != self.expected and self.expected:
            return  # whatever it asked for, it was not what it is expected to have
        if not (self.expected or lasting):
            return
        known = part.misses.get(asked)
        if known is not None or len(part.misses) < MISSES_MAX:
            part.misses[asked] = _first(known, *moment)

    def _remember(self, scope: str, session: str) -> None:
        """While nobody knows which session is expected: it may be this one."""
        seen: dict[tuple[str, str], None] = self.__dict__.setdefault("_seen", {})
        if len(seen) < SEEN_MAX:
            seen[scope, session] = None
        elif (scope, session) not in seen:
            self._blurred = True


def _first(known: Occasion | None, at_us: int, user: str, trace: bytes, sites: tuple[str, ...] | None) -> Occasion:
    """The first of two moments, with the place of the second where nobody knew that of the first."""
    if known is None:
        return Occasion(at_us, user, trace, call_sites() if sites is None else sites)
    return known if known.sites or not sites else known._replace(sites=sites)
