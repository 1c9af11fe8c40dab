"""Memory that forgets the oldest when it is full."""

from itertools import islice
from typing import Final, TypeVar

K = TypeVar("K")
V = TypeVar("V")

# Dropping many at once keeps the drop cheap: a dictionary that loses its first entry has to look for the next one.
_DROPPED_AT_ONCE: Final = 8


class BoundedDict(dict[K, V]):
    """A mapping of at most so many entries; an eighth of them, those kept longest ago, make room for more.

    Args:
        most: How many, at least 1.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def keep(self, key: K, value: V) -> None:
        """Set an entry, as the newest one."""
        if key in self:
            del self[key]
        elif len(self) >= self._most:
            self._make_room()
        self[key] = value

    def _make_room(self) -> None:
        for oldest in list(islice(self, -(-self._most // _DROPPED_AT_ONCE))):
            del self[oldest]
