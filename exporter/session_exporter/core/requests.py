"""What each request has already looked up, created or reused, for a while.

A request is one unit of work in one worker and lasts seconds; two generations of memory, swapped when the younger is
old or full, keep it bounded without a clock of its own.
"""

from typing import Final

GENERATION_US: Final = 300_000_000
GENERATION_MAX: Final = 1 << 16


class RequestMemory:
    """Remembers where each (request, scope, user) was looked up first, the sessions of each request, and checked ids.

    Attributes:
        epoch: Number of the younger generation; what was written in an epoch before `epoch - 1` is forgotten.
        since_us: When it began; a part of the state.
        changed: What differs from the state's copy, to be stored and cleared with each commit.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.since_us = 0
        self.changed: dict[bytes, int] = {}
        self._young: dict[bytes, int] = {}
        self._old: dict[bytes, int] = {}

    def first_lookup(self, request: bytes, scope: int, owner: bytes, place: int) -> int:
        """Note that this request looked this user up at a place, a number above 0.

        Returns:
            The place of the first of these lookups; 0 when this is it.
        """
        key = b"L%b/%d/%b" % (request, scope, owner)
        first = self._young.get(key)
        if first is None:
            first = self._old.get(key, 0)
            self._put(key, first or place)
        return first

    def first_time(self, request: bytes, scope: int, session: bytes) -> bool:
        """Whether this request is seen with this session for the first time; from then on it is not."""
        key = b"S%b/%d/%b" % (request, scope, session)
        if self._get(key):
            return False
        self._put(key, 1)
        return True

    def first_check(self, kind: str, scope: int, identifier: bytes) -> bool:
        """Whether an id of this kind is to be checked for the first time; from then on it is not."""
        key = b"I%b/%d/%b" % (kind.encode(), scope, identifier)
        if self._get(key):
            return False
        self._put(key, 1)
        return True

    def advance(self, now_us: int) -> None:
        """Swap the generations when the younger one is old or full."""
        full = len(self._young) >= GENERATION_MAX
        if full or now_us - self.since_us >= GENERATION_US:
            self._old, self._young = self._young, {}
            self.since_us = now_us
            self.epoch += 1

    def restore(self, epoch: int, entries: dict[bytes, int]) -> None:
        """Take back what a commit stored in `epoch`; to be called in the order of the commits."""
        if epoch > self.epoch:
            self._old = self._young if epoch == self.epoch + 1 else {}
            self._young = {}
            self.epoch = epoch
        self._young.update(entries)

    def _get(self, key: bytes) -> int:
        return self._young.get(key) or self._old.get(key, 0)

    def _put(self, key: bytes, value: int) -> None:
        self._young[key] = value
        self.changed[key] = value
