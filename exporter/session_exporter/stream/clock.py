"""Redis' clock, as seen from a host whose own may differ."""

from collections.abc import Callable
from typing import Final

SAMPLES: Final = 5
# Clocks that are kept by NTP differ by less; what is not corrected keeps its intervals to the microsecond.
TOLERATED_US: Final = 100_000


class ServerClock:
    """Measures how far Redis' clock is from this host's, and says by how much the times of events are corrected.

    Args:
        time_us: Asks Redis; microseconds since the epoch; may raise.
        clock_ns: This host's clock; nanoseconds since the epoch.

    Attributes:
        skew_us: Redis' clock minus this host's, as measured last; 0 before.
        correction_us: What is to be added to the times of events. It stays as it is until the measurement departs from
            it by more than `TOLERATED_US`, and is 0 as long as the clocks agree that far.
    """

    def __init__(self, time_us: Callable[[], int], clock_ns: Callable[[], int]) -> None:
        self.skew_us = 0
        self.correction_us = 0
        self._time_us = time_us
        self._clock_ns = clock_ns

    def now_us(self) -> int:
        """What Redis' clock shows now, as far as is known."""
        return self.own_us() + self.skew_us

    def own_us(self) -> int:
        """What this host's clock shows now."""
        return self._clock_ns() // 1000

    def measure(self, samples: int = SAMPLES) -> bool:
        """Measure anew, by the quickest of some questions; whether the correction has changed."""
        trip_us, self.skew_us = min(self._sample() for _ in range(samples))
        # Redis looked at its clock somewhere on the way there and back.
        allowed_us = TOLERATED_US + trip_us // 2
        if abs(self.skew_us - self.correction_us) <= allowed_us:
            return False
        self.correction_us = self.skew_us if abs(self.skew_us) > allowed_us else 0
        return True

    def _sample(self) -> tuple[int, int]:
        asked_us = self.own_us()
        theirs_us = self._time_us()
        answered_us = self.own_us()
        # A host whose clock is set meanwhile measures the step; the next sample will not.
        return abs(answered_us - asked_us), theirs_us - (asked_us + answered_us) // 2
