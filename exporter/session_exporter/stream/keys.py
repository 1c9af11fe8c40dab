"""The names of everything in Redis.

What belongs to one partition has its number as a hash tag, so that a cluster keeps it in one slot.
"""

from typing import Final

PREFIX: Final = "session-exporter"
# A field of every entry: all of it, packed.
FIELD: Final = b"e"
# Stands for the stream of events that name no user, which everybody reads.
SHARED: Final = -1

# Who writes to the streams: by forwarder, a packed `entries.Presence`.
FORWARDERS: Final = f"{PREFIX}:forwarders"
# What all must agree on, as the first wrote it: a packed `entries.Layout`.
LAYOUT: Final = f"{PREFIX}:layout"


def stream(partition: int) -> str:
    """The stream of a partition, or of `SHARED`."""
    return f"{PREFIX}:{{{'shared' if partition == SHARED else partition}}}"


def committed(partition: int) -> str:
    """How far the owner of a partition has committed its stream: by writer, `segment:offset`."""
    return f"{PREFIX}:{{{partition}}}:committed"


def shared_committed(partition: int) -> str:
    """How far the owner of a partition has committed the shared stream: by writer, `segment:offset`."""
    return f"{PREFIX}:{{{partition}}}:shared-committed"


def owner(partition: int) -> str:
    """Who owns a partition: the token of its lease; it expires."""
    return f"{PREFIX}:{{{partition}}}:owner"


def fence(partition: int) -> str:
    """How often a partition has been given to an owner."""
    return f"{PREFIX}:{{{partition}}}:fence"


def status(partition: int) -> str:
    """What the owner of a partition says: a hash of `state` (its identity), `name`, `position`, `shared-position`."""
    return f"{PREFIX}:{{{partition}}}:status"
