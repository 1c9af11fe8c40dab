"""Batches of events in the order in which they came, numbered through; the oldest leave first."""

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import TypeAlias, TypeGuard, cast

import msgspec

from session_exporter.core.events import Event, Writer
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.recollection import TROUBLESOME, Recollection, Remembered, is_trouble

Index: TypeAlias = "array[int]"
Events: TypeAlias = Sequence[Event] | Sequence[Remembered]


class EventBatch(msgspec.Struct, gc=False):
    """Events of one writer; remembered ones may be of many.

    Attributes:
        number: Of its first event, among all that were ever added.
        events: In the order recorded; never empty.
        writer: Who wrote them.
        users: Of each event, the hash of its user's digest, 0 for none; empty until somebody looks for users.
        sessions: Likewise.
        troubles: Which events are errors.
        requests: Of each error, the hash of what its request is called, 0 for none.
    """

    number: int
    events: Events
    writer: Writer
    users: Index = array("q")
    sessions: Index = array("q")
    troubles: tuple[int, ...] = ()
    requests: Index = array("q")

    def index(self, hashes: "Hashes", recollection: Recollection) -> None:
        """Find out whose events they are, unless that is known."""
        if self.users:
            return
        self.troubles = tuple(
            index for index, event in enumerate(self.events) if type(event) in TROUBLESOME and is_trouble(event)
        )
        labels = [recollection.request_label(self.events[index], self.writer) for index in self.troubles]
        self.requests = array("q", map(hash, labels))
        self.users, self.sessions = _hashed(self.events, hashes, recollection)

    def forget_index(self) -> None:
        """Have it made anew."""
        self.users = self.sessions = array("q")


class EventBatches:
    """All batches."""

    def __init__(self) -> None:
        self.added = 0
        self._batches: deque[EventBatch] = deque()
        self._count = 0

    def __len__(self) -> int:
        """How many events there are."""
        return self._count

    def __iter__(self) -> Iterator[EventBatch]:
        return iter(self._batches)

    def __reversed__(self) -> Iterator[EventBatch]:
        return reversed(self._batches)

    def append(self, events: Events, writer: Writer) -> None:
        """Add a batch."""
        self._batches.append(EventBatch(self.added, events, writer))
        self.added += len(events)
        self._count += len(events)

    def shrink(self, most: int) -> None:
        """Let the oldest leave until there are at most so many events, or only the newest batch is left."""
        while self._count > most and len(self._batches) > 1:
            self._count -= len(self._batches.popleft().events)

    def clear(self) -> None:
        """Let all leave."""
        self._batches.clear()
        self._count = 0

    def forget_before(self, time_us: int) -> None:
        """Let those leave that were over before a time."""
        while self._batches and self._batches[0].events[-1].at_us < time_us:
            self._count -= len(self._batches.popleft().events)

    def forget_from(self, number: int) -> None:
        """Let those leave that were added since `added` was `number`."""
        while self._batches and self._batches[-1].number >= number:
            self._count -= len(self._batches.pop().events)

    def finder(self) -> "EventsByNumber":
        """Finds events by their numbers; while nothing is added and nothing leaves."""
        return EventsByNumber(self._batches)


class EventsByNumber:
    """Finds events by their numbers."""

    def __init__(self, batches: Sequence[EventBatch] | deque[EventBatch]) -> None:
        self._batches = list(batches)
        self._numbers = list(map(attrgetter("number"), self._batches))

    def __getitem__(self, number: int) -> tuple[Event | Remembered, Writer]:
        """The event of this number, and who wrote it."""
        batch = self._batches[bisect_right(self._numbers, number) - 1]
        return batch.events[number - batch.number], batch.writer


class Hashes(dict[str, int]):
    """Hashes of the digests of ids; of each distinct id it is computed once."""

    def __init__(self, names: Pseudonyms) -> None:
        super().__init__()
        self._names = names

    def __missing__(self, identifier: str) -> int:
        digest = self._names.get(identifier)
        if digest is None:  # what the ledger has at hand stays there, for ids that come again
            digest = self._names.digest(identifier)
        self[identifier] = found = hash(digest)
        return found


def _hashed(events: Events, hashes: Hashes, recollection: Recollection) -> tuple[Index, Index]:
    if _are_remembered(events):
        return array("q", [hash(event.user) for event in events]), array("q", [hash(event.session) for event in events])
    plain = cast("Sequence[Event]", events)
    users = array("q", [hashes[event.user] for event in plain])
    return users, array("q", [hashes[text] for text in recollection.session_texts(plain)])


def _are_remembered(events: Events) -> TypeGuard[Sequence[Remembered]]:
    return isinstance(events[0], Remembered)
