"""How far the streams have been taken in: by stream and writer, so that nothing counts twice and no gap goes unseen."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

from session_exporter.stream.entries import Entry

# An id of an entry: milliseconds of Redis' clock, and a number within that millisecond and stream.
StreamId: TypeAlias = tuple[int, int]
# A stream, by its partition or `keys.SHARED`, and the id of a writer.
Place: TypeAlias = tuple[int, str]

FIRST: Final[StreamId] = (0, 0)
# A forwarder that comes back later than this finds its writers forgotten.
FORGOTTEN_AFTER_US: Final = 7 * 86_400_000_000
# Of a number in Redis.
_DIGITS_MAX: Final = 20
# How exactly it is remembered when a writer was last heard of: not worth a commit more often.
SEEN_STEP_US: Final = 3_600_000_000


class Position(NamedTuple):
    """How far one stream was taken in of one writer; to be kept as it is.

    Attributes:
        segment: The writer's segment.
        offset: Behind the last frame that was taken in.
        run: The run of sending that told of it last; `""` when that is not known.
        sent: Events of that run until there.
        seen_us: When the writer was last heard of, to the hour; Redis' clock.
    """

    segment: int
    offset: int
    run: str = ""
    sent: int = 0
    seen_us: int = 0

    @property
    def text(self) -> str:
        """As forwarders read it."""
        return f"{self.segment}:{self.offset}"


@dataclass(frozen=True, slots=True)
class StreamPositions:
    """What a commit has to keep with what was made of the events; true when there is anything.

    Attributes:
        moved: Where positions have changed since the last commit.
        forgotten: Of whom nothing was heard for so long that their positions are to be deleted.
        applied: By stream, up to where all its entries have been taken in since it was last read from its beginning.
        reading: Which reading from the beginning that was.
    """

    moved: Mapping[Place, Position] = field(default_factory=dict)
    forgotten: tuple[Place, ...] = ()
    applied: Mapping[int, StreamId] = field(default_factory=dict)
    reading: int = 0

    def __bool__(self) -> bool:
        return bool(self.moved or self.forgotten)


class Fresh(NamedTuple):
    """What is new in an entry.

    Attributes:
        known: So many of its events, from the first on, were taken in before.
        cut: Events before it that are missing for good.
    """

    known: int
    cut: int


class Progress:
    """The positions of all writers in all streams.

    Args:
        committed: As they were kept; a pair of segment and offset will do.
    """

    def __init__(self, committed: Mapping[Place, tuple[Any, ...]]) -> None:
        self.committed: dict[Place, Position] = {place: Position(*kept) for place, kept in committed.items()}
        self._current = dict(self.committed)
        # Entries of a run that has ended may arrive a moment after the first of the next.
        self._run_before: dict[Place, tuple[str, int]] = {}
        self._touched: set[Place] = set()

    def of(self, place: Place) -> Position | None:
        """How far a writer's events in a stream were taken in."""
        return self._current.get(place)

    def adopt(self, place: Place, position: Position, now_us: int) -> None:
        """Go on from where somebody else has committed, unless we are further."""
        mine = self._current.get(place)
        if mine is None or mine[:2] < position[:2]:
            self._current[place] = position._replace(seen_us=now_us - now_us % SEEN_STEP_US)
            self._touched.add(place)

    def take(self, stream: int, entry: Entry, now_us: int) -> Fresh:
        """Note that an entry, which has events, is taken in; those of one stream in their order."""
        place = (stream, entry.origin.id)
        run = f"{entry.forwarder}/{entry.run}"
        position = self._current.get(place)
        known = known_of(entry, position)
        sent = entry.before + len(entry.events)
        expected = self._expected(place, position, run)
        # What has begun before this entry, or with it, was not cut: only a gap before all new events is one.
        cut = max(entry.before - expected, 0) if not known and expected is not None else 0
        if position is not None and position.run != run:
            self._run_before[place] = (position.run, position.sent)
        at = (entry.segment, entry.ends[-1]) if known < len(entry.events) else position[:2] if position else (0, 0)
        seen_us = max(now_us - now_us % SEEN_STEP_US, position.seen_us if position else 0)
        self._current[place] = Position(*at, run, max(sent, expected or 0), seen_us)
        self._touched.add(place)
        return Fresh(known, cut)

    def _expected(self, place: Place, position: Position | None, run: str) -> int | None:
        """How many events of a run were sent before what comes now; None when that is not known."""
        if position is None:
            return 0
        if position.run == run:
            return position.sent
        before = self._run_before.get(place)
        if before is not None and before[0] == run:
            return before[1]
        return 0 if position.run else None

    def moved(self) -> dict[Place, Position]:
        """What is not as it was committed."""
        current, committed = self._current, self.committed
        self._touched = {place for place in self._touched if current[place] != committed.get(place)}
        return {place: current[place] for place in self._touched}

    def silent(self, now_us: int) -> tuple[Place, ...]:
        """Of whom nothing was heard for so long that they can be forgotten."""
        oldest_us = now_us - FORGOTTEN_AFTER_US
        return tuple(place for place in self.committed if 0 < self._current[place].seen_us < oldest_us)

    def settle(self, positions: StreamPositions) -> None:
        """Note that these are committed."""
        self.committed.update(positions.moved)
        for place in positions.forgotten:
            for kept in (self.committed, self._current, self._run_before):
                kept.pop(place, None)
            self._touched.discard(place)


def known_of(entry: Entry, position: Position | None) -> int:
    """How many events of an entry, from the first on, are not behind a position."""
    if position is None or entry.segment > position.segment:
        return 0
    if entry.segment < position.segment:
        return len(entry.events)
    return bisect_right(entry.ends, position.offset)


def text_of(identifier: StreamId) -> str:
    """An id of an entry as Redis writes it."""
    return f"{identifier[0]}-{identifier[1]}"


def id_of(raw: bytes | None) -> StreamId:
    """Read the id of an entry; what is none counts as before all."""
    ms, _, number = (raw or b"").partition(b"-")
    if not (ms.isdigit() and number.isdigit() and max(len(ms), len(number)) <= _DIGITS_MAX):
        return FIRST
    return int(ms), int(number)
