"""What hooks report with: events whose time and surroundings are those of the statement, not of the report."""

import sys
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from session_exporter.ambient import OPENTELEMETRY, Request, current, current_request, trace_id
from session_exporter.callsites import call_sites
from session_exporter.core.scopes import DEFAULT_SCOPE
from session_exporter.identity import canonical_id, required_id
from session_exporter.outlet import Outlet, Shield

# The kinds' numbers on the wire; a test compares them with core/events.py.
LOOKED_UP: Final = 3
OBSERVED: Final = 4
_CREATED, _ENDED, _ATTRIBUTED = 1, 5, 6
_CONFLICTED, _CREATE_FAILED, _VIOLATED, _DB_SESSION = 8, 9, 10, 11
RESULT, UPSERT, ROW = 0, 1, 2

_NO_TRACE: Final = b""


class Surroundings(NamedTuple):
    """Where something happened, to be captured when it happens.

    Attributes:
        request: The request; its user may become known before the event is reported.
        trace: OpenTelemetry trace id, 16 bytes, empty when there is none.
        sites: Nearest application frames, innermost first.
    """

    request: Request | None = None
    trace: bytes = _NO_TRACE
    sites: tuple[str, ...] = ()

    @property
    def request_id(self) -> str:
        """The request's id, `""` when there is none."""
        return "" if self.request is None else self.request.request_id

    @property
    def user_id(self) -> str:
        """The request's user, `""` when not known."""
        return "" if self.request is None else self.request.find_user()


NOWHERE: Final = Surroundings()


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
            self._outlet.append((kind, at_us, scope, session, whose, key, request_id, trace, sites, *rest))
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
            version = canonical_id(generation, "generation")
            self._append(_CREATED, at_us, (scope, session, user, key), where, where.sites, version)

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
    ) -> None:
        """The session of a user was asked for; None or `""` when none was found.

        `again`: the same transaction or call has found or made it before, so that it is no further reuse.
        """
        try:
            found = canonical_id(session, "session")
            self._append(LOOKED_UP, at_us, (scope, found, user, key), where, where.sites, duration_us, again)
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
            version = canonical_id(generation, "generation")
            rest = (where.sites, created_at_us, duration_us, origin, version)
            self._append(OBSERVED, at_us, (scope, required_id(session, "session"), user, key), where, *rest)
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
            self._append(_ENDED, at_us, (scope, required_id(session, "session"), user, key), where, reason)

    def attributed(
        self, session: object, *, scope: str, user: object, key: object = "", where: Surroundings, at_us: int = 0
    ) -> None:
        """The user of a session that was created without one became known."""
        with self.shield:
            whose = required_id(user, "user")
            self._append(_ATTRIBUTED, at_us, (scope, required_id(session, "session"), whose, key), where)

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
            self._append(_CONFLICTED, at_us, (scope, canonical_id(session), user, key), where, where.sites)

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
            self._append(_CREATE_FAILED, at_us, (scope, "", user, key), where, reason, where.sites)

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
            self._append(_VIOLATED, at_us, (DEFAULT_SCOPE, use, user, ""), where, *rest)

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
            self._append(_DB_SESSION, at_us, (DEFAULT_SCOPE, use, user, ""), where, *rest)

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

    def _append(
        self, kind: int, at_us: int, about: tuple[str, object, object, object], where: Surroundings, *rest: object
    ) -> None:
        scope, session, user, key = about
        fields = (
            kind,
            at_us or self._clock_ns() // 1000,
            scope,
            canonical_id(session, "session"),
            where.user_id if user is None else canonical_id(user, "user"),
            canonical_id(key, "key"),
            where.request_id,
            where.trace,
        )
        self._outlet.append(fields + rest)
