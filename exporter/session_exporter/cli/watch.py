"""view-metrics --watch: look, show, wait, until somebody has seen enough."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from session_exporter.cli.documents import ShownIncident, Summary, incidents_of, summary_of
from session_exporter.cli.source import AnySource, Question
from session_exporter.errors import SessionExporterError

HEALTHY: Final = 0
UNHEALTHY: Final = 1
CANNOT_TELL: Final = 2
NEWEST: Final = 5


def exit_code(*, healthy: bool | None) -> int:
    """The process's exit code for a judgement: 0 healthy, 1 unhealthy, 2 when it cannot be told."""
    return CANNOT_TELL if healthy is None else HEALTHY if healthy else UNHEALTHY


@dataclass(frozen=True, slots=True)
class Reading:
    """One successful look: the document as it came and as read, the newest incidents, and where from."""

    document: dict[str, Any]
    summary: Summary
    incidents: tuple[ShownIncident, ...] = ()
    origin: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """What is known now: the last successful look, and why the newest one failed (`""` when it did not)."""

    reading: Reading | None = None
    failure: str = ""

    @property
    def exit_code(self) -> int:
        """The exit code if the watch ended now; what cannot be asked any more cannot be told."""
        if self.failure or self.reading is None:
            return CANNOT_TELL
        return exit_code(healthy=self.reading.summary.healthy)


def look(source: AnySource, question: Question, *, newest: int = NEWEST) -> Reading:
    """Ask once, for the summary and, unless `newest` is 0, that many incidents; raises as `summary` does."""
    answer = source.summary(question)
    reading = Reading(answer.document, summary_of(answer.document), origin=answer.origin, note=answer.note)
    if newest == 0:
        return reading
    return replace(reading, incidents=newest_of(source, question, newest))


def newest_of(source: AnySource, question: Question, count: int) -> tuple[ShownIncident, ...]:
    """Ask for the `count` newest incidents; raises as `incidents` does."""
    return tuple(incidents_of(source.incidents(replace(question, limit=count)).document)[:count])


def watch(
    once: Callable[[], Reading],
    show: Callable[[View], None],
    *,
    interval_s: float,
    wait: Callable[[float], None] = time.sleep,
) -> int:
    """Look and show again and again; ends on SIGINT, SIGTERM, or when nobody reads the output any more.

    Args:
        once: One look; its errors are shown, and the next look may succeed again.
        show: Shows what is known; may raise BrokenPipeError.
        interval_s: Seconds between the end of one look and the next.
        wait: Sleeps for so many seconds.

    Returns:
        The exit code of what was shown last.
    """
    view = View()
    try:
        with sigterm_interrupts():
            while True:
                view = _next(view, once)
                show(view)
                wait(interval_s)
    except (KeyboardInterrupt, BrokenPipeError):
        return view.exit_code


def _next(view: View, once: Callable[[], Reading]) -> View:
    try:
        return View(once())
    except SessionExporterError as exc:
        return replace(view, failure=str(exc))


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """A terminal whose cursor is hidden must be restored, however the watch is ended."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
