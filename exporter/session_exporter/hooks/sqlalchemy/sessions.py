"""Watching the database sessions of an application: SQLAlchemy's Session, in all of its forms."""

import logging
import math
import os
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Final

from session_exporter.hooks.sqlalchemy.operations import Operations
from session_exporter.hooks.sqlalchemy.pools import PoolWatch
from session_exporter.hooks.sqlalchemy.watch import Watch
from session_exporter.patches import once
from session_exporter.postimport import when_imported
from session_exporter.reporter import Reporter
from session_exporter.tracker import SessionTracker

HOOK: Final = "db_sessions"
MAX_LIFETIME_S: Final = 30.0

_logger = logging.getLogger("session_exporter")


def watch_db_sessions(
    tracker: SessionTracker | None = None, *, max_lifetime_s: float = MAX_LIFETIME_S
) -> Callable[[], None]:
    """Watch every use of a SQLAlchemy Session in this process, sync or async, made before or after.

    A use lasts from the first transaction until the Session is closed, removed, reset, invalidated or collected. It is
    reported at its end: what it executed, how it went, and for whom, as a `DatabaseSessionMetrics` has it. It ends as
    `committed` when its last transaction was, else as `error` when there was any error in it, else as `rolled_back`,
    which is what becomes of a transaction that has only read. Reported at once is a use that crosses requests, users
    or tasks, or outlives its request; and counted, one that is open for too long. An object that is asked for what
    only a Session could load, and has none, is a use that failed to begin.

    Args:
        tracker: Reports; one of its own when not given.
        max_lifetime_s: A use that is open for longer has leaked, seconds. Found when anything else happens.

    Returns:
        What stops watching; called twice, it does nothing.

    Raises:
        ValueError: `max_lifetime_s` is not positive and finite.
    """
    if not 0 < max_lifetime_s < math.inf:
        raise ValueError(f"max_lifetime_s must be positive and finite, got {max_lifetime_s}")
    reporter = (SessionTracker() if tracker is None else tracker).reporter(HOOK)
    return _shared.need(reporter, max_lifetime_s)


class _Shared:
    """The one watch of this process, however often it is asked for: the first tracker reports, until none is left."""

    def __init__(self) -> None:
        self._needed = 0
        self._forget: list[Callable[[], None]] = []
        self._stop: list[Callable[[], None]] = []

    def need(self, reporter: Reporter, max_lifetime_s: float) -> Callable[[], None]:
        """Begin to watch, unless it is watched already."""
        self._needed += 1
        if self._needed == 1:
            self._begin(reporter, max_lifetime_s)
        return once(self._release)

    def forget_the_parent(self) -> None:
        """In a forked child: what is open is the parent's."""
        for forget in self._forget:
            forget()

    def _begin(self, reporter: Reporter, max_lifetime_s: float) -> None:
        watch, pools = Watch(reporter, max_lifetime_s), PoolWatch(reporter)
        operations = Operations(watch, pools)
        self._forget = [watch.forget_the_parent, pools.forget]
        reporter.register(active=True)
        wait = when_imported("sqlalchemy.orm", partial(_install, operations, reporter))
        # The last one first.
        self._stop = [partial(reporter.register, active=False), watch.stop, pools.stop, operations.uninstall, wait]

    def _release(self) -> None:
        self._needed -= 1
        if not self._needed:
            self._forget.clear()
            while self._stop:
                self._stop.pop()()


_shared: Final = _Shared()

os.register_at_fork(after_in_child=_shared.forget_the_parent)


def _install(operations: Operations, reporter: Reporter, _orm: ModuleType) -> None:
    try:
        operations.install()
    except Exception as error:  # noqa: BLE001 - counted; the application goes on unwatched
        reporter.count_failure(error)
        reporter.register(active=False)
        _logger.warning("database sessions are not watched: this version of SQLAlchemy is not supported")
