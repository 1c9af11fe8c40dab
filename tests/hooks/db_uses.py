"""What tests of database sessions share: a clock, and what a journal in memory says of uses."""

from collections import Counter

from recorder import Recorder

from session_exporter.core.events import DbSession, Violated


class Monotonic:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


class Uses:
    """Reads a journal.

    Args:
        journal: What the hook reports to.
    """

    def __init__(self, journal: Recorder) -> None:
        self.journal = journal

    @property
    def ended(self) -> list[DbSession]:
        """Uses that are over."""
        return [event for event in self.journal.events if isinstance(event, DbSession)]

    @property
    def only(self) -> DbSession:
        """The one use that is over."""
        (event,) = self.ended
        return event

    @property
    def outcomes(self) -> list[str]:
        """How uses ended."""
        return [event.outcome for event in self.ended]

    @property
    def violations(self) -> list[Violated]:
        """Borders that were crossed."""
        return [event for event in self.journal.events if isinstance(event, Violated)]

    @property
    def kinds(self) -> Counter[str]:
        """How often each kind was crossed."""
        return Counter(event.kind for event in self.violations)

    @property
    def opened(self) -> int:
        """Uses that began."""
        return self.journal.counts["db_sessions_opened"]

    @property
    def leaked(self) -> int:
        """Uses that were open for too long."""
        return self.journal.counts["db_sessions_leaked"]

    @property
    def open(self) -> int:
        """Uses that are open, as the process shows it."""
        return self.journal.gauges.get("db_open_sessions", 0)
