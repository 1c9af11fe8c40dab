"""view-metrics incidents --follow: what is new, as it comes."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from session_exporter.cli.source import Answer
from session_exporter.cli.watch import sigterm_interrupts
from session_exporter.errors import PeerError, SessionExporterError

INTERVAL_S: Final = 1.0


def follow(
    ask: Callable[[str | None], Answer],
    show: Callable[[Mapping[str, Any]], None],
    remark: Callable[[str], None],
    *,
    limit: int,
    interval_s: float = INTERVAL_S,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Show incidents, oldest first, and then each new one once; until SIGINT, SIGTERM, or nobody reads any more.

    What is new is told by the numbers that the state gives to incidents, so that a restart of the sidecar, or one that
    catches up with an old backlog, neither hides one nor shows it again.

    Args:
        ask: Asks for the newest incidents, or for those after what an answer called `next`; its first error ends all,
            any later one is remarked upon, and the question asked again.
        show: Shows one incident's document; may raise BrokenPipeError.
        remark: Tells people, once, what is not as before.
        limit: With how many incidents an answer is full, so that there may be more.
        interval_s: Seconds between an answer and the next question.
        wait: Sleeps for so many seconds.
    """
    try:
        with sigterm_interrupts():
            _follow(ask, show, _Remarks(remark), limit, lambda: wait(interval_s))
    except (KeyboardInterrupt, BrokenPipeError):
        return


def _follow(
    ask: Callable[[str | None], Answer],
    show: Callable[[Mapping[str, Any]], None],
    remarks: "_Remarks",
    limit: int,
    pause: Callable[[], None],
) -> None:
    answer = ask(None)
    found, after = _read(answer)
    found.reverse()
    note = answer.note
    while True:
        remarks.make(note)
        for incident in found:
            show(incident)
        if len(found) < limit:
            pause()
        try:
            answer = ask(after)
            found, after = _read(answer)
            note = answer.note
        except SessionExporterError as exc:
            found, note = [], str(exc)


def _read(answer: Answer) -> tuple[list[dict[str, Any]], str]:
    incidents, after = answer.document.get("incidents"), answer.document.get("next")
    if not isinstance(incidents, list) or not isinstance(after, str):
        raise PeerError(f"{answer.origin} does not tell what is new: expected a sidecar of this version")
    return incidents, after


class _Remarks:
    """Makes each remark once, until it is another one."""

    def __init__(self, make: Callable[[str], None]) -> None:
        self._make = make
        self._last = ""

    def make(self, text: str) -> None:
        if text and text != self._last:
            self._make(text)
        self._last = text
