"""A connection to Redis that is made again when it is lost, not too often and not by all at once."""

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from session_exporter.errors import PartitionTaken, StreamError, StreamRefused, StreamUnavailable
from session_exporter.stream.backoff import LEAST_S, Backoff
from session_exporter.stream.entries import Layout
from session_exporter.stream.server import StreamServer

# For how long a start waits for a Redis that is not there.
START_S: Final = 10.0

logger = logging.getLogger(__name__)


class Link:
    """Knows whether Redis is there.

    Args:
        server: Which one.
        layout: What the fleet must agree on; None for nothing.
        start_s: For how long `start` waits.
        jitter: A number between two bounds, at random.

    Attributes:
        up: Whether it is connected, and did what it was asked last.
    """

    def __init__(
        self,
        server: StreamServer,
        layout: Layout | None = None,
        *,
        start_s: float = START_S,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.up = False
        self._server = server
        self._layout = layout
        self._start_s = start_s
        self._backoff = Backoff(time.monotonic, jitter)
        self._is_failing = False

    def start(self) -> None:
        """Connect, and wait for a Redis that is not there.

        Raises:
            StreamUnavailable: It was not there for too long.
            StreamRefused: It does not let us in.
        """
        deadline_s = time.monotonic() + self._start_s
        while True:
            try:
                self._connect()
            except StreamUnavailable as error:
                if time.monotonic() > deadline_s:
                    raise
                if not self._is_failing:
                    self._is_failing = True
                    logger.warning("waiting for Redis: %s", error)
                time.sleep(LEAST_S)
            else:
                return

    def is_new(self) -> bool:
        """Connect when that is lost, and when it is time to try again; whether that was done."""
        if self.up or not self._backoff.is_time():
            return False
        try:
            self._connect()
        except (StreamUnavailable, StreamRefused) as error:
            self.lose(error)
        return self.up

    def _connect(self) -> None:
        self._server.connect()
        if self._layout is not None:
            self._server.agree(self._layout)
        self.up = True

    def succeed(self) -> None:
        """Note that Redis did what it was asked: a connection alone says little."""
        if self._is_failing:
            logger.info("Redis is there again", extra={"redis": self._server.address})
        self._is_failing = False
        self._backoff.succeed()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Do something with Redis; when it fails, the connection is lost, and nothing is raised.

        Raises:
            PartitionTaken: As it is.
        """
        try:
            yield
        except PartitionTaken:
            self.up = False
            raise
        except StreamError as error:
            self.lose(error)

    def lose(self, error: StreamError) -> None:
        """Note that Redis does not do what it is asked."""
        if not self._is_failing:
            logger.warning("what is committed stays exposed until Redis is there again: %s", error)
        self.up, self._is_failing = False, True
        self._backoff.fail()
        self._server.close()
