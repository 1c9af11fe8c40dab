"""The application's one door: what it, or a hook on its behalf, tells about its sessions."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from session_exporter.ambient import Request, current, current_request
from session_exporter.callsites import call_sites
from session_exporter.core.scopes import DEFAULT_SCOPE
from session_exporter.course import FOUND, MADE, MENTIONED, MISSED, TOUCHED
from session_exporter.identity import SHORT_CHARS, IdError, canonical_id, required_id
from session_exporter.moments import duration_us, moment_us
from session_exporter.outlet import TRACKER_HOOK, Journal, Outlet, Shield
from session_exporter.reporter import RESULT, Reporter
from session_exporter.traces import OPENTELEMETRY, trace_id

if TYPE_CHECKING:
    from session_exporter.journal import JournalLimits

# The kinds' numbers on the wire; a test compares them with core/events.py.
_CREATED, _REUSED, _LOOKED_UP, _OBSERVED, _ENDED, _ATTRIBUTED, _CONTEXT_LOST = range(1, 8)

# Between what a call records and the expected session, the last field of a create and of an observation.
_FILLINGS: Final[Mapping[int, tuple[object, ...]]] = {_CREATED: ("",), _OBSERVED: (RESULT, "")}
# What they are to the course of a request, and whether they begin with call sites.
_HOW: Final = {
    _CREATED: (MADE, True),
    _REUSED: (FOUND, False),
    _LOOKED_UP: (FOUND, True),
    _OBSERVED: (FOUND, True),
    _ENDED: (TOUCHED, False),
    _ATTRIBUTED: (FOUND, False),
}
# Of what is recorded of a lookup, where the id is that was asked for.
_ASKED: Final = 3

_NO_KEY: Final = ""
_NO_TRACE: Final = b""
_DISABLED: Final = ("1", "true", "yes", "on")
SCOPES_REMEMBERED_MAX: Final = 256


class SessionTracker:
    """Records what happens to sessions, for the sidecar to judge.

    No call raises an Exception into the application or waits for anything: what goes wrong is counted
    (`session_exporter_hook_errors_total{hook="tracker"}`) and logged once a minute. All calls may be made from any
    thread, task, finalizer, signal handler or forked child.

    Ids are texts, UUIDs, ints or bytes (UTF-8); a user may be None, which stands for the user of the current request.
    A `scope` is a kind of session, as declared in the configuration; a `key` adds a device, app or thread to the user.

    Args:
        directory: The journal's directory; found as the sidecar finds it when not given. Nothing is opened before the
            first event. Trackers of one directory share one journal.
        journal: Where events go instead; it stays the caller's to close.
        limits: What bounds the journal, for the first tracker of its directory; built-in defaults when not given.
        replica: The host or pod name, likewise; `$HOSTNAME` or the kernel's when not given.
        clock_ns: Nanoseconds since the Unix epoch.

    With `SESSION_EXPORTER_DISABLED=1` in the environment nothing is recorded.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        journal: Journal | None = None,
        limits: "JournalLimits | None" = None,
        replica: str = "",
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._disabled = os.environ.get("SESSION_EXPORTER_DISABLED", "").lower() in _DISABLED
        self._outlet = Outlet(directory, journal, limits=limits, replica=replica, silent=self._disabled)
        self._shield = Shield(self._outlet, TRACKER_HOOK)
        self._clock_ns = clock_ns
        self._reporter = Reporter(self._outlet, TRACKER_HOOK, clock_ns=clock_ns)
        self._scopes: dict[str, str] = {DEFAULT_SCOPE: DEFAULT_SCOPE}

    def created(self, user: object, session: object, *, scope: str = DEFAULT_SCOPE, key: object = "") -> None:
        """Tell that a session came into existence; evidence of a create."""
        if self._disabled:
            return
        with self._shield:
            self._record(_CREATED, scope, required_id(session, "session"), user, key, call_sites())

    def reused(self, user: object, session: object, *, scope: str = DEFAULT_SCOPE, key: object = "") -> None:
        """Tell that work went on with a session that existed."""
        if self._disabled:
            return
        try:
            try:
                name = self._scopes[scope]
            except KeyError:
                name = self._new_scope(scope)
            if not (
                type(session) is str
                and type(user) is str
                and 0 < len(session) <= SHORT_CHARS
                and len(user) <= SHORT_CHARS
                and session.isascii()
                and user.isascii()
                and key is _NO_KEY
            ):
                self._record(_REUSED, name, required_id(session, "session"), user, key)
                return
            trace = trace_id(self._count_failure) if OPENTELEMETRY in sys.modules else _NO_TRACE
            request = current.get()
            if request is not None and (request := current_request()) is not None:
                at_us = self._clock_ns() // 1000
                self._outlet.append((_REUSED, at_us, name, session, user, key, request.request_id, trace))
                if request.course.met.get(session) != name:
                    request.note(self._reporter, FOUND, name, session, at_us, user, trace)
            elif trace:
                self._outlet.append((_REUSED, self._clock_ns() // 1000, name, session, user, key, "", trace))
            else:
                self._outlet.append((_REUSED, self._clock_ns() // 1000, name, session, user))
        except Exception as error:  # noqa: BLE001 - what a Shield does, without the time that entering one takes
            try:
                self._outlet.count_failure(TRACKER_HOOK, error)
            except RecursionError:
                self._outlet.uncounted += 1

    def looked_up(
        self,
        user: object,
        session: object = None,
        *,
        scope: str = DEFAULT_SCOPE,
        key: object = "",
        duration_s: float = 0.0,
        asked: object = None,
    ) -> None:
        """Tell that the application asked for the session of a user.

        Args:
            user: Whose session was asked for.
            session: What was found; None when nothing was.
            scope: The kind of session.
            key: A device, app or thread.
            duration_s: How long it took, seconds.
            asked: The id that was asked for; None when it was the session of the user, whatever its id.
        """
        if self._disabled:
            return
        with self._shield:
            found, took_us = canonical_id(session, "session"), self._or_zero(duration_us, duration_s)
            rest = () if found or asked is None else (False, self._any_text(asked, "asked"))
            self._record(_LOOKED_UP, scope, found, user, key, call_sites(), took_us, *rest)

    def observed(
        self,
        user: object,
        session: object,
        created_at: object = None,
        *,
        scope: str = DEFAULT_SCOPE,
        key: object = "",
        duration_s: float = 0.0,
    ) -> None:
        """Tell that a call returned a session, made or found: which of them, the ledger decides.

        Args:
            user: Whose session it is.
            session: What was returned; None, which is no session, is recorded as a lookup that found nothing.
            created_at: When the session says it was created: an aware datetime, seconds since the epoch, or ISO 8601
                with an offset. A naive time tells nothing, and counts as a failure.
            scope: The kind of session.
            key: A device, app or thread.
            duration_s: How long the call took, seconds.
        """
        if self._disabled:
            return
        with self._shield:
            returned = canonical_id(session, "session")
            took_us, created_at_us = self._or_zero(duration_us, duration_s), self._or_zero(moment_us, created_at)
            sites = call_sites()
            if returned:
                self._record(_OBSERVED, scope, returned, user, key, sites, created_at_us, took_us)
            else:
                self._record(_LOOKED_UP, scope, "", user, key, sites, took_us)

    def ended(
        self,
        session: object,
        *,
        user: object = None,
        reason: str = "other",
        scope: str = DEFAULT_SCOPE,
        key: object = "",
    ) -> None:
        """Tell that a session ended; `reason` is one of `END_REASONS`, anything else counts as `other`."""
        if self._disabled:
            return
        with self._shield:
            why = _name(reason, "reason")
            self._record(_ENDED, scope, required_id(session, "session"), user, key, why)

    def attributed(self, session: object, user: object, *, scope: str = DEFAULT_SCOPE, key: object = "") -> None:
        """Tell the user of a session that was created without one."""
        if self._disabled:
            return
        with self._shield:
            if not (whose := self._user(user)):
                raise IdError("user must be given, or be known of the current request")
            self._record(_ATTRIBUTED, scope, required_id(session, "session"), whose, key)

    def context_lost(
        self, user: object, *, expected: object, actual: object, scope: str = DEFAULT_SCOPE, key: object = ""
    ) -> None:
        """Tell that the application got another session than it expected; None stands for none at all."""
        if self._disabled:
            return
        with self._shield:
            texts = self._any_text(expected, "expected"), self._any_text(actual, "actual")
            self._record(_CONTEXT_LOST, scope, "", user, key, *texts, call_sites())
            request = current_request()
            if request is not None:
                request.course.tell(texts[0])

    def request(
        self,
        *,
        user_id: object = None,
        request_id: object = None,
        session_id: object = None,
        thread_id: object = None,
        run_id: object = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Request:
        """Begin a unit of work: `with tracker.request(...) as request`, or `async with`.

        What is unusable, such as a user called "None", is counted and left out. Inside of another request, what that
        one knows is kept, unless it is another user's.

        Args:
            user_id: For whom the work is done; may become known later, see `Request.bind_user`.
            request_id: The unit of work; made when not given.
            session_id: The session that the request expects to get; when it is over and never got it, it says so.
            thread_id: The conversation it belongs to.
            run_id: The run it belongs to.
            metadata: Anything else; copied.
        """
        given = {
            "user_id": user_id,
            "request_id": request_id,
            "session_id": session_id,
            "thread_id": thread_id,
            "run_id": run_id,
            "metadata": metadata,
        }
        return Request(given, self._count_failure)

    def shielded(self, hook: str) -> Shield:
        """Protect the application from a hook: an Exception in the block is counted under the hook's name."""
        return Shield(self._outlet, hook if isinstance(hook, str) else TRACKER_HOOK)

    def register_hook(self, name: str, *, active: bool = True) -> None:
        """Report that a hook is installed, or no longer."""
        with self._shield:
            self._outlet.register_hook(name, active=active)

    def open(self) -> None:
        """Make this process visible as a worker before its first event."""
        if self._disabled:
            return
        with self._shield:
            self._outlet.open()

    def reporter(self, hook: str) -> Reporter:
        """What a hook of this name reports with; declared as active with its first `register`."""
        return Reporter(self._outlet, hook, clock_ns=self._clock_ns)

    @property
    def disabled(self) -> bool:
        """Whether the environment says that nothing is to be recorded."""
        return self._disabled

    def close(self) -> None:
        """Let go of the journal; an event that still comes opens it anew."""
        with self._shield:
            self._outlet.close()

    def _record(self, kind: int, scope: str, session: str, user: object, key: object, *rest: object) -> None:
        at_us = self._clock_ns() // 1000
        request = current_request()
        name = self._scopes.get(scope) or self._new_scope(scope)
        whose, device = self._user(user), canonical_id(key, "key")
        trace = trace_id(self._count_failure) if OPENTELEMETRY in sys.modules else _NO_TRACE
        request_id = "" if request is None else request.request_id
        if request is not None and kind in _FILLINGS and (expected := request.expected_before(name, session)):
            rest = (*rest, *_FILLINGS[kind], expected)
        self._outlet.append((kind, at_us, name, session, whose, device, request_id, trace, *rest))
        if request is not None:
            how, met, sites = _noted(kind, session, rest)
            request.note(self._reporter, how, name, met, at_us, whose, trace, sites)

    def _user(self, user: object) -> str:
        if user is not None:
            return canonical_id(user, "user")
        request = current_request()
        return "" if request is None else request.find_user()

    def _new_scope(self, scope: object) -> str:
        name = _name(scope, "scope")
        if len(self._scopes) < SCOPES_REMEMBERED_MAX:
            self._scopes[name] = name
        return name

    def _or_zero(self, reader: Callable[[object], int], value: object) -> int:
        """What says nothing is left out, and counted; the event is worth recording without it."""
        with self._shield:
            return reader(value)
        return 0

    def _any_text(self, value: object, name: str) -> str:
        with self._shield:
            return canonical_id(value, name)
        return ""

    def _count_failure(self, error: Exception) -> None:
        self._outlet.count_failure(TRACKER_HOOK, error)


def _name(value: object, argument: str) -> str:
    if not isinstance(value, str):
        raise IdError(f"{argument} must be a str, not {type(value).__name__}")
    return canonical_id(value, argument)


def _noted(kind: int, session: str, rest: tuple[Any, ...]) -> tuple[int, str, tuple[str, ...] | None]:
    """What an event means for the course of its request: how it came to which session, and where."""
    if kind == _LOOKED_UP and not session:
        return MISSED, rest[_ASKED] if len(rest) > _ASKED else "", rest[0]
    if kind in _HOW:
        how, has_sites = _HOW[kind]
        return how, session, rest[0] if has_sites else None
    return MENTIONED, "", ()
