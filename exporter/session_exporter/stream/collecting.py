"""From the journal to parcels: what is to be sent next, without what consumers have committed already."""

import logging
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping
from typing import Final, TypeAlias

import msgspec

from session_exporter.journal import Batch, JournalReader
from session_exporter.stream.retention import Position, SegmentKey
from session_exporter.stream.routing import Routed, Router
from session_exporter.stream.sending import Parcel
from session_exporter.stream.turns import turns

# Of the journal, for one round: some ten thousand events. A batch more may be in it.
ROUND_BYTES: Final = 768 * 1024

# Of a segment, by stream, up to which offset the consumers have committed it.
Committed: TypeAlias = Callable[[SegmentKey], Mapping[int, int]]

logger = logging.getLogger(__name__)


class Tallies(msgspec.Struct):
    """What a forwarder counts; kept over its restarts.

    Attributes:
        forwarded: Events that Redis has acknowledged, each once.
        resent: Events that were sent once more.
        unknown_kinds: Frames of kinds this version does not know.
        malformed: Frames that were none, and events that could not be sent.
        released_early: Segments given up before all consumers had committed them.
        errors: Failures to connect or to send, by reason.
        sent_until: How far each writer's events were ever sent.
        damage: Of each writer and segment that still exists, how many frames are counted above.
    """

    forwarded: int = 0
    resent: int = 0
    unknown_kinds: int = 0
    malformed: int = 0
    released_early: int = 0
    errors: dict[str, int] = {}
    sent_until: dict[str, Position] = {}
    damage: dict[str, dict[int, Position]] = {}

    def note_sent(self, fresh: int, again: int, until: Mapping[str, Position]) -> None:
        """Redis has acknowledged so many new events, and so many that were sent before, up to there."""
        self.forwarded += fresh
        self.resent += again
        for writer, position in until.items():
            self.sent_until[writer] = max(self.sent_until.get(writer, position), position)


class Collected(msgspec.Struct):
    """What is to be sent in one round.

    Attributes:
        parcels: In the order read.
        fresh: How many events have never been sent before.
        again: How many have.
        until: How far that goes, by writer.
        keys: The segments that it comes from.
    """

    parcels: list[Parcel] = []
    fresh: int = 0
    again: int = 0
    until: dict[str, Position] = {}
    keys: set[SegmentKey] = set()


class Collector:
    """Reads the journal, writer by writer in the order of time.

    Args:
        journal: Locked, and locating.
        router: Says which streams events go to.
        tallies: What cannot be sent is counted here.
    """

    def __init__(self, journal: JournalReader, router: Router, tallies: Tallies) -> None:
        self._journal = journal
        self._router = router
        self._tallies = tallies
        self._damage: dict[SegmentKey, Position] = {}

    def start_over(self) -> None:
        """Begin with the first of all segments that are still there."""
        self._router.forget()
        self._damage.clear()
        self._journal.start_over()

    def collect(self, committed: Committed, shift_us: int, is_over: Callable[[], bool]) -> Collected:
        """Read up to a round, of which at least one batch.

        Args:
            committed: Of each segment, by stream, the offset up to which it is not to be sent again.
            shift_us: Added to the times of events.
            is_over: Whether to stop reading.
        """
        self._router.rewriter.shift_us = shift_us
        found = Collected()
        size_bytes = 0
        while size_bytes < ROUND_BYTES and not (found.keys and is_over()):
            batch = self._journal.read()
            if batch is None:
                break
            size_bytes += batch.end - batch.start
            key = batch.writer.id, batch.seq
            found.keys.add(key)
            if batch.unknown or batch.malformed:
                self._count_damage(key, batch.unknown, batch.malformed)
            if batch.events:
                self._add(found, batch, committed(key))
        return found

    def _add(self, found: Collected, batch: Batch, sent: Mapping[int, int]) -> None:
        writer, ends = batch.writer, batch.ends
        parcels = [
            Parcel(stream, writer, batch.seq, *each)
            for turn in turns(batch.events, ends)
            for stream, each in self._route(batch, turn, sent).items()
        ]
        found.parcels += parcels
        known = self._known(batch)
        found.fresh += len(ends) - known
        if known:
            again = {end for parcel in parcels for end in parcel.ends}
            found.again += len(again.intersection(ends[:known]))
        found.until[writer.id] = (batch.seq, ends[-1])

    def _known(self, batch: Batch) -> int:
        """How many of the events, from the first on, were sent before."""
        seq, offset = self._tallies.sent_until.get(batch.writer.id, (0, 0))
        if batch.seq != seq:
            return len(batch.ends) if batch.seq < seq else 0
        return bisect_right(batch.ends, offset)

    def _route(self, batch: Batch, turn: slice, sent: Mapping[int, int]) -> Mapping[int, Routed]:
        try:
            return self._router.route(batch.events[turn], batch.ends[turn], batch.writer, sent)
        except MemoryError:
            raise
        except Exception:
            logger.exception("a batch is taken event by event: a defect of the forwarder")
            return self._route_singly(batch, turn, sent)

    def _route_singly(self, batch: Batch, turn: slice, sent: Mapping[int, int]) -> Mapping[int, Routed]:
        routed: dict[int, Routed] = {}
        for event, end in zip(batch.events[turn], batch.ends[turn], strict=True):
            try:
                found = self._router.route([event], [end], batch.writer, sent)
            except Exception:  # noqa: BLE001 - one event must not stop all others for ever
                self._count_damage((batch.writer.id, batch.seq), 0, 1)
                continue
            for stream, each in found.items():
                known = routed.setdefault(stream, Routed([], []))
                known.ends.extend(each.ends)
                known.events.extend(each.events)
        return routed

    def _count_damage(self, key: SegmentKey, unknown: int, malformed: int) -> None:
        """Count what cannot be sent; not again when it is read again."""
        before = self._damage.get(key, (0, 0))
        found = self._damage[key] = before[0] + unknown, before[1] + malformed
        tallies = self._tallies
        counted_of = tallies.damage.setdefault(key[0], {})
        counted = counted_of.get(key[1], (0, 0))
        tallies.unknown_kinds += max(found[0] - counted[0], 0)
        tallies.malformed += max(found[1] - counted[1], 0)
        counted_of[key[1]] = max(found[0], counted[0]), max(found[1], counted[1])

    def forget_others(self, kept: Collection[SegmentKey]) -> None:
        """Forget what was counted of other segments than these, and their writers."""
        tallies = self._tallies
        writers = {writer for writer, _ in kept}
        tallies.sent_until = {writer: until for writer, until in tallies.sent_until.items() if writer in writers}
        self._damage = {key: count for key, count in self._damage.items() if key in kept}
        damage: dict[str, dict[int, Position]] = {}
        for writer, seq in kept:
            if seq in tallies.damage.get(writer, {}):
                damage.setdefault(writer, {})[seq] = tallies.damage[writer][seq]
        tallies.damage = damage
