"""How many database sessions are open, as this process shows it."""

from collections.abc import Sized
from typing import Final

from session_exporter.reporter import Reporter

# Attempts to show a number that other threads are changing.
_ATTEMPTS_MAX: Final = 3


class OpenUses:
    """Shows the uses of Sessions that are open, the most there have been, and those that are open for too long.

    Args:
        reporter: The hook's.
    """

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._peak = self._overdue = 0

    def show(self, opened: Sized, overdue: Sized) -> None:
        """Show how many there are now."""
        shown = -1
        for _ in range(_ATTEMPTS_MAX):
            if len(opened) == shown:
                break
            shown = len(opened)
            self._reporter.set_gauge("db_open_sessions", shown)
            if shown > self._peak:
                self._peak = shown
                self._reporter.set_gauge("db_peak_open_sessions", shown)
        if len(overdue) != self._overdue:
            self._overdue = len(overdue)
            self._reporter.set_gauge("db_overdue_sessions", self._overdue)

    def forget(self) -> None:
        """Begin anew, as a forked child does."""
        self._peak = self._overdue = 0
