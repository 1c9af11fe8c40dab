"""The newest events of all users, kept for a while: what tells the story of an incident.

Taking events in costs next to nothing: whole batches are kept as they come, and whole batches leave. They are looked at
only when an incident waits to be told, and then the ids of each batch are hashed once, whatever comes after. Two
commits may be a quarter of a million events apart: before events leave, the incidents are told that may need them.

One thread at a time may call.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from session_exporter.core.batches import EventBatch, EventBatches, Hashes, Index
from session_exporter.core.events import Event, Writer
from session_exporter.core.incidents import Incident
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.recollection import Recollection, Remembered, is_noise, trace_of
from session_exporter.core.scopes import Limits, ScopeRules
from session_exporter.core.vicinity import Errors, NearEvent, Vicinity

# Some 600 bytes each.
EVENTS_MAX: Final = 100_000
# So many leave at once when incidents had to be told because there was no more room: that costs a pass over all.
SHED: Final = EVENTS_MAX // 4
# What a clean stop hands on to the next start: some 200 bytes each.
KEPT_MAX: Final = 10_000
_PIECE: Final = 1000


class Trail:
    """Remembers events, and adds to each incident those of its users and sessions.

    Args:
        names: Digests of ids.
        limits: How many events of a user are told, and how long events are remembered.

    Attributes:
        careful: Go on without the stories of incidents that cannot be told, instead of failing.
    """

    careful = False

    def __init__(self, names: Pseudonyms, limits: Limits) -> None:
        self._batches = EventBatches()
        self._windows_us: dict[str, int] = {}
        self._settled = 0
        self._untold = 0
        self._names = names
        self.go_under(names, limits)

    @property
    def count(self) -> int:
        """How many events are remembered."""
        return len(self._batches)

    def go_under(self, names: Pseudonyms, limits: Limits) -> None:
        """Go on with other names and limits, before scopes are declared; names under another key forget everything."""
        if not limits.trail_events_per_user or names.digest("check") != self._names.digest("check"):
            self._batches.clear()
        self._names, self._recollection = names, Recollection(names)
        self._per_user = limits.trail_events_per_user
        self._retention_us = limits.trail_retention_us
        self._wanted: deque[Incident] = deque(maxlen=limits.max_incidents)

    def declare(self, rules: Mapping[str, ScopeRules]) -> None:
        """Learn which scopes there are; ids of sessions in all others are digested with the name of their scope."""
        self._windows_us = {name: each.duplicate_window_us for name, each in rules.items()}
        self._recollection = Recollection(self._names, rules)
        for batch in self._batches:
            batch.forget_index()

    def add(self, events: Sequence[Event], writer: Writer) -> None:
        """Remember events of one writer."""
        if events and self._per_user:
            # The garbage collector soon leaves a tuple of events alone, and with it a million sessions: it looks at
            # everything once enough has been added that it has to look at.
            self._batches.append(tuple(events if len(events) <= EVENTS_MAX else events[-EVENTS_MAX:]), writer)
            if len(self._batches) > EVENTS_MAX:
                self._make_room()

    def want(self, incident: Incident) -> None:
        """Have an incident told with the next `tell`."""
        if self._per_user:
            self._wanted.append(incident)

    def tell(self) -> None:
        """Add to each incident that was wanted what is remembered of its users and sessions."""
        if not self._wanted:
            return
        try:
            self._tell()
        except Exception:
            if not self.careful:
                raise
            self._untold += len(self._wanted)
        self._wanted.clear()

    def _tell(self) -> None:
        vicinity = Vicinity(self._wanted, self._per_user, self._retention_us)
        hashes = Hashes(self._names)
        for batch in self._batches:
            batch.index(hashes, self._recollection)
            _collect(batch, batch.users, vicinity.users, vicinity.tells_of_user)
            _collect(batch, batch.sessions, vicinity.sessions, vicinity.tells_of_session)
        vicinity.sort()
        self._add_timelines(vicinity)
        self._add_errors(Errors(self._names, self._windows_us, self._wanted))

    def take_untold(self) -> int:
        """How many incidents could not be told since this was last asked."""
        untold, self._untold = self._untold, 0
        return untold

    def forget(self, now_us: int) -> None:
        """Forget the batches that were over before the retention."""
        self._batches.forget_before(now_us - self._retention_us)

    # A sidecar that goes on from its last commit reads again what came after it.

    def settle(self) -> None:
        """Note that what was added so far is committed, and will not be added again."""
        self._settled = self._batches.added

    def go_on(self, events: Sequence[Remembered] = ()) -> None:
        """Forget what was added, and what was wanted, since `settle`; take over what a clean stop handed on."""
        self._wanted.clear()
        self._batches.forget_from(self._settled)
        for start in range(0, len(events) if self._per_user else 0, _PIECE):
            self._batches.append(events[start : start + _PIECE], Writer(""))

    def kept(self) -> list[Remembered]:
        """What a clean stop hands on to the next start: the newest events, oldest first."""
        newest: list[Remembered] = []
        for batch in reversed(self._batches):
            events = [event for event in batch.events if not is_noise(event)]
            newest.extend(self._remembered(event, batch.writer) for event in reversed(events))
            if len(newest) >= KEPT_MAX:
                break
        return newest[:KEPT_MAX][::-1]

    def _make_room(self) -> None:
        most = EVENTS_MAX
        if self._wanted:
            self.tell()
            most -= SHED
        self._batches.shrink(most)

    def _add_timelines(self, vicinity: Vicinity) -> None:
        finder = self._batches.finder()
        # One event may be told with many incidents, and is turned into a document once.
        told: dict[int, dict[str, Any]] = {}
        for incident in self._wanted:
            orders = vicinity.around(incident)
            for order in orders:
                if order not in told:
                    told[order] = self._recollection.told(self._remembered(*finder[order]))
            incident.detail["timeline"] = [told[order] for order in orders]

    def _add_errors(self, errors: Errors) -> None:
        for batch in self._batches:
            for index in _troubles_near(batch, errors):
                errors.add(batch.number + index, self._remembered(batch.events[index], batch.writer))
        errors.sort()
        for incident in self._wanted:
            error = errors.before(incident)
            if error is not None:
                incident.detail["db_error"] = self._recollection.told_error(error, incident.at_us)

    def _remembered(self, event: Event | Remembered, writer: Writer) -> Remembered:
        return event if isinstance(event, Remembered) else self._recollection.of(event, writer)


def _troubles_near(batch: EventBatch, errors: Errors) -> Iterator[int]:
    """Which errors of a batch have to do with any incident: when a database is down, there are as many as events."""
    begin_us, end_us = errors.span_us
    for index, request in zip(batch.troubles, batch.requests, strict=True):
        event = batch.events[index]
        if begin_us <= event.at_us <= end_us and (
            request in errors.requests or batch.users[index] in errors.users or trace_of(event) in errors.traces
        ):
            yield index


def _collect(
    batch: EventBatch,
    hashes: Index,
    wanted: dict[int, list[NearEvent]],
    tells: Callable[[Event | Remembered, int], bool],
) -> None:
    # Most batches have nothing to do with any incident; that takes no step of the interpreter for each event.
    if wanted.keys().isdisjoint(hashes):
        return
    for index, value in enumerate(hashes):
        if value in wanted and tells(event := batch.events[index], value):
            wanted[value].append(NearEvent(event.at_us, batch.number + index, batch.users[index]))
