"""The heaviest of any number of keys, with memory for a few of them; old weight fades.

This is "space-saving" (Metwally, Agrawal and El Abbadi, "Efficient computation of frequent and top-k elements in data
streams", 2005): a key that finds no room takes the place of the lightest one, and might weigh as much as that. So of
each key that is held it is known what it weighs at least and at most. The two differ by no more than the weight of
everything divided by the number of places, and a key heavier than that is always held.

Weight fades by half in each half-life. What is old is not touched for that: what is new is written larger (Cormode,
Shkapenyuk, Srivastava and Xu, "Forward decay", 2009).
"""

from heapq import heapify, heappop, heappush, heapreplace, nlargest
from typing import Final

import msgspec

# When weights have been written larger by so much, all are written anew: doubles end far above it.
SCALE_MAX: Final = 2.0**40
# After as many half-lives everything has faded.
HALF_LIVES_MAX: Final = 64.0


class Weight(msgspec.Struct, array_like=True, gc=False):
    """What one key weighs, as it is written: `most` at most, and `most - error` at least."""

    key: bytes
    most: float
    error: float


class Weights(msgspec.Struct, array_like=True):
    """Everything that is held.

    Attributes:
        scale: How much larger than it is weight is written now.
        gone: The most that a key which is not held may weigh, as it is written.
        entries: Of each key that is held.
    """

    scale: float = 1.0
    gone: float = 0.0
    entries: list[Weight] = []


class HeavyHitters:
    """Weighs keys.

    Args:
        places: How many keys are held at most.
        weights: To go on from; of more than `places` keys the heaviest are held.
    """

    def __init__(self, places: int, weights: Weights | None = None) -> None:
        weights = weights or Weights()
        self._places = places
        self._scale = weights.scale
        self._gone = weights.gone
        self._entries = {each.key: each for each in weights.entries}
        self._rewrite(1.0)
        while len(self._entries) > places:
            self._drop_lightest()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, key: bytes, weight: float) -> None:
        """Let a key weigh more by `weight`, which is above 0."""
        entry = self._entries.get(key)
        if entry is None:
            if len(self._entries) >= self._places:
                self._drop_lightest()
            entry = self._entries[key] = Weight(key, self._gone, self._gone)
            heappush(self._lightest, (self._gone, key))
        entry.most += weight * self._scale

    def fade(self, half_lives: float) -> None:
        """Let everything lose half of its weight in each of so many half-lives, which need not be a whole number."""
        self._scale *= 2.0 ** min(half_lives, HALF_LIVES_MAX)
        if self._scale > SCALE_MAX:
            self._rewrite(self._scale)

    def at_least(self, key: bytes) -> float:
        """What a key certainly weighs; 0 for one that is not held."""
        entry = self._entries.get(key)
        return 0.0 if entry is None else (entry.most - entry.error) / self._scale

    def at_most(self, key: bytes) -> float:
        """What a key may weigh."""
        entry = self._entries.get(key)
        return (self._gone if entry is None else entry.most) / self._scale

    def heaviest(self, count: int) -> list[bytes]:
        """The keys that certainly weigh most, the heaviest first."""
        return [each.key for each in nlargest(count, self._entries.values(), key=_certain)]

    def weights(self) -> Weights:
        """What to go on from; shared with what is held, so that it is out of date with the next call."""
        return Weights(self._scale, self._gone, list(self._entries.values()))

    def _drop_lightest(self) -> None:
        """Make room. Weight only grows while it stands in the heap, so what the heap says is never too much."""
        lightest = self._lightest
        while lightest[0][0] != (most := self._entries[lightest[0][1]].most):
            heapreplace(lightest, (most, lightest[0][1]))
        most, key = heappop(lightest)
        del self._entries[key]
        self._gone = max(self._gone, most)

    def _rewrite(self, divisor: float) -> None:
        self._scale /= divisor
        self._gone /= divisor
        for entry in self._entries.values():
            entry.most /= divisor
            entry.error /= divisor
        self._lightest = [(entry.most, entry.key) for entry in self._entries.values()]
        heapify(self._lightest)


def _certain(entry: Weight) -> tuple[float, bytes]:
    return (entry.most - entry.error, entry.key)
