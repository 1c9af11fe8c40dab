"""When to try again: later each time, and never together with all others."""

from collections.abc import Callable
from typing import Final

LEAST_S: Final = 0.1
MOST_S: Final = 5.0
# Twice the least time so often is more than the most that anybody waits.
_DOUBLINGS_MAX: Final = 20


class Backoff:
    """Exponential backoff with full jitter.

    Args:
        monotonic_s: A clock that is never set, seconds.
        jitter: A number between two bounds, at random.
        most_s: The longest time to wait.
    """

    def __init__(
        self,
        monotonic_s: Callable[[], float],
        jitter: Callable[[float, float], float],
        *,
        most_s: float = MOST_S,
    ) -> None:
        self._monotonic_s = monotonic_s
        self._jitter = jitter
        self._most_s = most_s
        self._failures = 0
        self._at_s = float("-inf")

    def is_time(self) -> bool:
        """Whether to try."""
        return self.wait_s() <= 0.0

    def wait_s(self) -> float:
        """How long to wait; not above 0 when it is time."""
        return self._at_s - self._monotonic_s()

    def fail(self) -> None:
        """It failed once more."""
        most_s = min(LEAST_S * 2 ** min(self._failures + 1, _DOUBLINGS_MAX), self._most_s)
        self._failures += 1
        self._at_s = self._monotonic_s() + self._jitter(LEAST_S, most_s)

    def succeed(self) -> None:
        """It succeeded; the next failure is a first one."""
        self._failures = 0
