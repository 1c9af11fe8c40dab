"""Which part of a fleet knows what: partitions, and the digests of ids that fall into them.

A user's events meet in the partition of the user's digest, whatever their scope and key. The partition of a session's
digest keeps the session: there its users are compared, and there it counts as long as it has none.
"""

from collections.abc import Iterable
from typing import Final

PARTITIONS_MAX: Final = 1024
_HASHED_BYTES: Final = 8


def partition_of(digest: bytes, partitions: int) -> int:
    """The partition, from 0, of a digest among so many partitions; the digests are uniform already."""
    return int.from_bytes(digest[:_HASHED_BYTES]) % partitions


class Share:
    """The partitions that one consumer owns.

    Args:
        owned: Their numbers, from 0.
        partitions: How many there are in all.

    Attributes:
        owned: As given.
        partitions: As given.
    """

    def __init__(self, owned: Iterable[int], partitions: int) -> None:
        self.owned = frozenset(owned)
        self.partitions = partitions

    def has(self, digest: bytes) -> bool:
        """Whether what this digest stands for falls into one of these partitions."""
        return partition_of(digest, self.partitions) in self.owned
