"""What hooks report with: events whose time and surroundings are those of the statement, not of the report."""

import sys
from collections.abc import Callable, Mapping
from typing import Final

from session_exporter.ambient import Request, current, current_request
from session_exporter.callsites import call_sites
from session_exporter.core.scopes import DEFAULT_SCOPE
from session_exporter.course import FOUND, MADE, MENTIONED, MISSED, TOUCHED, WROTE
from session_exporter.identity import canonical_id, required_id
from session_exporter.outlet import Outlet, Shield
from session_exporter.shortfalls import Shortfall
from session_exporter.surroundings import NOWHERE, Surroundings
from session_exporter.traces import OPENTELEMETRY, trace_id

# The kinds' numbers on the wire; a test compares them with core/events.py.
LOOKED_UP: Final = 3
OBSERVED: Final = 4
_CREATED, _ENDED, _ATTRIBUTED = 1, 5, 6
_CONFLICTED, _CREATE_FAILED, _VIOLATED, _DB_SESSION, _UNMET, _IDENTIFIED = 8, 9, 10, 11, 12, 13
RESULT, UPSERT, ROW = 0, 1, 2

_NO_TRACE: Final = b""
# What has nothing to do with the course of a request.
_OTHERWISE: Final = -1
# Of what `report_here` is given for a lookup, where the id is that was asked for.
_ASKED: Final = 2


class Reporter:
    """Records the events of one hook.

    No call raises an Exception; what goes wrong is counted under the hook's name. Ids are as for the tracker's calls. A
    `user` that is None stands for the user of the request in `where`, `""` for one that is not known. `at_us` is event
    time, microseconds since the Unix epoch; now when it is 0.

    Args:
        outlet: The tracker's.
        hook: The hook's name, at most 31 bytes.
        clock_ns: Nanoseconds since the Unix epoch.

    Attributes:
        hook: As given.
        shield: A context manager that counts an Exception under the hook's name and goes on behind its block.
    """

    def __init__(self, outlet: Outlet, hook: str, *, clock_ns: Callable[[], int]) -> None:
        self.hook = hook
        self.shield = Shield(outlet, hook)
        self._outlet = outlet
        self._clock_ns = clock_ns

    def now_us(self) -> int:
        """Microseconds since the Unix epoch."""
        return self._clock_ns() // 1000

    def register(self, *, active: bool) -> None:
        """Declare the hook: installed, or (any more, or at all) not."""
        with self.shield:
            self._outlet.register_hook(self.hook, active=active)

    def count_failure(self, error: Exception, *, told: bool = False) -> None:
        """Count one failure of the hook, and log it now and then unless the hook has `told` of it."""
        self._outlet.count_failure(self.hook, error, told=told)

    def surroundings(self, skipped: int = 0) -> Surroundings:
        """What surrounds the caller now; the first `skipped` frames, from the caller on, are this package's own."""
        try:
            trace = trace_id(self.count_failure) if OPENTELEMETRY in sys.modules else _NO_TRACE
            return Surroundings(None if current.get() is None else current_request(), trace, call_sites(1 + skipped))
        except Exception:  # counted by the shield, which takes long to enter when nothing is wrong
            with self.shield:
                raise
        return NOWHERE

    def report_here(  # noqa: PLR0917 - by position is faster
        self, skipped: int, kind: int, scope: str, session: str, user: object, key: str, *rest: object
    ) -> None:
        """Record a `LOOKED_UP` or an `OBSERVED` of here and now, in less time.

        Session and key are texts as `canonical_id` makes them. `skipped` frames above the caller's are certainly this
        package's; `rest` is what follows the call sites.
        """
        try:
            request = None if current.get() is None else current_request()
            whose = canonical_id(user, "user")
            if user is None and request is not None:
                whose = request.find_user()
            request_id = "" if request is None else request.request_id
            trace = trace_id(self.count_failure) if OPENTELEMETRY in sys.modules else _NO_TRACE
            at_us = self._clock_ns() // 1000
            sites = call_sites(skipped + 1)
            if request is not None and kind == OBSERVED and (expected := request.expected_before(scope, session)):
                rest = (*rest, RESULT, "", expected)
            self._outlet.append((kind, at_us, scope, session, whose, key, request_id, trace, sites, *rest))
            if request is not None:
                how, met = (FOUND, session) if session else (MISSED, str(rest[2]) if len(rest) > _ASKED else "")
                request.note(self, how, scope, met, at_us, whose, trace, sites)
        except Exception:  # as above
            with self.shield:
                raise

    def note(self, how: int, scope: str, session: str, user: str = "") -> None:
        """Have the caller's request know what it does with a session, of which nothing is to be recorded.

        Args:
            how: One of the words of `session_exporter.course`.
            scope: The scope.
            session: Its id, as `canonical_id` makes it; `""` for the one of the user that was missed.
            user: Whose.
        """
        try:
            request = None if current.get() is None else current_request()
            if request is not None:
                request.note(self, how, scope, session, self._clock_ns() // 1000, user, _NO_TRACE, ())
        except Exception:  # as above
            with self.shield:
                raise

    def created(
        self,
        session: object,
        *,
        scope: str,
        user: object = None,
        key: object = "",
        where: Surroundings,
        at_us: int = 0,
        generation: object = "",
    ) -> None:
        """A session came into existence, with evidence."""
        with self.shield:
            made, version = canonical_id(session, "session"), canonical_id(generation, "generation")
            rest = (where.sites, version, _expected(where, scope, made))
            self._append(_CREATED, MADE, at_us, (scope, made, user, key), where, *rest)

    def looked_up(
        self,
        session: object,
        *,
        scope: str,
        user: object = None,
        key: object = "",
        where: Surroundings,
        at_us: int = 0,
        duration_us: int = 0,
        again: bool = False,
        asked: object = "",
        surely: bool = True,
    ) -> None:
        """The session of a user was asked for; None or `""` when none was found.

        `again`: the same transaction or call has found or made it before, so that it is no further reuse. `asked`: the
        id that was asked for, when it was not the session of a user, whatever its id. `surely`: nothing that was found
        means that there is none.
        """
        try:
            found = canonical_id(session, "session")
            if found:
                self._append(LOOKED_UP, FOUND, at_us, (scope, found, user, key), where, where.sites, duration_us, again)
                return
            rest = (where.sites, duration_us, again, canonical_id(asked, "asked"))
            self._append(LOOKED_UP, MISSED if surely else MENTIONED, at_us, (scope, "", user, key), where, *rest)
        except Exception:  # as above: there are many lookups
            with self.shield:
                raise

    def observed(
        self,
        session: object,
        *,
        scope: str,
        user: object = None,
        key: object = "",
        where: Surroundings,
        at_us: int = 0,
        created_at_us: int = 0,
        duration_us: int = 0,
        origin: int = RESULT,
        generation: object = "",
    ) -> None:
        """A session was seen, and the ledger decides whether it was made just then; `origin` as in `Observed`."""
        try:
            seen, version = required_id(session, "session"), canonical_id(generation, "generation")
            rest = (where.sites, created_at_us, duration_us, origin, version, _expected(where, scope, seen))
            how = FOUND if origin == RESULT else WROTE
            self._append(OBSERVED, how, at_us, (scope, seen, user, key), where, *rest)
        except Exception:  # as above
            with self.shield:
                raise

    def ended(
        self,
        session: object,
        *,
        scope: str,
        user: object = None,
        key: object = "",
        where: Surroundings,
        at_us: int = 0,
        reason: str = "other",
    ) -> None:
        """A session ended, for one of `END_REASONS`."""
        with self.shield:
            self._append(_ENDED, TOUCHED, at_us, (scope, required_id(session, "session"), user, key), where, reason)

    def attributed(
        self, session: object, *, scope: str, user: object, key: object = "", where: Surroundings, at_us: int = 0
    ) -> None:
        """The user of a session that was created without one became known."""
        with self.shield:
            whose = required_id(user, "user")
            self._append(_ATTRIBUTED, FOUND, at_us, (scope, required_id(session, "session"), whose, key), where)

    def conflicted(
        self,
        session: object,
        *,
        scope: str,
        user: object = None,
        key: object = "",
        where: Surroundings,
        at_us: int = 0,
    ) -> None:
        """A unique index refused a create; the session may be None when its id is not known."""
        with self.shield:
            self._append(_CONFLICTED, MENTIONED, at_us, (scope, canonical_id(session), user, key), where, where.sites)

    def create_failed(
        self,
        reason: str,
        *,
        scope: str,
        user: object = None,
        key: object = "",
        where: Surroundings,
        at_us: int = 0,
    ) -> None:
        """A create failed, for one of `FAILURES`."""
        with self.shield:
            self._append(_CREATE_FAILED, MENTIONED, at_us, (scope, "", user, key), where, reason, where.sites)

    def violated(
        self,
        use: str,
        kind: str,
        *,
        user: object = None,
        where: Surroundings,
        other_user: str = "",
        other_request: str = "",
        at_us: int = 0,
    ) -> None:
        """One use of a database session crossed a border; `kind` is one of `VIOLATIONS`."""
        with self.shield:
            rest = (kind, other_user, other_request, where.sites)
            self._append(_VIOLATED, _OTHERWISE, at_us, (DEFAULT_SCOPE, use, user, ""), where, *rest)

    def db_session(
        self,
        use: str,
        *,
        outcome: str,
        state: str,
        opened_at_us: int,
        last_activity_us: int,
        queries: int,
        transactions: int,
        errors: Mapping[str, int],
        last_error: str,
        total_time_us: int,
        user: object = None,
        where: Surroundings,
        at_us: int = 0,
    ) -> None:
        """One use of a database session is over; the figures are those of `DbSession`."""
        with self.shield:
            counts = (opened_at_us, last_activity_us, queries, transactions, dict(errors), last_error, total_time_us)
            rest = (outcome, state, *counts, where.sites)
            self._append(_DB_SESSION, _OTHERWISE, at_us, (DEFAULT_SCOPE, use, user, ""), where, *rest)

    def set_gauge(self, name: str, value: int) -> None:
        """Publish a gauge of this process, one of `GAUGES`; from 0."""
        with self.shield:
            self._outlet.set_gauge(name, value)

    def add_count(self, name: str, amount: int = 1) -> None:
        """Add to a count of this process, one of `COUNTS`."""
        with self.shield:
            self._outlet.add_count(name, amount)

    def pool_waited(self, duration_us: int) -> None:
        """Add an observation to the waits for a connection, microseconds."""
        with self.shield:
            self._outlet.pool_waited(duration_us)

    def unmet(self, request: Request, expected: str, shortfall: Shortfall) -> None:
        """A request is over that never got the session it expected."""
        first = shortfall.first
        with self.shield:
            where = Surroundings(request, first.trace, first.sites)
            rest = (shortfall.missed, first.at_us, shortfall.actual, shortfall.shared, first.sites)
            self._append(_UNMET, _OTHERWISE, 0, (shortfall.scope, expected, first.user or None, ""), where, *rest)

    def identified(self, request: Request, scope: str, at_us: int, trace: bytes) -> None:
        """A request that has to do with sessions of a scope belongs to a thread or run."""
        thread, run = request.context.thread_id or "", request.context.run_id or ""
        with self.shield:
            where = Surroundings(request, trace)
            self._append(_IDENTIFIED, _OTHERWISE, at_us, (scope, "", None, ""), where, thread, run)

    def _append(
        self,
        kind: int,
        how: int,
        at_us: int,
        about: tuple[str, object, object, object],
        where: Surroundings,
        *rest: object,
    ) -> None:
        scope, session, user, key = about
        at_us = at_us or self._clock_ns() // 1000
        met = canonical_id(session, "session")
        whose = where.user_id if user is None else canonical_id(user, "user")
        fields = (kind, at_us, scope, met, whose, canonical_id(key, "key"), where.request_id, where.trace)
        self._outlet.append(fields + rest)
        if how != _OTHERWISE and where.request is not None:
            met = str(rest[_ASKED + 1]) if how == MISSED else met
            where.request.note(self, how, scope, met, at_us, whose, where.trace, where.sites)


def _expected(where: Surroundings, scope: str, session: str) -> str:
    return "" if where.request is None else where.request.expected_before(scope, session)
