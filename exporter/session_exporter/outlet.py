"""The way from the tracker to the journal: opened with the first event, shared by a process, and never in the way."""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path, PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, TypeVar
from weakref import WeakSet

from session_exporter.errors import SessionExporterError

if TYPE_CHECKING:
    from session_exporter.journal import JournalLimits

T = TypeVar("T")
Fields: TypeAlias = tuple[object, ...]

TRACKER_HOOK: Final = "tracker"

# What waits in memory while the journal cannot be opened, or is being opened further up on the same thread.
EVENTS_WAITING_MAX: Final = 1000
FAILURES_WAITING_MAX: Final = 10_000
HOOKS_MAX: Final = 64
RETRY_AFTER_S: Final = 5.0
LOG_INTERVAL_S: Final = 60.0

_logger = logging.getLogger("session_exporter")


class Journal(Protocol):
    """What the tracker needs of a journal's writer; all of it may be called from any thread."""

    def append(self, fields: Fields, /) -> None:
        """Record one event: its kind's number, then its fields."""

    def register_hook(self, name: str, active: bool, /) -> object:  # noqa: FBT001 - the writer's own signature
        """Report that a hook is installed, or no longer."""

    def count_hook_error(self, name: str, /) -> None:
        """Count one failure of a hook."""

    def open(self) -> None:
        """Be visible before the first event."""

    def set_gauge(self, name: str, value: int, /) -> None:
        """Show a gauge of the process."""

    def add_count(self, name: str, amount: int, /) -> None:
        """Add to a count of the process."""

    def pool_waited(self, duration_us: int, /) -> None:
        """Count how long a connection was waited for, microseconds."""

    def close(self) -> None:
        """Leave nothing open."""


class _Shelf:
    """The journals that are open in this process, by directory, and the outlets that use them."""

    def __init__(self) -> None:
        # Reentrant: a finalizer or signal handler may come back while this very thread is opening a journal.
        self.lock = threading.RLock()
        self.opening = False
        self.journals: dict[str, Journal] = {}
        self.users: dict[str, int] = {}
        self.outlets: WeakSet[Outlet] = WeakSet()
        self.diverted: Path | None = None

    def take(
        self, directory: str | os.PathLike[str] | None, limits: "JournalLimits | None", replica: str
    ) -> tuple[str, Journal]:
        """The journal of a directory, opened if need be, and the key to give it back with; the lock is held."""
        from session_exporter.journal import JournalWriter, find_directory  # noqa: PLC0415 - lazy

        path = self.diverted or find_directory(None if directory is None else Path(directory))
        key = os.path.realpath(path)
        journal = self.journals.get(key)
        if journal is None:
            journal = self.journals[key] = JournalWriter(path, limits=limits, replica=replica)
        self.users[key] = self.users.get(key, 0) + 1
        return key, journal

    def give_back(self, key: str) -> None:
        """One user less; the last one closes the journal."""
        with self.lock:
            self.users[key] -= 1
            journal = None if self.users[key] else self.journals.pop(key)
        if journal is not None:
            journal.close()


_shelf = _Shelf()


def _after_fork() -> None:
    # The thread that held the lock, or was opening a journal, does not exist in the child.
    _shelf.lock = threading.RLock()
    _shelf.opening = False


os.register_at_fork(after_in_child=_after_fork)


def divert(directory: Path | None) -> Path | None:
    """Have all outlets of this process write to one directory; None, each to its own. Returns what it was before."""
    with _shelf.lock:
        before, _shelf.diverted = _shelf.diverted, directory
        outlets = list(_shelf.outlets)
    for outlet in outlets:
        outlet.close()
    return before


class Outlet:
    """Delivers events and failures to a journal, and keeps a bounded number of them until there is one.

    Args:
        directory: The journal's directory, as the application gave it.
        journal: Used instead of opening one; it stays the giver's to close.
        limits: What bounds the journal, when this outlet is the first of the process to open it; None for the defaults.
        replica: The host or pod name, likewise; `""` for `$HOSTNAME` or the kernel's.
        silent: Deliver nothing at all.
        clock_s: Monotonic seconds.

    Attributes:
        append: Record one event; once the journal is open, this is the journal's own `append`.
        silent: As given.
        uncounted: Failures at the very end of the stack, to be counted with the next one.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        journal: Journal | None = None,
        *,
        limits: "JournalLimits | None" = None,
        replica: str = "",
        silent: bool = False,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.append: Callable[[Fields], None] = self._append_first
        self.silent = silent
        self.uncounted = 0
        self._directory = directory
        self._given = journal
        self._limits = limits
        self._replica = replica
        self._journal: Journal | None = None
        self._key = ""
        self._clock_s = clock_s
        self._retry_at_s = float("-inf")
        self._pid = os.getpid()
        # Appending to a deque, and popping from it, is atomic: no lock that a signal handler could find held.
        self._events: deque[Fields] = deque()
        self._failures: deque[str] = deque(maxlen=FAILURES_WAITING_MAX)
        self._figures: deque[tuple[str, tuple[str | int, ...]]] = deque(maxlen=FAILURES_WAITING_MAX)
        self._hooks: dict[str, bool] = {}
        self._log_at_s: dict[str, float] = {}

    def register_hook(self, name: str, *, active: bool) -> None:
        """Report a hook to the journal, now or when there is one."""
        if len(self._hooks) < HOOKS_MAX or name in self._hooks:
            self._hooks[name] = active
        if self._journal is not None:
            self._journal.register_hook(name, active)

    def set_gauge(self, name: str, value: int) -> None:
        """Show a gauge of this process, now or when there is a journal."""
        self._figure("set_gauge", name, value)

    def add_count(self, name: str, amount: int) -> None:
        """Add to a count of this process."""
        self._figure("add_count", name, amount)

    def pool_waited(self, duration_us: int) -> None:
        """Count how long a connection was waited for, microseconds."""
        self._figure("pool_waited", duration_us)

    def open(self) -> None:
        """Make this worker visible before its first event."""
        if self.silent:
            return
        self._forget_the_parent()
        if self._journal is None:
            self._open()
        if self._journal is not None:
            self._journal.open()

    def count_failure(self, hook: str, error: BaseException, *, told: bool = False) -> None:
        """Count a failure under this hook, and log it once per hook and minute; never raises an Exception.

        `told`: the hook has logged it.
        """
        if self.silent:
            return
        try:
            self._forget_the_parent()
            self._failures.append(hook)
            if self._journal is None:
                self._open_for_failures()
            self._deliver_failures()
            if not told:
                self._log(hook, error)
        except Exception:  # noqa: BLE001 - the way out of every failure cannot itself fail; this one is counted too
            self._failures.append(TRACKER_HOOK)

    def close(self) -> None:
        """Let go of the journal; the next event opens it anew."""
        self._deliver_failures()
        with _shelf.lock:
            key, self._key = self._key, ""
            self._journal = None
            self.append = self._append_first
        if key:
            _shelf.give_back(key)

    def _figure(self, method: str, *arguments: str | int) -> None:
        if self.silent:
            return
        if self._journal is None:
            self._forget_the_parent()
            self._figures.append((method, arguments))
            self._open_for_failures()
        else:
            getattr(self._journal, method)(*arguments)

    def _append_first(self, fields: Fields) -> None:
        self._forget_the_parent()
        self._events.append(fields)
        while len(self._events) > EVENTS_WAITING_MAX:
            self._events.popleft()
            self._failures.append(TRACKER_HOOK)
        self._open()
        self._deliver_events()
        self._deliver_failures()

    def _open(self) -> None:
        """Open the journal, unless that failed a moment ago or is under way further up on this thread."""
        if self._clock_s() < self._retry_at_s:
            return
        with _shelf.lock:
            if self._journal is not None or _shelf.opening:
                return
            _shelf.opening = True
            self._retry_at_s = self._clock_s() + RETRY_AFTER_S
            try:
                self._take()
            finally:
                _shelf.opening = False
            self._retry_at_s = float("-inf")

    def _open_for_failures(self) -> None:
        """An application whose every call fails is to be seen as well; its failures wait when that cannot be."""
        try:
            self._open()
        except Exception as error:  # noqa: BLE001 - logged; the next event or failure tries again
            self._log(TRACKER_HOOK, error)

    def _take(self) -> None:
        if self._given is not None:
            journal = self._given
        else:
            self._key, journal = _shelf.take(self._directory, self._limits, self._replica)
            _shelf.outlets.add(self)
        self._journal = journal
        self.append = journal.append
        for name, active in list(self._hooks.items()):
            journal.register_hook(name, active)
        while self._figures:
            method, arguments = self._figures.popleft()
            getattr(journal, method)(*arguments)

    def _deliver_events(self) -> None:
        journal = self._journal
        while journal is not None and (fields := _first(self._events)) is not None:
            journal.append(fields)

    def _deliver_failures(self) -> None:
        journal = self._journal
        while self.uncounted:
            self.uncounted -= 1
            self._failures.append(TRACKER_HOOK)
        while journal is not None and (hook := _first(self._failures)) is not None:
            journal.count_hook_error(hook)

    def _forget_the_parent(self) -> None:
        """In a forked child: what waits is the parent's to deliver, or it would be counted twice."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._events.clear()
            self._failures.clear()
            self._figures.clear()

    def _log(self, hook: str, error: BaseException) -> None:
        now_s = self._clock_s()
        if now_s < self._log_at_s.get(hook, now_s):
            return
        if len(self._log_at_s) >= HOOKS_MAX:
            self._log_at_s.clear()
        self._log_at_s[hook] = now_s + LOG_INTERVAL_S
        _logger.warning("hook %s failed, the application goes on without it: %s", hook, _described(error))


class Shield:
    """A context manager that counts an Exception and goes on after the block; other BaseExceptions pass."""

    __slots__ = ("_hook", "_outlet")

    def __init__(self, outlet: Outlet, hook: str) -> None:
        self._outlet = outlet
        self._hook = hook

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        try:
            self._outlet.count_failure(self._hook, error)
        except RecursionError:  # no stack is left to call anything
            self._outlet.uncounted += 1
        return True


def _first(waiting: deque[T]) -> T | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None


def _described(error: BaseException) -> str:
    """What is safe to log: our own errors name no value, a foreign one's text might be a session's id."""
    if isinstance(error, SessionExporterError):
        return str(error)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    return f"{type(error).__name__} at {PurePath(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
