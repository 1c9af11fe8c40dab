"""Times the tracker's calls beside those of its peers, and prints the times of every round as JSON."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from timeit import Timer
from typing import Any, Final, TypeVar

import peers
from feeding import session_of, user_of
from rounds import take_turns
from situations import CREATED, IN_REQUEST, IN_SPAN, OURS, WITHOUT_OPENTELEMETRY, WITHOUT_SPAN

from session_exporter import SessionTracker
from session_exporter.journal import JournalReader

T = TypeVar("T")
CALLS: Final = 4_000
CREATES: Final = 1_000
STACK_DEPTH: Final = 20


class Drain:
    """Reads and deletes what was recorded, as a sidecar would, so that the journal stays below its limits."""

    def __init__(self, directory: Path) -> None:
        self._reader = JournalReader(directory, {})
        self._reader.lock()
        self.found: Counter[str] = Counter()

    def __call__(self) -> None:
        self._reader.scan()
        while (batch := self._reader.read()) is not None:
            self.found.update(type(event).__name__ for event in batch.events)
        self._reader.release(self._reader.positions())

    def check(self, expected: dict[str, int]) -> None:
        """Raise RuntimeError unless exactly these events were read, and the writer lost none."""
        lost = [control.lost for control in self._reader.controls() if any(control.lost.values())]
        if dict(self.found) != expected or lost:
            raise RuntimeError(f"recorded {expected}, read {dict(self.found)}, lost {lost}")


@contextmanager
def _span() -> Iterator[None]:
    from opentelemetry.sdk.trace import TracerProvider

    with TracerProvider().get_tracer("bench").start_as_current_span("bench"):
        yield


def measure(place: Path, rounds: int) -> dict[str, Any]:
    """Microseconds per call: by situation, then by who was called, one for each round."""
    tracker = SessionTracker(place / "journal")
    drain = Drain(place / "journal")
    ids = {"user": user_of(1), "session": session_of(1)}
    reuse = Timer("reused(user, session)", globals={"reused": tracker.reused, **ids})
    create = Timer("created(user, session)", globals={"created": tracker.created, **ids})

    def turns(timers: Mapping[str, Timer], calls: int = CALLS) -> dict[str, list[float]]:
        return take_turns(timers, rounds=rounds, calls=calls, between=drain)

    with peers.statsd() as statsd:
        timers = {OURS: reuse, peers.PROMETHEUS: peers.prometheus(place / "prometheus"), **statsd}
        taken: dict[str, Any] = {WITHOUT_OPENTELEMETRY: turns(timers)}
        # From here on it is loaded, and so each call asks it for the current span.
        timers[peers.OPENTELEMETRY] = peers.opentelemetry()
        taken[WITHOUT_SPAN] = turns(timers)
        with _span():
            taken[IN_SPAN] = turns(timers)
        with tracker.request(user_id=ids["user"]):
            taken[IN_REQUEST] = turns(timers)
    taken[CREATED] = _below(STACK_DEPTH, lambda: turns({OURS: create}, CREATES))
    drain.check({"Reused": 4 * (rounds + 1) * CALLS, "Created": (rounds + 1) * CREATES})
    tracker.close()
    return taken


def _below(frames: int, call: Callable[[], T]) -> T:
    return call() if frames == 0 else _below(frames - 1, call)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
