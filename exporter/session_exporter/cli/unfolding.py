"""Events as they come from the journal, put into order: by themselves, or as what the ledger makes of them."""

import time
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import Generic, Protocol, TypeAlias, TypeVar

from session_exporter.cli.tailing import Record, event_record, verdict_record
from session_exporter.config import Config
from session_exporter.core.events import Event, Writer
from session_exporter.core.ledger import Ledger
from session_exporter.core.population import Known
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.tally import Verdict
from session_exporter.journal import Batch

Written: TypeAlias = tuple[Event, Writer]
T = TypeVar("T")


class Unfolding(Protocol):
    """Batches in, records out, in order of event time as far as that is known.

    `behind_us` is the event time that the writer furthest behind has been read up to, None when all is read.
    """

    def add(self, batch: Batch) -> None:
        """Take in what was read."""

    def due(self, behind_us: int | None) -> Iterator[Record]:
        """What no unread event can precede any more."""

    def caught_up(self, behind_us: int | None) -> Iterator[Record]:
        """What can be shown when nothing more can be read for now."""

    def rest(self) -> Iterator[Record]:
        """All that is left: nothing more will come."""


class _ByTime(Generic[T]):
    """What waits for its turn; ties leave in the order in which they came."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, T]] = []
        self._arrivals = 0

    def add(self, at_us: int, item: T) -> None:
        self._arrivals += 1
        heappush(self._heap, (at_us, self._arrivals, item))

    def until(self, time_us: int | None) -> Iterator[T]:
        """Take out what is not later than `time_us`, everything for None."""
        while self._heap and (time_us is None or self._heap[0][0] <= time_us):
            yield heappop(self._heap)[2]


class RecordedEvents:
    """Every event, as the hooks recorded it.

    The reader serves the writer that is furthest behind, so what waits here is one piece of each other writer at most.

    Args:
        names: Makes the pseudonyms.
    """

    def __init__(self, names: Pseudonyms) -> None:
        self._names = names
        self._waiting = _ByTime[Written]()

    def add(self, batch: Batch) -> None:
        """Take in what was read."""
        for event in batch.events:
            self._waiting.add(event.at_us, (event, batch.writer))

    def due(self, behind_us: int | None) -> Iterator[Record]:
        """The events up to the time that all writers have been read to."""
        return (event_record(event, writer, self._names) for event, writer in self._waiting.until(behind_us))

    def caught_up(self, behind_us: int | None) -> Iterator[Record]:  # noqa: ARG002 - none is kept back for long
        """All events."""
        return self.due(None)

    def rest(self) -> Iterator[Record]:
        """All events."""
        return self.due(None)


class _Memory:
    """The long memory of a ledger that has no state: it forgets nothing while the command runs.

    Args:
        ids_max: How many ids it holds; beyond them the oldest leave.
    """

    def __init__(self, ids_max: int) -> None:
        self._known: dict[tuple[int, bytes], Known] = {}
        self._ids_max = ids_max

    def find(self, scope: int, session: bytes) -> Known | None:
        return self._known.get((scope, session))

    def learn(self, ledger: Ledger) -> None:
        """Keep what has left the ledger; the ledger takes all its changes as stored."""
        for judge in ledger.judges.values():
            left = judge.people.left_sessions.items()
            self._known.update({(judge.number, session): known for session, known in left if known is not None})
        ledger.forget_changes()
        while len(self._known) > self._ids_max:
            del self._known[next(iter(self._known))]


class Verdicts:
    """What a ledger makes of the events, judged by the watermark as in the sidecar.

    What is counted on arrival, such as a lookup, waits for the watermark like the rest, so that the verdicts come in
    order of event time. The exceptions are those that are known only one lateness later: adoptions and deletions.

    Args:
        config: Scopes, limits and lateness.
        names: For the ledger's digests, and for the pseudonyms made of them.
        extra_us: How much longer a verdict waits, microseconds: the lateness brings the exceptions into order too.
        clock_ns: Nanoseconds since the Unix epoch.
    """

    def __init__(
        self,
        config: Config,
        names: Pseudonyms,
        *,
        extra_us: int = 0,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._names = names
        self._lateness_us = config.lateness_us
        self._extra_us = extra_us
        self._clock_ns = clock_ns
        self._waiting = _ByTime[Verdict]()
        self._memory = _Memory(config.limits.known_ids_max)
        self._ledger = Ledger(
            config.scopes,
            names=names,
            known=self._memory,
            limits=config.limits,
            lateness_us=config.lateness_us,
            listener=lambda verdict: self._waiting.add(verdict.at_us, verdict),
        )

    def add(self, batch: Batch) -> None:
        """Let the ledger take in what was read."""
        self._ledger.apply(batch.events, batch.writer)

    def due(self, behind_us: int | None) -> Iterator[Record]:
        """Move the watermark, and give the verdicts it has passed."""
        now_us = self._clock_ns() // 1000 - self._lateness_us
        watermark_us = now_us if behind_us is None else min(now_us, behind_us)
        self._ledger.advance(watermark_us)
        self._memory.learn(self._ledger)
        return self._until(watermark_us - self._extra_us)

    def caught_up(self, behind_us: int | None) -> Iterator[Record]:
        """The same: the clock moves the watermark on, events or none."""
        return self.due(behind_us)

    def rest(self) -> Iterator[Record]:
        """Judge all that waits."""
        self._ledger.finish()
        return self._until(None)

    def _until(self, time_us: int | None) -> Iterator[Record]:
        return (verdict_record(verdict, self._names) for verdict in self._waiting.until(time_us))
