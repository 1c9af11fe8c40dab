"""What a kill campaign must have counted, worked out offline from what its workers wrote down."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from session_exporter.core.scopes import END_REASONS, OTHER_SCOPE

Counts = Counter[tuple[str, ...]]


class Recorded(NamedTuple):
    """One event of one worker; `more` is an end's reason or a loss's actual session."""

    at_us: int
    kind: str
    scope: str
    user: str
    key: str
    session: str
    more: str
    request: str
    worker: str


class Books(NamedTuple):
    """All events: those that are certain, and for each killed worker at most one that may be in or out."""

    certain: list[Recorded]
    unsure: list[Recorded]


def read_books(directory: Path) -> Books:
    """Read the logs of all workers, in their order."""
    books = Books([], [])
    for path in sorted(directory.glob("*.log")):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        # A line that was cut off belongs to a call that had not begun.
        events = [line for line in lines if line != ".\n" and line.endswith("\n")]
        done = lines.count(".\n")
        assert done <= len(events) <= done + 1, path
        recorded = [Recorded(*json.loads(line), path.stem) for line in events]
        books.certain.extend(recorded[:done])
        books.unsure.extend(recorded[done:])
    return books


def expected(events: Iterable[Recorded], windows_us: dict[str, int], many: set[str]) -> Counts:
    """Count as the sidecar must: keys are a metric's name and its labels' values in order."""
    counting = _Counting(windows_us, many)
    for event in events:
        counting.take(event)
    counting.find_duplicates()
    return counting.counts


class _Counting:
    """One pass over the events, each worker's in its order."""

    def __init__(self, windows_us: dict[str, int], many: set[str]) -> None:
        self.counts: Counts = Counter()
        self._windows_us = windows_us
        self._many = many
        self._looked: Counts = Counter()
        self._seen: set[tuple[str, ...]] = set()
        self._timelines: dict[tuple[str, ...], list[Recorded]] = defaultdict(list)

    def take(self, event: Recorded) -> None:
        scope = event.scope if event.scope in self._windows_us else OTHER_SCOPE
        self.counts["session_exporter_events_total", event.kind] += 1
        if event.kind == "created":
            self._created(event, scope)
        elif event.kind == "reused":
            self.counts["session_reuses_total", scope] += 1
        elif event.kind in {"looked_up", "observed"}:
            self._looked_up(event, scope)
        elif event.kind == "ended":
            self.counts["session_ends_total", scope, event.more if event.more in END_REASONS else "other"] += 1
        elif event.kind == "context_lost":
            self.counts["session_context_loss_total", scope, "reported"] += 1

    def find_duplicates(self) -> None:
        for (scope, *_), timeline in self._timelines.items():
            timeline.sort()
            for first, second in pairwise(timeline):
                if second.at_us - first.at_us < self._windows_us[scope]:
                    self.counts["session_rapid_duplicate_creates_total", scope, _cause(first, second)] += 1

    def _created(self, event: Recorded, scope: str) -> None:
        self.counts["session_creates_total", scope] += 1
        self._first_time(event, scope)
        if scope not in self._many:
            self._timelines[scope, event.user, event.key].append(event)
        elif event.request:
            self._timelines[scope, event.user, event.key, event.request].append(event)

    def _looked_up(self, event: Recorded, scope: str) -> None:
        self.counts["session_lookups_total", scope] += 1
        if event.session:
            self.counts["session_reuses_total", scope] += self._first_time(event, scope)
        if event.request:
            lookup = (event.request, scope, event.user, event.key)
            self._looked[lookup] += 1
            self.counts["session_redundant_lookups_total", scope] += self._looked[lookup] > 1

    def _first_time(self, event: Recorded, scope: str) -> bool:
        pair = (event.request, scope, event.session)
        first = not event.request or pair not in self._seen
        self._seen.add(pair)
        return first


def _cause(first: Recorded, second: Recorded) -> str:
    if first.request and first.request == second.request:
        return "same_request"
    return "same_worker" if first.worker == second.worker else "cross_worker"


def settle(books: Books, was_recorded: Callable[[Recorded], bool]) -> Books:
    """Decide for every unsure create whether it is in: only creates have a bearing on others."""
    creates = [event for event in books.unsure if event.kind == "created"]
    others = [event for event in books.unsure if event.kind != "created"]
    return Books(books.certain + [event for event in creates if was_recorded(event)], others)
