"""What an old code base keeps calling: counts of this process, beside those that the sidecar keeps of all."""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from weakref import WeakSet

from session_exporter.ambient import current_request
from session_exporter.core.alarms import REUSED, alarm_line
from session_exporter.core.events import ContextLost, Created, Event, Reused, Writer
from session_exporter.core.incidents import Incident
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.scopes import DEFAULT_SCOPE, Limits, ScopeRules
from session_exporter.identity import IdError, canonical_id, required_id
from session_exporter.inprocess import InProcessLedger
from session_exporter.ratelimit import PER_MINUTE, RateLimit
from session_exporter.tracker import SessionTracker

HOOK: Final = "metrics_service"
REUSE_TARGET: Final = 0.95
DUPLICATE_WINDOW_S: Final = 10.0
# Some 300 bytes each; sessions that have been idle for half an hour leave by themselves.
SESSIONS_MAX: Final = 100_000
# What comes from a signal handler, or a finalizer, while the same thread is in the middle of a count.
WAITING_MAX: Final = 1000
# Reuses change no verdict: what they bring up to date may wait so long.
JUDGE_EVERY_US: Final = 1_000_000
KEY_BYTES: Final = 32

_LIMITS: Final = Limits(max_tracked_sessions=SESSIONS_MAX, max_incidents=1000)

logger = logging.getLogger(__name__)
logger.addFilter(RateLimit(PER_MINUTE, time.monotonic))


class _Counts(NamedTuple):
    created: int = 0
    reused: int = 0
    lost: int = 0

    @property
    def ratio(self) -> float:
        operations = self.created + self.reused
        return self.reused / operations if operations else 0.0


class MetricsService:
    """Counts sessions that were created, reused or lost, in this process since its start or the last reset.

    All that is told goes to the journal as well, where the sidecar counts it together with that of all other
    processes and keeps it. The counts here follow the same rules: a session counts as created once, however often that
    is told; and a user who gets several of them within seconds is a line of the log, as is a lost context.

    No call raises an Exception or waits: what goes wrong is counted, and logged once a minute. All calls may be made
    from any thread, task, finalizer or signal handler; a forked child starts at zero.

    Args:
        tracker: Records the events; one of its own when not given.
        scope: The kind of session.
        reuse_target: The ratio from which on sessions are healthy, 0 to 1.
        duplicate_window_s: A session created less than this after another one of its user is a rapid duplicate.
        pseudonym_key: At most 64 bytes. Users are called by the same pseudonym in all processes that have the same; it
            is random when not given.
        clock_ns: Nanoseconds since the Unix epoch.

    Raises:
        ValueError: An argument is none of these.
    """

    def __init__(
        self,
        tracker: SessionTracker | None = None,
        *,
        scope: str = DEFAULT_SCOPE,
        reuse_target: float = REUSE_TARGET,
        duplicate_window_s: float = DUPLICATE_WINDOW_S,
        pseudonym_key: bytes | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        if not 0 <= reuse_target <= 1:
            raise ValueError(f"reuse_target {reuse_target!r}: expected a ratio from 0 to 1")
        if not duplicate_window_s > 0:
            raise ValueError(f"duplicate_window_s {duplicate_window_s!r}: expected seconds above 0")
        self._tracker = SessionTracker() if tracker is None else tracker
        self._tracker.register_hook(HOOK)
        self._shield = self._tracker.shielded(HOOK)
        self._clock_ns = clock_ns
        self._names = Pseudonyms(pseudonym_key or os.urandom(KEY_BYTES))
        self._rules = ScopeRules(
            required_id(scope, "scope"),
            duplicate_window_us=round(duplicate_window_s * 1e6),
            reuse_target=reuse_target,
        )
        self._begin()
        _services.add(self)

    def _begin(self) -> None:
        """Start with nothing, as a new process does."""
        # Reentrant, so that a signal handler or finalizer on the same thread gets in and finds `_busy` set.
        self._lock = threading.RLock()
        self._busy = False
        self._waiting: deque[Event | None] = deque()
        self._writer = Writer(HOOK, pid=os.getpid())
        self._start_anew()

    def _start_anew(self) -> None:
        self._ledger = InProcessLedger({self._rules.name: self._rules}, self._names, limits=_LIMITS)
        self._counts = _Counts()
        self._seen_us = 0
        self._judged_us = 0

    def track_session_created(self, user_id: object, session_id: object) -> None:
        """Tell that a session came into existence.

        Args:
            user_id: A text, int or UUID; None for the user of the current request.
            session_id: A text, int or UUID.
        """
        with self._shield:
            user, session = _user(user_id), required_id(session_id, "session_id")
            self._tracker.created(user, session, scope=self._rules.name)
            self._note(Created(*self._about(session, user)))

    def track_session_reused(self, user_id: object, session_id: object) -> None:
        """Tell that work went on with a session that existed; the ids are as above."""
        with self._shield:
            user, session = _user(user_id), required_id(session_id, "session_id")
            self._tracker.reused(user, session, scope=self._rules.name)
            self._note(Reused(*self._about(session, user)))
            if logger.isEnabledFor(logging.DEBUG):
                logger.debug(REUSED, self._names.label("u", self._names[user]), extra={"scope": self._rules.name})

    def track_context_loss(self, user_id: object, expected_context: object, actual_context: object) -> None:
        """Tell that a user did not get what was expected.

        Args:
            user_id: As above.
            expected_context: The id of a session, or anything that has a text; None for nothing.
            actual_context: What came instead, likewise.
        """
        with self._shield:
            user = _user(user_id)
            expected, actual = self._text(expected_context), self._text(actual_context)
            self._tracker.context_lost(user, expected=expected, actual=actual, scope=self._rules.name)
            self._note(ContextLost(*self._about("", user), expected=expected, actual=actual))

    def get_session_reuse_ratio(self) -> float:
        """The share of reuses: reused / (created + reused), from 0 to 1; 0.0 while there was neither."""
        return self._counted().ratio

    def get_metrics_summary(self) -> dict[str, Any]:
        """All counts.

        Returns:
            `sessions_created`, `sessions_reused` and `context_loss_incidents` as int, `session_reuse_ratio` as float,
            and `reuse_ratio_healthy` as bool: whether the ratio reaches its target.
        """
        counts = self._counted()
        return {
            "sessions_created": counts.created,
            "sessions_reused": counts.reused,
            "session_reuse_ratio": counts.ratio,
            "context_loss_incidents": counts.lost,
            "reuse_ratio_healthy": counts.ratio >= self._rules.reuse_target,
        }

    def log_metrics_summary(self) -> None:
        """Log all counts in one line, at level info."""
        with self._shield:
            summary = self.get_metrics_summary()
            logger.info("METRIC SUMMARY: %s", " ".join(f"{name}={_shown(value)}" for name, value in summary.items()))

    def reset_metrics(self) -> None:
        """Start at zero, and forget all sessions; what the sidecar counts stays as it is."""
        with self._shield:
            self._note(None)

    def _about(self, session: str, user: str) -> tuple[int, str, str, str, str, str]:
        request = current_request()
        request_id = "" if request is None else request.request_id
        return self._clock_ns() // 1000, self._rules.name, session, user, "", request_id

    def _text(self, context: object) -> str:
        with self._shield:
            try:
                return canonical_id(context)
            except IdError:  # anything else that old code had at hand: a dict, an enumeration, a bool
                return canonical_id(str(context))
        return ""

    def _counted(self) -> _Counts:
        with self._shield:
            self._judge(now=True)
        return self._counts

    def _note(self, event: Event | None) -> None:
        """Count an event, None for a reset."""
        if len(self._waiting) >= WAITING_MAX:
            raise OverflowError(f"{WAITING_MAX} events wait for one that is being counted")
        self._waiting.append(event)
        self._judge(now=type(event) is not Reused)

    def _judge(self, *, now: bool) -> None:
        """Count what waits; unless `now`, what that leads to may come later."""
        with self._lock:
            if self._busy:  # further down on this very stack somebody is counting, and will find what waits
                return
            self._busy = True
            try:
                incidents = self._drain(now=now)
            finally:
                self._busy = False
        # Without the lock: the handlers of a log have locks of their own.
        for incident in incidents:
            line = alarm_line(incident, self._rules.duplicate_window_us)
            if line is not None:
                logger.log(line.level, line.template, *line.arguments, extra=line.fields)

    def _drain(self, *, now: bool) -> list[Incident]:
        while self._waiting:
            event = self._waiting.popleft()
            if event is None:
                self._start_anew()
            else:
                self._ledger.take((event,), self._writer)
                self._seen_us = event.at_us
        if not now and abs(self._seen_us - self._judged_us) < JUDGE_EVERY_US:
            return []
        self._judged_us = self._seen_us
        # Nobody tells of ends here, so that a session in the place of another is no finding: only what is reported is.
        incidents = [each for each in self._ledger.judge(self._seen_us + 1) if each.detail.get("reason") != "replaced"]
        totals = self._ledger.totals[self._rules.name]
        self._counts = _Counts(totals.creates, totals.reuses, totals.losses["reported"])
        return incidents


def _user(user_id: object) -> str:
    if user_id is not None:
        return canonical_id(user_id, "user_id")
    request = current_request()
    return "" if request is None else request.find_user()


def _shown(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


_services: "WeakSet[MetricsService]" = WeakSet()


def _after_fork_in_child() -> None:
    for service in tuple(_services):
        service._begin()  # noqa: SLF001 - the module's own class


os.register_at_fork(after_in_child=_after_fork_in_child)
