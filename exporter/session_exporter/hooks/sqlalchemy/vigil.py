"""What has waited for too long, found whenever something else happens in the process."""

from typing import Final, Generic, TypeVar

T = TypeVar("T")

NEVER_NS: Final = 1 << 62
# Looked at per call: whoever finds many that are late does not pay for all of them.
FOUND_MAX: Final = 8


class Vigil(Generic[T]):
    """Things in the order in which they began to wait; all of them may wait equally long.

    Threads and finalizers may use it at once: each step is atomic, and what a race misses is found by the next call.

    Args:
        patience_ns: How long one may wait.

    Attributes:
        due_ns: Before this moment of the monotonic clock nobody is late.
    """

    def __init__(self, patience_ns: int) -> None:
        self._patience_ns = patience_ns
        self._since_ns: dict[T, int] = {}
        self.due_ns = NEVER_NS

    def add(self, thing: T, since_ns: int) -> None:
        """Begin to watch a thing, which has to be the youngest."""
        self._since_ns[thing] = since_ns
        if self.due_ns == NEVER_NS:
            self._look()

    def discard(self, thing: T) -> None:
        """Watch it no longer."""
        self._since_ns.pop(thing, None)

    def clear(self) -> None:
        """Watch nothing."""
        self._since_ns.clear()
        self.due_ns = NEVER_NS

    def take_late(self, now_ns: int) -> list[T]:
        """Those that have waited too long, oldest first, and watched no longer; at most `FOUND_MAX`."""
        late: list[T] = []
        while len(late) < FOUND_MAX and (oldest := self._look()) is not None and self.due_ns < now_ns:
            # Whoever takes it away has found it; two threads may have looked at once.
            if self._since_ns.pop(oldest, None) is not None:
                late.append(oldest)
        return late

    def _look(self) -> T | None:
        try:
            oldest, since_ns = next(iter(self._since_ns.items()))
        except (StopIteration, RuntimeError):  # there is none, or another thread has changed it
            self.due_ns = NEVER_NS
            return None
        self.due_ns = since_ns + self._patience_ns
        return oldest
