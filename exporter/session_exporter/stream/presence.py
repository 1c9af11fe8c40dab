"""How a forwarder says that it is there, and how far it has come."""

from typing import Any

from session_exporter.stream import keys
from session_exporter.stream.entries import VERSION, Presence, encode


class Announcement:
    """What one forwarder says of itself.

    Args:
        forwarder: Its id.
        replica: Its host or pod.
        predecessor: The id that was used before in its place; `""` for none. Its presence goes when ours comes.
    """

    def __init__(self, forwarder: str, replica: str, predecessor: str = "") -> None:
        self.forwarder = forwarder
        self._replica = replica
        self._predecessor = predecessor

    def write(self, pipeline: Any, *, at_us: int, complete_us: int) -> None:
        """Have it said with the other commands of a pipeline of redis-py."""
        presence = Presence(VERSION, self._replica, at_us, max(complete_us, 0))
        pipeline.hset(keys.FORWARDERS, self.forwarder, encode(presence))
        if self._predecessor:
            pipeline.hdel(keys.FORWARDERS, self._predecessor)

    def is_there(self, client: Any) -> bool:
        """Whether it still stands there."""
        return bool(client.hexists(keys.FORWARDERS, self.forwarder))

    def remove(self, client: Any) -> None:
        """Say nothing any more."""
        client.hdel(keys.FORWARDERS, self.forwarder)
