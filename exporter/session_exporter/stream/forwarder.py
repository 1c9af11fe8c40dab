"""The forwarder: a journal in, streams out; what consumers have not committed stays on disk.

A lost connection is the end of all that was sent over it: Redis may have forgotten the last of it. So what is still on
disk and not committed is sent again over the next one.
"""

import logging
import random
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from redis import exceptions

from session_exporter.config import Config
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.errors import StreamError, StreamRefused
from session_exporter.journal import JournalReader, Mark
from session_exporter.stream.backoff import Backoff
from session_exporter.stream.clock import ServerClock
from session_exporter.stream.collecting import Collected, Collector, Tallies
from session_exporter.stream.entries import Layout
from session_exporter.stream.fitness import require_fit, warn_of_eviction
from session_exporter.stream.presence import Announcement
from session_exporter.stream.releasing import Keeper
from session_exporter.stream.routing import Router
from session_exporter.stream.sending import Round, Sender, Times
from session_exporter.stream.server import StreamServer

# How far the events of one worker may be out of order: a thread reads the clock, and is interrupted before it appends.
DISORDER_US: Final = 20_000
# How often consumers are asked what they have committed, and told that we are here.
LOOK_EVERY_S: Final = 1.0
# While a segment is written to, it stays anyway.
ASK_ALL_EVERY_S: Final = 10.0
MEASURE_EVERY_S: Final = 5.0
# For so long after the journal was looked at, that it was sent in full is still worth saying.
FRESH_US: Final = 250_000

logger = logging.getLogger(__name__)


class Forwarder:
    """Sends what stands in a journal, and deletes what has been committed; for one thread at a time.

    Args:
        config: The configuration in force.
        journal: Locked, and locating.
        server: Where to send to.
        names: Digests of ids, under the key of the fleet.
        layout: What the fleet must agree on.
        tallies: What was counted before; changed.
        replica: This host or pod.
        predecessor: The id of the forwarder that was here before; `""` for none.
        clock_ns: Nanoseconds since the Unix epoch.
        monotonic_s: A clock that is never set, seconds.
        jitter: A number between two bounds, at random.

    Attributes:
        id: Of this forwarder.
        clock: Redis' clock.
        tallies: What was counted.
        up: Whether Redis is connected, and took what was sent last.
        is_drained: Whether the last cycle has sent all that was there when it began.
        has_more: Whether it had more to send than there was time for.
    """

    def __init__(
        self,
        config: Config,
        journal: JournalReader,
        *,
        server: StreamServer,
        names: Pseudonyms,
        layout: Layout,
        tallies: Tallies | None = None,
        replica: str = "",
        predecessor: str = "",
        clock_ns: Callable[[], int] = time.time_ns,
        monotonic_s: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.id = secrets.token_hex(8)
        self.up = False
        self.is_drained = self.has_more = False
        self.tallies = tallies or Tallies()
        self.clock = ServerClock(server.time_us, clock_ns, monotonic_s)
        self._journal = journal
        self._server = server
        self._layout = layout
        self._monotonic_s = monotonic_s
        self._backoff = Backoff(monotonic_s, jitter)
        self._collector = Collector(self._journal, Router(names, config.scopes, layout.partitions), self.tallies)
        self._sender = Sender(server, config.stream, Announcement(self.id, replica, predecessor))
        self._keeper = Keeper(self._journal, server, layout.partitions, config.journal)
        self._waiting: tuple[Collected, Round] | None = None
        self._is_connected = False
        self._failing = ""
        self._look_at_s = self._ask_all_at_s = self._measure_at_s = float("-inf")
        self._scanned_us = 0
        self._sent_until_us = 0

    def close(self) -> None:
        """Close the connection; what was not sent stays in the journal. Idempotent."""
        self._is_connected = self.up = False
        self._waiting = None
        self._server.close()
        self._collector.start_over()

    def open(self) -> None:
        """Connect for the first time; a Redis that is not there is waited for later.

        Raises:
            StreamRefused: It does not let us in, or the fleet is another one.
        """
        error = self._try(self._connect)
        if isinstance(error, StreamRefused):
            raise error

    def cycle(self, budget_s: float) -> None:
        """Send what the workers have committed by now, and delete what the consumers have.

        Args:
            budget_s: After this long the rest is left for later.

        Raises:
            StateLocked: The journal's directory was made anew, and another process was the first to lock it.
            JournalUnavailable: It was deleted and cannot be made again.

        Whatever Redis does raises nothing: it is counted, logged once, and tried again.
        """
        until_s = self._monotonic_s() + budget_s
        self.is_drained = self.has_more = False
        if not self._is_connected and self._backoff.is_time():
            self._try(self._connect)
        mark = self._scan()
        if self._is_connected:
            self._try(partial(self._send_until, mark, until_s))
        else:
            self.is_drained = not self._journal.size_bytes()
        if self._is_connected:
            self._try(self._look)

    def leave(self) -> None:
        """Take leave of the consumers, who then wait for nothing from here."""
        if self._is_connected:
            self._try(self._sender.take_leave)

    def lag_us(self) -> int:
        """The age of the oldest event that has not been sent; 0 when there is none."""
        behind_us = self._journal.behind_us()
        if behind_us is None and self._waiting is None:
            return 0
        return max(self.clock.own_us() - max(behind_us or 0, self._sent_until_us), 0)

    def uncommitted_bytes(self) -> int:
        """The size of the segments that are kept until all consumers have committed what was sent of them."""
        return self._keeper.uncommitted_bytes() if self._is_connected else self._journal.size_bytes()

    def _connect(self) -> None:
        self._server.connect()
        self._server.agree(self._layout)
        require_fit(self._server, self._layout.partitions)
        warn_of_eviction(self._server)
        self._measure()
        self._collector.start_over()
        self._scan()
        self._keeper.start_over()
        self._sender.start_run(self.clock.own_us())
        self._is_connected = True
        self._look_at_s = self._monotonic_s() + LOOK_EVERY_S
        self._send_nothing()
        logger.info("connected", extra={"redis": self._server.address, "forwarder": self.id})

    def _measure(self) -> None:
        if self.clock.measure():
            logger.warning(
                "the clock differs from Redis': times of events are corrected",
                extra={"correction_s": self.clock.correction_us / 1e6},
            )
        self._measure_at_s = self._monotonic_s() + MEASURE_EVERY_S

    def _try(self, call: Callable[[], None]) -> StreamError | None:
        """Do something with Redis; why it failed, None when it did not."""
        try:
            call()
        except StreamError as error:
            self._fail(error)
            return error
        return None

    def _fail(self, error: StreamError) -> None:
        reason = _reason(error)
        self.tallies.errors[reason] = self.tallies.errors.get(reason, 0) + 1
        if reason != self._failing:
            logger.warning("events wait on disk: %s", error)
        self.up, self._failing = False, reason
        self._backoff.fail()
        # For want of memory nothing was lost: the same round is tried again.
        if not (self._is_connected and reason == "out_of_memory"):
            self.close()

    def _succeed(self) -> None:
        if self._failing:
            logger.info("sending goes on", extra={"redis": self._server.address})
        self.up, self._failing = True, ""

    def _scan(self) -> Mark:
        # What is written after this moment is not seen, however long the reading takes.
        self._scanned_us = self.clock.own_us()
        return self._journal.mark()

    def _send_until(self, mark: Mark, until_s: float) -> None:
        """Send round after round, until all that the mark saw is sent, or time is up."""

        def is_over() -> bool:
            return self._monotonic_s() >= until_s

        while self._backoff.is_time() and self._send_round(is_over):
            if self._journal.passed(mark):
                break
            if is_over():
                self.has_more = True
                break
        if self._waiting is None:
            self.is_drained = self._journal.passed(mark)
            self._sent_until_us = max(self._sent_until_us, self._complete_us())

    def _send_round(self, is_over: Callable[[], bool]) -> bool:
        """Send the next round, or that which was refused; False when nothing is left."""
        if self._waiting is None:
            found = self._collector.collect(self._keeper.committed_of, self.clock.correction_us, is_over)
            if not found.keys:
                return False
            self._waiting = found, self._sender.pack(found.parcels, self._times())
        found, packed = self._waiting
        if packed.payloads:
            self._sender.send(packed)
            self._succeed()
        self._waiting = None
        self._keeper.note_sent(found.parcels)
        self.tallies.note_sent(found.fresh, found.again, found.until)
        return True

    def _send_nothing(self) -> None:
        self._sender.send(self._sender.pack([], self._times()))
        self._succeed()

    def _complete_us(self) -> int:
        """Up to which event time all is read; this host's clock."""
        behind_us = self._journal.behind_us()
        return (self._scanned_us if behind_us is None else behind_us) - DISORDER_US

    def _times(self) -> Times:
        complete_us = self._complete_us() + self.clock.correction_us
        is_fresh = self.clock.own_us() - self._scanned_us < FRESH_US
        behind_us = 0 if is_fresh and self._journal.behind_us() is None else max(complete_us, 1)
        return Times(self.clock.now_us(), behind_us, complete_us)

    def _look(self) -> None:
        """About once a second: what is committed goes; the clocks are compared; we are here."""
        now_s = self._monotonic_s()
        if now_s < self._look_at_s:
            return
        self._look_at_s = now_s + LOOK_EVERY_S
        self._sender.require_announced()
        self._keeper.look(everything=now_s >= self._ask_all_at_s)
        if now_s >= self._ask_all_at_s:
            self._ask_all_at_s = now_s + ASK_ALL_EVERY_S
        held = self._waiting[0].keys if self._waiting else set()
        self.tallies.released_early += self._keeper.release(held)
        kept = {segment.key for segment in self._journal.retained()}
        self._collector.forget_others(kept)
        self._sender.forget_others({writer for writer, _ in kept})
        if now_s >= self._measure_at_s or self.clock.was_set():
            self._measure()
        if self._waiting is None:
            self._send_nothing()
            self._backoff.succeed()


def _reason(error: StreamError) -> str:
    """As `session_exporter_forward_errors_total` tells failures apart."""
    cause = error.__cause__
    if isinstance(error, StreamRefused):
        return "refused"
    if isinstance(cause, exceptions.OutOfMemoryError):
        return "out_of_memory"
    if isinstance(cause, exceptions.ConnectionError | exceptions.TimeoutError | OSError):
        return "connection"
    return "other"
