"""Redis' clock, as seen from a host whose own may differ."""

import time
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
        monotonic_s: A clock of this host that is never set, seconds.

    Attributes:
        skew_us: Redis' clock minus this host's, as measured last; 0 before.
        correction_us: What is to be added to the times of events. It stays as it is until the measurement departs from
            it by more than `TOLERATED_US`, and is 0 as long as the clocks agree that far.
    """

    def __init__(
        self,
        time_us: Callable[[], int],
        clock_ns: Callable[[], int],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.skew_us = 0
        self.correction_us = 0
        self._time_us = time_us
        self._clock_ns = clock_ns
        self._monotonic_s = monotonic_s
        self._begin_us = self._epoch_us()

    def now_us(self) -> int:
        """What Redis' clock shows now, as far as is known."""
        return self.own_us() + self.skew_us

    def own_us(self) -> int:
        """What this host's clock shows now."""
        return self._clock_ns() // 1000

    def was_set(self) -> bool:
        """Whether this host's clock was set since it was measured."""
        return abs(self._epoch_us() - self._begin_us) > TOLERATED_US

    def _epoch_us(self) -> int:
        """What this host's clock showed when its other one began."""
        return self.own_us() - round(self._monotonic_s() * 1_000_000)

    def measure(self, samples: int = SAMPLES) -> bool:
        """Measure anew, by the quickest of some questions; whether the correction has changed."""
        trip_us, self.skew_us = min(self._sample() for _ in range(samples))
        self._begin_us = self._epoch_us()
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
