"""What this process knows of session ids: seen, looked for in vain, or ended, not long ago."""

import time
from collections.abc import Callable
from typing import Final

FOUND: Final = 1
MISSED: Final = 2
ENDED: Final = 3

# Ids are remembered for so long: other processes change them as well, and the ledger knows better after a while.
REMEMBERED_S: Final = 60.0
# Some 200 bytes each.
IDS_MAX: Final = 20_000


class Knowledge:
    """A bounded memory for ids, by scope; the oldest leave first.

    Threads may use it at once: each step is atomic, and what is lost in a race is looked up by the ledger.

    Args:
        ids_max: How many ids are remembered.
        clock_s: Monotonic seconds.
    """

    def __init__(self, *, ids_max: int = IDS_MAX, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._ids_max = ids_max
        self._clock_s = clock_s
        self._states: dict[tuple[str, str], tuple[int, float]] = {}

    def state(self, scope: str, session: str) -> int:
        """`FOUND`, `MISSED` or `ENDED`; 0 when nothing is known."""
        state, at_s = self._states.get((scope, session), (0, 0.0))
        return state if state and self._clock_s() - at_s <= REMEMBERED_S else 0

    def note(self, scope: str, session: str, state: int) -> None:
        """Remember one of the three."""
        states, key = self._states, (scope, session)
        states.pop(key, None)
        states[key] = state, self._clock_s()
        while len(states) > self._ids_max:
            try:
                states.pop(next(iter(states)), None)
            except (StopIteration, RuntimeError):  # another thread has changed it
                return

    def __len__(self) -> int:
        return len(self._states)
