"""Who owns a partition: one consumer at a time, for as long as it says so."""

import logging
import time
from collections.abc import Iterable
from typing import Any, Final

from session_exporter.errors import PartitionTaken
from session_exporter.stream import keys
from session_exporter.stream.server import StreamServer

LEASE_MS: Final = 10_000
RENEWALS: Final = 3
_POLL_S: Final = 0.1

logger = logging.getLogger(__name__)

_OURS: Final = b"ours"

# KEYS: owner, fence. ARGV: the token we hold or "", state, name, milliseconds.
# A lease of the same state is taken over: its directory's lock says that nobody else uses it. Returns `ours` or the
# owner, the token, and how long that of another owner lasts. After a first command that takes none, Redis lets the
# others pass though it has no memory left: who owns a partition will free it.
_TAKE: Final = """
local token = redis.call('GET', KEYS[1])
if token and token == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  return {'ours', token, 0}
end
if token and string.match(token, '^%d+:([^:]*):') ~= ARGV[2] then
  return {token, token, redis.call('PTTL', KEYS[1])}
end
redis.call('DEL', KEYS[1])
token = redis.call('INCR', KEYS[2]) .. ':' .. ARGV[2] .. ':' .. ARGV[3]
redis.call('SET', KEYS[1], token, 'PX', ARGV[4])
return {'ours', token, 0}
"""
# KEYS: owner. ARGV: token.
_GIVE_UP: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 0"


class Lease:
    """The leases of some partitions.

    Args:
        server: Connected.
        partitions: Which.
        state_id: Whose they are to be: the identity of a state.
        name: What people call its process.
        lease_ms: For how long one is given.

    Attributes:
        tokens: Of each partition that is held, what every change to it has to show.
    """

    def __init__(
        self, server: StreamServer, partitions: Iterable[int], *, state_id: str, name: str, lease_ms: int = LEASE_MS
    ) -> None:
        self.tokens: dict[int, str] = {}
        self._server = server
        self._partitions = sorted(partitions)
        self._state_id = state_id
        self._name = name
        self._lease_ms = lease_ms
        self._renew_at_s = 0.0

    def take(self) -> None:
        """Take all; one that another holds is waited for until it may have run out.

        Raises:
            PartitionTaken: Its owner goes on renewing it.
            StreamError: Redis is not there, or refuses.
        """
        remaining: dict[int, int] = {}
        while taken := self._ask():
            for partition, (token, left_ms) in taken.items():
                # One that does not run out is nobody's of ours, and would be waited for for ever.
                if left_ms < 0 or left_ms > remaining.get(partition, self._lease_ms):
                    self.give_up()
                    raise self._refusal(partition, token)
                if not remaining:
                    waits_s, refused = self._lease_ms / 1000, self._refusal(partition, token)
                    logger.info("waiting for a lease to run out, for up to %g s: %s", waits_s, refused)
                remaining[partition] = left_ms
            time.sleep(_POLL_S)

    @property
    def is_due(self) -> bool:
        """Whether it is time to renew."""
        return time.monotonic() >= self._renew_at_s

    def expire(self) -> None:
        """Note that it is time to renew."""
        self._renew_at_s = 0.0

    def keep(self) -> bool:
        """Renew all; whether another consumer held one meanwhile, or Redis has forgotten who did.

        One that has just run out is taken again: a consumer that commits a long backlog may come too late.

        Raises:
            PartitionTaken: Another consumer has taken one meanwhile.
            StreamError: Redis is not there, or refuses.
        """
        before = dict(self.tokens)
        for partition, (token, _) in self._ask().items():
            raise self._refusal(partition, token)
        return any(
            _fence(token) not in {_fence(before.get(at, "")) + told for told in (0, 1)}
            for at, token in self.tokens.items()
        )

    def give_up(self) -> None:
        """Let others have what we hold; raises as `StreamServer.speaking` does."""
        tokens, self.tokens = self.tokens, {}
        with self._server.speaking() as client:
            pipeline = client.pipeline(transaction=False)
            for partition, token in tokens.items():
                pipeline.eval(_GIVE_UP, 1, keys.owner(partition), token)
            pipeline.execute()

    def _ask(self) -> dict[int, tuple[str, int]]:
        """Take or renew; returns who holds the partitions that cannot be had, and for how many milliseconds yet."""
        asked_s = time.monotonic()
        with self._server.speaking() as client:
            pipeline = client.pipeline(transaction=False)
            for partition in self._partitions:
                names = (keys.owner(partition), keys.fence(partition))
                says = (self.tokens.get(partition, ""), self._state_id, self._name, self._lease_ms)
                pipeline.eval(_TAKE, len(names), *names, *says)
            answers: list[Any] = pipeline.execute()
        taken = {}
        for partition, (whose, raw, rest) in zip(self._partitions, answers, strict=True):
            token = raw.decode(errors="replace")
            if whose == _OURS:
                self.tokens[partition] = token
            else:
                taken[partition] = (token, rest)
        self._renew_at_s = asked_s + self._lease_ms / 1000 / RENEWALS
        return taken

    def _refusal(self, partition: int, token: str) -> PartitionTaken:
        return PartitionTaken(refusal(self._server.address, partition, token, f"{self._name} (state {self._state_id})"))


def refusal(address: str, partition: int, token: str, ours: str) -> str:
    """What to tell whoever wanted a partition that another one owns."""
    _, state_id, name = [*token.split(":", 2), "", ""][:3]
    return (
        f"Redis at {address}: partition {partition} is owned by {name} (state {state_id}), "
        f"so not by {ours}; expected one consumer for each partition of --stream.partitions"
    )


def _fence(token: str) -> int:
    fence = token.partition(":")[0]
    return int(fence) if fence.isdigit() else -1
