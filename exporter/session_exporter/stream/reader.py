"""A consumer's side of the streams: all writers of its partitions, each event once, merged by time."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from session_exporter.config import StreamSettings
from session_exporter.core.shares import Share
from session_exporter.errors import PartitionTaken, StreamError
from session_exporter.quantities import format_ranges
from session_exporter.stream import keys
from session_exporter.stream.adopting import Predecessor, find_standing, left_of
from session_exporter.stream.clock import ServerClock
from session_exporter.stream.entries import Layout
from session_exporter.stream.horizon import Horizon
from session_exporter.stream.lease import LEASE_MS, Lease
from session_exporter.stream.link import START_S, Link
from session_exporter.stream.positions import Place, StreamPositions
from session_exporter.stream.publishing import Publisher
from session_exporter.stream.reading import StreamReading
from session_exporter.stream.roster import Roster
from session_exporter.stream.server import StreamServer
from session_exporter.stream.taking import StreamBatch, Taking

logger = logging.getLogger(__name__)

_MEASURE_EVERY_S: Final = 10.0
_FORGET_EVERY_US: Final = 3_600_000_000


class StreamReader:
    """Reads what forwarders have sent to some partitions, and to the shared stream; one thread at a time.

    It is used like a `journal.JournalReader`: `mark` finds out what there is, `read` returns it piece by piece,
    `positions` says how far that went, and `release` is told what was committed. Two questions must not be confused:
    `behind_us` says what time verdicts must not pass, also when all has been read; `has_more` whether to read on.

    While Redis is away nothing raises, and nothing is there to be read. When it is back all streams are read from their
    beginning, since it may have forgotten what it had acknowledged; what was returned before is not returned again.

    Args:
        server: The Redis; used by nobody else.
        settings: Of the streams.
        share: The partitions to read.
        positions: What was committed: by stream and writer, the `Position` or at least its segment and offset.
        state_id: The identity of the state that the positions are from.
        name: What people call this consumer.
        layout: What the fleet must agree on, at each connect; None for nothing.
        lease_ms: For how long a partition is leased.
        start_s: For how long `lock` waits for a Redis that is not there.
        clock_ns: Nanoseconds since the Unix epoch.

    Attributes:
        clock: Redis' clock.
    """

    def __init__(
        self,
        server: StreamServer,
        settings: StreamSettings,
        share: Share,
        positions: Mapping[Place, tuple[Any, ...]],
        *,
        state_id: str,
        name: str,
        layout: Layout | None = None,
        lease_ms: int = LEASE_MS,
        start_s: float = START_S,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.clock = ServerClock(server.time_us, clock_ns, time.monotonic)
        self._server = server
        self._share = share
        self._state_id = state_id
        self._is_new = not positions
        self._horizon = Horizon(settings.patience_us)
        self._taking = Taking(positions, self._horizon.holds)
        self._streams = (*sorted(share.owned), keys.SHARED)
        self._link = Link(server, layout, start_s=start_s)
        self._lease = Lease(server, share.owned, state_id=state_id, name=name, lease_ms=lease_ms)
        self._publisher = Publisher(server, settings, share, self._lease, state_id=state_id, name=name)
        self._predecessor: Predecessor | None = None
        self._taken: PartitionTaken | None = None
        self._measure_at_s = 0.0
        self._forget_at_us = 0
        self._marked_us = 0
        # When Redis was there last.
        self._there_us = self.clock.now_us()
        self._readings = 0
        self._reading = StreamReading(server, self._streams)

    def _begin_anew(self) -> None:
        """Read the streams from their beginning, without what another state has counted meanwhile, if one has."""
        applied, predecessor = find_standing(self._server, self._share, self._state_id)
        self._taking.skip_until(applied)
        if predecessor is not None:
            self._predecessor = predecessor
            self._adopt(predecessor)
        self._readings += 1
        self._reading = StreamReading(self._server, self._streams)
        self._horizon.reconnect()
        self._publisher.forget_applied()
        self._publisher.say(self._taking.progress.committed)

    # Beginning and end.

    def lock(self) -> None:
        """Become the owner of the partitions; waits for a Redis that is not there, and for leases to run out.

        Raises:
            PartitionTaken: Another consumer owns one; the message names both.
            StreamRefused: Redis does not let us in, or the fleet is another one.
            StreamUnavailable: Redis is not there.
        """
        try:
            self._link.start()
            self._lease.take()
            self.clock.measure()
            self._begin_anew()
        except StreamError:
            self.close()
            raise
        self._taken = None
        if self._predecessor is not None and not self._is_new:
            told = {"partitions": format_ranges(self._predecessor.names)}
            logger.warning("another volume has counted meanwhile: what it has is not counted here", extra=told)

    def _adopt(self, predecessor: Predecessor) -> None:
        now_us = self.clock.now_us()
        for place, position in predecessor.positions.items():
            # Of the shared stream this state has its own opinion: of its other partitions.
            if place[0] != keys.SHARED or self._is_new:
                self._taking.progress.adopt(place, position, now_us)

    def close(self) -> None:
        """Give the partitions back, and close the connection. Idempotent."""
        # Also when one of them is lost, and the connection is not.
        with suppress(StreamError):
            self._lease.give_up()
        self._link.up = False
        self._server.close()

    def predecessor(self) -> Predecessor | None:
        """Who owned any of the partitions before, under another state; None for nobody. As `lock` found it."""
        return self._predecessor

    def seed_batches(self) -> Iterator[StreamBatch]:
        """What is left in the streams of what the predecessor has committed, which nobody will count again.

        To be taken in before anything is read. `positions` are the predecessor's already, `read` goes on from there.

        Raises:
            StreamError: Redis is not there; the next call begins again.
        """
        return iter(()) if self._predecessor is None else left_of(self._server, self._predecessor)

    # Reading.

    @property
    def up(self) -> bool:
        """Whether Redis is connected and does what it is asked, and all partitions are ours."""
        return self._link.up

    def mark(self) -> int:
        """Find out what is in the streams at this moment, and remember when that was; microseconds, Redis' clock.

        Raises:
            PartitionTaken: Another consumer has taken a partition.
        """
        if self._taken is not None:
            raise self._taken
        with self._guarded():
            if self._link.is_new():
                self._lease.keep()
                self._begin_anew()
            if self._link.up:
                self._keep_up()
                self._measure()
                if self._reading.is_empty:
                    self._look(self._horizon.roster if self._horizon.roster.is_due else None)
                    self._marked_us = self._reading.looked_us
                else:
                    # What was read is returned first.
                    self._marked_us = self._server.time_us()
                self._link.succeed()
        return self._marked_us

    def _measure(self) -> None:
        if time.monotonic() >= self._measure_at_s or self.clock.was_set():
            self.clock.measure()
            self._measure_at_s = time.monotonic() + _MEASURE_EVERY_S

    def _keep_up(self) -> None:
        """Renew the leases when it is time; raises PartitionTaken when that is too late."""
        if self._lease.is_due and (self._lease.keep() or self._reading.is_behind_end()):
            logger.warning("the streams are read from their beginning: they are not what they were")
            self._begin_anew()

    def _look(self, roster: Roster | None = None) -> None:
        self._reading.look(roster)
        self._there_us = self._reading.looked_us
        self._horizon.looked(self._reading)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            with self._link.kept():
                yield
        except PartitionTaken as error:
            self._taken = error
            raise

    def read(self) -> StreamBatch | None:
        """The next events of one writer and stream.

        Returns:
            What was read, one event at least; None when everything that the last `mark` saw has been returned.
        """
        while True:
            reading = self._reading
            while (found := reading.next()) is not None:
                self._horizon.reach(reading.reached_us)
                batch = self._taking.take(*found)
                if batch is not None:
                    return batch
            if reading.is_drained:
                self._horizon.settle(reading)
            if not self._link.up or reading.has_passed(self._marked_us) or not self._look_on():
                return None

    def _look_on(self) -> bool:
        """Read on; whether there was anything."""
        with suppress(PartitionTaken), self._guarded():
            self._keep_up()
            self._look()
        if self._reading.is_drained:
            self._horizon.settle(self._reading)
        return not self._reading.is_drained

    def passed(self, mark: int) -> bool:
        """Whether everything that was in the streams at the mark has been returned, or Redis is away."""
        return self._reading.has_passed(mark) or (self._reading.is_empty and not self._link.up)

    def has_more(self) -> bool:
        """Whether there was more to read when it was looked last."""
        return not self._reading.is_drained and (self._link.up or not self._reading.is_empty)

    def behind_us(self) -> int | None:
        """The least event time that may still be sent or read, Redis' clock; None when nobody is waited for.

        Verdicts must not pass it. It says nothing of whether there is more to read: that is `has_more`.
        """
        return self._horizon.from_us(is_drained=self._link.up and self._reading.is_drained)

    # Committing.

    def positions(self) -> StreamPositions:
        """What a commit has to keep with what was made of all that was returned so far."""
        forgotten: tuple[Place, ...] = ()
        now_us = self._reading.looked_us
        if self._link.up and now_us >= self._forget_at_us:
            self._forget_at_us = now_us + _FORGET_EVERY_US
            forgotten = self._taking.progress.silent(now_us)
        return StreamPositions(self._taking.progress.moved(), forgotten, dict(self._reading.applied), self._readings)

    def release(self, committed: StreamPositions) -> None:
        """Tell forwarders what was committed, and trim the streams; what cannot be told now is told later.

        Args:
            committed: What `positions` has returned, with nothing read since, and is kept now.

        Raises:
            PartitionTaken: Another consumer has taken a partition.
        """
        self._taking.progress.settle(committed)
        self._publisher.note(committed, is_current=committed.reading == self._readings)
        if self._taken is not None:
            raise self._taken
        if not self._link.up:
            return
        with self._guarded():
            self._keep_up()
            now_us = self.clock.now_us()
            if not self._publisher.publish(now_us):
                self._lease.expire()
            if 0 in self._share.owned:
                self._horizon.roster.sweep(self._server)

    # What else there is to know.

    @property
    def redelivered(self) -> int:
        """Events that arrived again, and were not returned."""
        return self._taking.redelivered

    @property
    def skipped(self) -> Mapping[str, int]:
        """Entries that are none, by reason: `malformed` or `newer_version`."""
        return self._taking.skipped

    def lags(self) -> dict[int, float]:
        """By stream, the age of the oldest entry that was not returned, at most; seconds.

        While Redis is away: the time since it was there.
        """
        now_us = self.clock.now_us()
        if not self._link.up:
            return dict.fromkeys(self._streams, max(now_us - self._there_us, 0) / 1e6)
        oldest = self._reading.oldest_us()
        return {stream: max(now_us - oldest.get(stream, now_us), 0) / 1e6 for stream in self._streams}

    def forwarders(self) -> int:
        """Forwarders that are known to be running."""
        return self._horizon.roster.running

    def held_s(self) -> float:
        """For how long verdicts have been waiting for forwarders that are silent, seconds; 0 when for none."""
        return self._horizon.holds.held_us() / 1e6
