"""What a consumer tells forwarders and its successors: how far it has committed; and what need not be kept any more."""

import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Final, TypeVar

from session_exporter.config import StreamSettings
from session_exporter.core.shares import Share
from session_exporter.errors import PartitionTaken
from session_exporter.stream import keys
from session_exporter.stream.lease import Lease, refusal
from session_exporter.stream.positions import FIRST, Place, Position, StreamId, StreamPositions, id_of, text_of
from session_exporter.stream.server import StreamServer

# How often a stream is trimmed, and a status written, when nothing else is to be told.
STATUS_EVERY_S: Final = 2.0
# Positions in one command; the rest goes with the next.
_PLACES_PER_COMMAND: Final = 2000
_OK: Final = b"ok"

T = TypeVar("T")

# KEYS: owner, committed, shared-committed, status, stream. ARGV: token, state, name, position, shared position, below
# what the stream is trimmed, the lengths of the four lists that follow: positions of both kinds to tell, writers of
# both kinds to forget. What gives memory back comes first: then Redis lets the rest pass though it has none left.
_PUBLISH: Final = """
local owner = redis.call('GET', KEYS[1])
if owner ~= ARGV[1] then return owner or '' end
local at = 11
local function tell(command, key, count)
  while count > 0 do
    local some = math.min(count, 1000)
    redis.call(command, key, unpack(ARGV, at, at + some - 1))
    at, count = at + some, count - some
  end
end
redis.call('XTRIM', KEYS[5], 'MINID', '~', ARGV[6])
tell('HSET', KEYS[2], tonumber(ARGV[7]))
tell('HSET', KEYS[3], tonumber(ARGV[8]))
tell('HDEL', KEYS[2], tonumber(ARGV[9]))
tell('HDEL', KEYS[3], tonumber(ARGV[10]))
redis.call('HSET', KEYS[4], 'state', ARGV[2], 'name', ARGV[3], 'position', ARGV[4], 'shared-position', ARGV[5])
return 'ok'
"""


class Publisher:
    """Publishes what is committed, under the lease; what could not be published is kept for the next time.

    Args:
        server: Where to; connected, or nothing is done.
        settings: For how long entries are kept after they were committed.
        share: The partitions.
        lease: Theirs.
        state_id: Whose it is.
        name: What people call this consumer.
    """

    def __init__(
        self, server: StreamServer, settings: StreamSettings, share: Share, lease: Lease, *, state_id: str, name: str
    ) -> None:
        self._server = server
        self._tail_ms = settings.tail_us // 1000
        self._share = share
        self._lease = lease
        self._state_id = state_id
        self._name = name
        self._unsaid: dict[int, dict[str, str]] = {stream: {} for stream in (*share.owned, keys.SHARED)}
        self._forgotten: dict[int, set[str]] = {stream: set() for stream in self._unsaid}
        self._applied: Mapping[int, StreamId] = {}
        self._next_s = 0.0

    def note(self, positions: StreamPositions, *, is_current: bool = True) -> None:
        """These are committed.

        Args:
            positions: What was committed.
            is_current: Whether the streams are still those that were read for it, so that they may be trimmed.
        """
        self.say(positions.moved)
        for stream, writer in positions.forgotten:
            self._unsaid[stream].pop(writer, None)
            self._forgotten[stream].add(writer)
        self._applied = positions.applied if is_current else {}

    def say(self, positions: Mapping[Place, Position]) -> None:
        """Have these published; also such as were before, which Redis may have forgotten."""
        for (stream, writer), position in positions.items():
            if stream in self._unsaid:
                self._unsaid[stream][writer] = position.text
                self._forgotten[stream].discard(writer)

    def forget_applied(self) -> None:
        """Trim nothing until something is committed of what is read from now on."""
        self._applied = {}

    def publish(self, now_us: int, *, all_at_once: bool = False) -> bool:
        """Publish what is to be published, and trim.

        Args:
            now_us: Redis' clock.
            all_at_once: Also what would be told a moment later.

        Returns:
            Whether the leases were found to be held; when not, they have to be taken again first.

        Raises:
            PartitionTaken: Another consumer owns a partition.
            StreamError: Redis is not there; all is kept.
        """
        is_time = all_at_once or time.monotonic() >= self._next_s
        if not is_time and not any(self._unsaid.values()):
            return True
        while True:
            if not self._publish_some(now_us):
                return False
            if not any(self._unsaid.values()):
                break
        if is_time:
            self._next_s = time.monotonic() + STATUS_EVERY_S
            if 0 in self._share.owned:
                self._trim_shared(now_us)
        return True

    def _publish_some(self, now_us: int) -> bool:
        said = {stream: dict(_first(unsaid.items())) for stream, unsaid in self._unsaid.items()}
        forgotten = {stream: list(_first(writers)) for stream, writers in self._forgotten.items()}
        partitions = sorted(self._share.owned)
        with self._server.speaking() as client:
            pipeline = client.pipeline(transaction=False)
            for partition in partitions:
                lists = (_flat(said[partition]), _flat(said[keys.SHARED]), forgotten[partition], forgotten[keys.SHARED])
                self._tell(pipeline, partition, lists, now_us)
            answers = pipeline.execute()
        for partition, answer in zip(partitions, answers, strict=True):
            if not self._is_ours(partition, answer):
                return False
        for stream, told in said.items():
            for writer in told:
                del self._unsaid[stream][writer]
            self._forgotten[stream].difference_update(forgotten[stream])
        return True

    def _tell(self, pipeline: Any, partition: int, lists: Sequence[list[str]], now_us: int) -> None:
        applied, shared = self._applied.get(partition, FIRST), self._applied.get(keys.SHARED, FIRST)
        below = min(applied, (now_us // 1000 - self._tail_ms, 0))
        names = [make(partition) for make in (keys.owner, keys.committed, keys.shared_committed, keys.status)]
        pipeline.eval(
            _PUBLISH,
            len(names) + 1,
            *names,
            keys.stream(partition),
            self._lease.tokens.get(partition, ""),
            self._state_id,
            self._name,
            text_of(applied),
            text_of(shared),
            text_of(max(below, FIRST)),
            *map(len, lists),
            *chain.from_iterable(lists),
        )

    def _is_ours(self, partition: int, answer: bytes) -> bool:
        if answer == _OK:
            return True
        token = answer.decode(errors="replace")
        if not token:
            return False
        ours = f"{self._name} (state {self._state_id})"
        raise PartitionTaken(refusal(self._server.address, partition, token, ours))

    def _trim_shared(self, now_us: int) -> None:
        """Trim the shared stream below what all owners have committed; whoever does it, it does no harm."""
        with self._server.speaking() as client:
            pipeline = client.pipeline(transaction=False)
            for partition in range(self._share.partitions):
                pipeline.hget(keys.status(partition), "shared-position")
            positions = [id_of(raw) for raw in pipeline.execute()]
            below = min(*positions, (now_us // 1000 - self._tail_ms, 0))
            if below > FIRST:
                client.xtrim(keys.stream(keys.SHARED), minid=text_of(below), approximate=True)


def _first(items: Iterable[T]) -> Iterable[T]:
    return islice(items, _PLACES_PER_COMMAND)


def _flat(positions: Mapping[str, str]) -> list[str]:
    return list(chain.from_iterable(positions.items()))
