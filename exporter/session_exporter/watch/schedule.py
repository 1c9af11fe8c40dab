"""When something is to be done again: at its interval; when it failed, after a pause; never together with others."""

from collections.abc import Callable
from typing import Final

from session_exporter.stream.backoff import Backoff

# Many who were started together do not ask together for long.
_JITTER: Final = 0.1
# A database that has been away for an hour is asked again within half a minute.
_PAUSE_MAX_S: Final = 30.0


class Schedule:
    """Of one thing that is done again and again; it is time for the first time at once.

    Args:
        every_s: The interval, from beginning to beginning.
        monotonic_s: A clock that is never set, seconds.
        jitter: A number between two bounds, at random.
    """

    def __init__(
        self, every_s: float, monotonic_s: Callable[[], float], jitter: Callable[[float, float], float]
    ) -> None:
        self._every_s = every_s
        self._monotonic_s = monotonic_s
        self._jitter = jitter
        self._backoff = Backoff(monotonic_s, jitter, most_s=_PAUSE_MAX_S)
        self._due_s = float("-inf")

    def wait_s(self) -> float:
        """How long until it is time; not above 0 when it is."""
        return max(self._due_s - self._monotonic_s(), self._backoff.wait_s())

    def begin(self) -> None:
        """It is being done."""
        spread_s = self._every_s * _JITTER
        self._due_s = self._monotonic_s() + self._every_s + self._jitter(-spread_s, spread_s)

    def again(self) -> None:
        """There is more to be done: it is time at once."""
        self._due_s = float("-inf")

    def succeed(self) -> None:
        """It was done."""
        self._backoff.succeed()

    def fail(self) -> None:
        """It failed; it is time again after a pause, not later than it would have been."""
        self._due_s = float("-inf")
        self._backoff.fail()
