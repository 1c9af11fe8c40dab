"""Wrapping functions of the application that make, find or end sessions.

Each wrapped call is judged by its result, whatever made the session: a statement, a stored procedure, a request to
another service. What a subclass overrides is wrapped by naming the subclass; what it inherits is wrapped with the base.
"""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from session_exporter.core.scopes import DEFAULT_SCOPE
from session_exporter.errors import SessionExporterError
from session_exporter.mappings import CallMapping
from session_exporter.postimport import at_each_import
from session_exporter.tracker import SessionTracker

if TYPE_CHECKING:
    from session_exporter.hooks.call_places import Target

HOOK: Final = "calls"

Uninstall = Callable[[], None]

_logger = logging.getLogger("session_exporter")
_lock = threading.RLock()
_wrappings: Final[dict[CallMapping, "_Wrapping"]] = {}
_own_tracker: SessionTracker | None = None


def instrument(
    call: str,
    *,
    kind: str,
    scope: str = DEFAULT_SCOPE,
    user: str = "",
    session: str = "",
    key: str = "",
    created_at: str = "",
    reason: str = "other",
    tracker: SessionTracker | None = None,
) -> Uninstall:
    """Watch what a function of the application does with sessions.

    The function may be of any sort: plain, a coroutine function or generator (then the session is what it yields
    first), a method, one that is decorated. It is wrapped at once, or when the application imports its module. Where it
    cannot be, one line in the log says why, the hook is shown as inactive, and the application goes on.

    Args:
        call: `module:function` or `module:Class.method`.
        kind: `create`, `get`, `get_or_create`, `end` or `bind`.
        scope: The kind of session.
        user: Path of the user's id; `""` for the user of the request. For the paths, see `CallMapping`.
        session: Path of the session's id.
        key: Path of the device, app or thread.
        created_at: Path of when the session was created.
        reason: Why it ends, for kind `end`.
        tracker: What to report with.

    Returns:
        What puts the function back. Where the same has been told before, it does nothing.

    Raises:
        ValueError: One of these is nothing that it can be.
    """
    mapping = CallMapping(call, kind, scope, session, user, key, created_at, reason)
    return install_calls((mapping,), tracker)


def install_calls(mappings: Sequence[CallMapping], tracker: SessionTracker | None = None) -> Uninstall:
    """Watch functions of the application, as `instrument` does.

    Returns:
        What puts the functions back.
    """
    chosen = _chosen(tracker)
    if chosen.disabled:
        return lambda: None
    with _lock:
        wrappings = [_Wrapping(mapping, chosen) for mapping in dict.fromkeys(mappings) if mapping not in _wrappings]
        _wrappings.update((wrapping.mapping, wrapping) for wrapping in wrappings)
    for wrapping in wrappings:
        wrapping.begin()

    def uninstall() -> None:
        for wrapping in wrappings:
            wrapping.end()

    return uninstall


class _Wrapping:
    """A mapping in effect: its function is wrapped, or awaited, or cannot be.

    Args:
        mapping: What is told about the function.
        tracker: What to report with.
    """

    def __init__(self, mapping: CallMapping, tracker: SessionTracker) -> None:
        self.mapping = mapping
        self.works = True
        self.tracker = tracker
        self._reporter = tracker.reporter(HOOK)
        # More than one when its module was loaded anew. Whoever still refers to one keeps it.
        self._targets: WeakSet[Target] = WeakSet()
        self._forget: Uninstall | None = None

    def begin(self) -> None:
        """Wrap the function, now or when its module is imported."""
        self._reporter.register(active=_is_active(self.tracker))
        with self._reporter.shield:
            self._forget = at_each_import(self.mapping.call.partition(":")[0], self._wrap)

    def end(self) -> None:
        """Put the function back; once is enough."""
        with _lock, self._reporter.shield:
            if _wrappings.get(self.mapping) is not self:
                return
            del _wrappings[self.mapping]
            if self._forget is not None:
                self._forget()
            for target in list(self._targets):
                target.remove(self.mapping)
        self._reporter.register(active=_is_active(self.tracker))

    def _wrap(self, module: ModuleType) -> None:
        with self._reporter.shield:
            try:
                self._wrap_in(module)
            except Exception as error:  # noqa: BLE001 - told and counted; nothing of it may reach an import
                self.works = False
                self._tell(error)
            self._reporter.register(active=_is_active(self.tracker))

    def _wrap_in(self, module: ModuleType) -> None:
        # It imports wrapt, and that asyncio: not before the application has imported something of its own.
        from session_exporter.hooks.call_places import watch  # noqa: PLC0415

        with _lock:
            if _wrappings.get(self.mapping) is self:
                self._targets.add(watch(module, self.mapping, self._reporter))
                self.works = True

    def _tell(self, error: Exception) -> None:
        said = str(error) if isinstance(error, SessionExporterError) else type(error).__name__
        _logger.warning("hook %s: %s is not watched: %s", HOOK, self.mapping.call, said)
        self._reporter.count_failure(error, told=True)


def _chosen(tracker: SessionTracker | None) -> SessionTracker:
    """The tracker that was given, or the one that all share who gave none."""
    global _own_tracker  # noqa: PLW0603 - made once
    if tracker is not None:
        return tracker
    with _lock:
        _own_tracker = _own_tracker or SessionTracker()
        return _own_tracker


def _is_active(tracker: SessionTracker) -> bool:
    """Whether any function is watched, or awaited, with this tracker."""
    return any(wrapping.works for wrapping in list(_wrappings.values()) if wrapping.tracker is tracker)


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - whoever held it does not exist in the child
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)
