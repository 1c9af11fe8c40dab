"""All uses of Sessions that are open in this process: begun, followed, and reported at their end.

Anything here may be called by a finalizer or signal handler in the middle of anything else here, and by threads at
once: no lock is held, steps are atomic, and taking a use out of the open ones decides who ends it.
"""

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any, Final

from session_exporter.ambient import Request, current
from session_exporter.errors import SessionExporterError
from session_exporter.hooks.sqlalchemy.actors import current_actor
from session_exporter.hooks.sqlalchemy.belonging import GRACE_NS, OTHER_TASK, OUTLIVED, Crossing
from session_exporter.hooks.sqlalchemy.census import OpenUses
from session_exporter.hooks.sqlalchemy.uses import Use
from session_exporter.hooks.sqlalchemy.vigil import Vigil
from session_exporter.reporter import Reporter

# Some kilobytes each. An application with more open sessions has run out of connections long ago.
USES_MAX: Final = 20_000
LEAKED: Final = "leaked"
# Attempts to list what other threads are changing.
_LISTED_MAX: Final = 3


class TooManyUses(SessionExporterError):
    """More database sessions are open at once than are followed."""


class Watch:
    """Follows uses of Sessions; what it is told about never raises an Exception.

    Args:
        reporter: The hook's.
        max_lifetime_s: A use that is open for longer has leaked.
        clock_ns: Monotonic nanoseconds.
    """

    def __init__(
        self, reporter: Reporter, max_lifetime_s: float, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._reporter = reporter
        self._clock_ns = clock_ns
        self._lifetime_ns = round(max_lifetime_s * 1e9)
        # By the id of the Session, in the order in which they began.
        self._open: dict[int, Use] = {}
        self._entering: dict[int, int] = {}
        self._young: Vigil[Use] = Vigil(self._lifetime_ns)
        self._outliving: Vigil[Use] = Vigil(GRACE_NS)
        self._leaked: set[Use] = set()
        self._census = OpenUses(reporter)
        self._names = _new_names()

    def begin(self, session: Any) -> None:
        """A root transaction of a Session begins, and perhaps a use with it."""
        try:
            now_ns = self._clock_ns()
            use = self._open.get(id(session)) or self._begin_use(session, now_ns)
            use.begin_transaction(now_ns)
        except Exception as error:  # noqa: BLE001 - counted; so in all of these, which are on the application's way
            self._reporter.count_failure(error)

    def end_transaction(self, session: Any) -> None:
        """A root transaction of a Session is over."""
        use = self._open.get(id(session))
        if use is not None:
            with self._reporter.shield:
                use.end_transaction()

    def commit(self, session: Any) -> None:
        """That root transaction was committed."""
        use = self._open.get(id(session))
        if use is not None:
            with self._reporter.shield:
                use.commit(self._clock_ns())

    def use_of(self, session: Any) -> Use | None:
        """The use of a Session that is open."""
        return self._open.get(id(session))

    def execute(self, use: Use) -> None:
        """A statement is executed on a connection of the use."""
        try:
            use.queries += 1
            use.last_ns = now_ns = self._clock_ns()
            if not use.depth:  # else the operation has done so
                self._visit(use, now_ns)
                self._notice(now_ns)
        except Exception as error:  # noqa: BLE001 - as above
            self._reporter.count_failure(error)

    def enter(self, session: Any, *, as_user: bool = True) -> Use | None:
        """An operation on a Session begins.

        Args:
            session: The Session.
            as_user: Whether it uses the Session, rather than clearing up after a use.

        Returns:
            What `leave` wants to know.
        """
        try:
            actor = current_actor()
            use = self._open.get(id(session))
            if use is None:
                self._entering[id(session)] = actor
                return None
            use.last_ns = now_ns = self._clock_ns()
            if as_user:
                self._visit(use, now_ns)
            if now_ns > self._young.due_ns or now_ns > self._outliving.due_ns:
                self._notice(now_ns)
            if use.actor and use.actor != actor:
                crossing = Crossing(OTHER_TASK, use.belonging.user, other_request=use.belonging.request_id)
                self._flag(use, crossing)
                return None
            use.actor = actor
            use.depth += 1
        except Exception as error:  # noqa: BLE001 - as above
            self._reporter.count_failure(error)
            return None
        return use

    def leave(self, session: Any, entered: Use | None, error: BaseException | None = None) -> None:
        """An operation on a Session is over, or has failed."""
        try:
            use = entered
            if use is None:
                # It has begun with this operation, or somebody else is inside of it as well.
                self._entering.pop(id(session), None)
                use = self._open.get(id(session))
                if use is None:
                    return
            if isinstance(error, Exception):
                use.fail(error, self._clock_ns())
            if entered is not None or use.actor == current_actor():
                use.leave()
        except Exception as failure:  # noqa: BLE001 - as above
            self._reporter.count_failure(failure)

    def fail(self, use: Use, error: Exception) -> None:
        """A statement has failed on a connection of the use, outside of any operation on the Session."""
        with self._reporter.shield:
            if not use.depth:
                use.fail(error, self._clock_ns())
                use.leave()

    def close(self, session: Any) -> None:
        """A Session is closed."""
        with self._reporter.shield:
            use = self._open.get(id(session))
            if use is not None:
                self._end(id(session), use)

    def lack(self, error: Exception) -> None:
        """An object was asked for what only its Session could get, which it has none of: a use that cannot begin."""
        with self._reporter.shield:
            actor = current_actor()
            if any(use.actor == actor for use in self._all()):
                return  # it comes out of an operation, which counts it
            now_ns = self._clock_ns()
            use = self._new_use(error, _nothing, now_ns)
            self._visit(use, now_ns)
            use.fail(error, now_ns)
            use.belonging.settle()
            use.report(self._reporter, now_ns)

    def forget(self) -> None:
        """Follow nothing any more, and report nothing of what is open."""
        for use in self._all():
            use.over = True
        for collection in (self._open, self._entering, self._young, self._outliving, self._leaked):
            collection.clear()
        self._census.forget()

    def forget_the_parent(self) -> None:
        """In a forked child: what is open is the parent's."""
        self.forget()
        self._names = _new_names()

    def stop(self) -> None:
        """Do what `forget` does, and show that nothing is open."""
        self.forget()
        self._show()

    def _begin_use(self, session: Any, now_ns: int) -> Use:
        key = id(session)
        if len(self._open) >= USES_MAX:
            raise TooManyUses(f"more than {USES_MAX} database sessions are open")
        use = self._new_use(session, partial(self._collected, key), now_ns)
        use.actor = self._entering.get(key, 0)
        use.depth = 1 if use.actor else 0
        self._open[key] = use
        self._young.add(use, now_ns)
        self._visit(use, now_ns)
        self._notice(now_ns)
        self._show()
        return use

    def _new_use(self, session: Any, collected: Callable[[Any], None], now_ns: int) -> Use:
        reporter = self._reporter
        # What takes time comes between two readings of the one clock.
        at_us = reporter.now_us() - (self._clock_ns() - now_ns) // 1000
        name, where = next(self._names), reporter.surroundings()
        use = Use(name, session, collected, self._request_ended, where=where, at_us=at_us, now_ns=now_ns)
        reporter.add_count("db_sessions_opened")
        return use

    def _visit(self, use: Use, now_ns: int) -> None:
        request = current.get()
        if not use.belonging.is_known(request):
            for crossing in use.belonging.visit(request, now_ns):
                self._flag(use, crossing)

    def _request_ended(self, use: Use, request: Request) -> None:
        """Called once a request that it was used in has ended."""
        if use.over:
            return
        with self._reporter.shield:
            now_ns = self._clock_ns()
            for crossing in use.belonging.leave(request, now_ns):
                self._flag(use, crossing, request)
            if use.belonging.over_ns == now_ns:
                self._outliving.add(use, now_ns)
            self._notice(now_ns)

    def _notice(self, now_ns: int) -> None:
        """Find those that wait for something else to happen in the process."""
        if now_ns > self._young.due_ns:
            for use in self._young.take_late(now_ns):
                self._leak(use)
        if now_ns > self._outliving.due_ns:
            for use in self._outliving.take_late(now_ns):
                # Who is inside of an operation may be the task's or thread's own; asked again when that has been long.
                if use.depth:
                    self._outliving.add(use, now_ns)
                else:
                    self._flag_overdue(use, now_ns)

    def _leak(self, use: Use) -> None:
        if LEAKED in use.flagged:
            return
        use.flagged.add(LEAKED)
        self._leaked.add(use)
        self._reporter.add_count("db_sessions_leaked")
        if use.over:
            self._leaked.discard(use)
        self._show()

    def _flag_overdue(self, use: Use, now_ns: int) -> None:
        belonging = use.belonging
        if belonging.is_overdue(now_ns):
            crossing = Crossing(OUTLIVED, belonging.user, other_request=belonging.request_id)
            self._flag(use, crossing)

    def _flag(self, use: Use, crossing: Crossing, ended: Request | None = None) -> None:
        if crossing.kind in use.flagged:
            return
        use.flagged.add(crossing.kind)
        where = self._reporter.surroundings()
        if ended is not None:
            where = where._replace(request=ended)
        self._reporter.violated(
            use.metrics.session_id,
            crossing.kind,
            user=crossing.user,
            where=where,
            other_user=crossing.other_user,
            other_request=crossing.other_request,
        )

    def _collected(self, key: int, session: object) -> None:
        """Called by the weak reference, before the Session's memory, and with it the key, can be another's."""
        use = self._open.get(key)
        if use is not None and use.session is session:
            with self._reporter.shield:
                self._end(key, use)

    def _end(self, key: int, use: Use) -> None:
        if self._open.pop(key, None) is not use:
            return  # another thread has ended it
        use.over = True
        now_ns = self._clock_ns()
        use.belonging.settle()
        self._flag_overdue(use, now_ns)
        if use.is_older_than(self._lifetime_ns, now_ns):
            self._leak(use)
        self._young.discard(use)
        self._outliving.discard(use)
        self._leaked.discard(use)
        use.report(self._reporter, now_ns)
        self._notice(now_ns)
        self._show()

    def _show(self) -> None:
        self._census.show(self._open, self._leaked)

    def _all(self) -> list[Use]:
        for _ in range(_LISTED_MAX):
            try:
                return list(self._open.values())
            except RuntimeError:  # another thread has changed it
                continue
        return []


def _new_names() -> Iterator[str]:
    prefix = os.urandom(6).hex()
    return (f"{prefix}-{number}" for number in count(1))


def _nothing(_: object) -> None:
    """Nobody waits for it."""
