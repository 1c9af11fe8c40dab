"""The forwarders that say they are there."""

import time
from collections.abc import Sequence
from typing import Final

import msgspec

from session_exporter.stream import keys
from session_exporter.stream.entries import VERSION, Presence
from session_exporter.stream.server import StreamServer

# By another name than redis-py has for it, so that its answer is not made into a dictionary twice.
COMMAND: Final = (b"HGETALL", keys.FORWARDERS)
# They say something new once a second.
_EVERY_S: Final = 0.2
# Of the time, at most this part is spent on reading what ten thousand of them say.
_PART: Final = 0.05
# Who has said nothing for so long is not running, or not connected.
_RUNNING_US: Final = 5_000_000
# Who has said nothing for so long will not say anything again.
_GONE_US: Final = 3_600_000_000
_SWEEP_EVERY_S: Final = 60.0
_SWEPT: Final = 1000

_decode: Final = msgspec.msgpack.Decoder(Presence).decode


class Roster:
    """What the forwarders say of themselves, as read last.

    Attributes:
        presences: By forwarder.
        running: How many of them said something lately.
        read_us: When that was, by Redis' clock; None before.
    """

    def __init__(self) -> None:
        self.presences: dict[str, Presence] = {}
        self.running = 0
        self.read_us: int | None = None
        self._raw: dict[bytes, bytes] = {}
        self._gone: list[bytes] = []
        self._read_at_s = self._sweep_at_s = float("-inf")

    @property
    def is_due(self) -> bool:
        """Whether it is worth reading again."""
        return time.monotonic() >= self._read_at_s

    def forget(self) -> None:
        """Note that what was read is of no use any more: Redis may have been another one then."""
        self.presences, self._raw, self.running, self.read_us = {}, {}, 0, None
        self._read_at_s = float("-inf")

    def answered(self, answer: Sequence[bytes], now_us: int) -> None:
        """Take in the answer to `COMMAND`.

        Args:
            answer: By turns, forwarders and what they say.
            now_us: Redis' clock.
        """
        begun_s = time.monotonic()
        raw = dict(zip(answer[::2], answer[1::2], strict=True))
        self._gone = []
        presences = {}
        for field, said in raw.items():
            name = field.decode(errors="replace")
            presence = self.presences.get(name) if self._raw.get(field) == said else _read(said)
            if presence is not None and presence.at_us < now_us - _GONE_US:
                self._gone.append(field)
            elif presence is not None:
                presences[name] = presence
        self.presences, self._raw, self.read_us = presences, raw, now_us
        self.running = sum(presence.at_us > now_us - _RUNNING_US for presence in presences.values())
        ended_s = time.monotonic()
        self._read_at_s = ended_s + max(_EVERY_S, (ended_s - begun_s) / _PART)

    def sweep(self, server: StreamServer) -> None:
        """Delete what is left of forwarders that were killed and never came back; raises as `speaking` does."""
        if self._gone and time.monotonic() >= self._sweep_at_s:
            self._sweep_at_s = time.monotonic() + _SWEEP_EVERY_S
            with server.speaking() as client:
                client.hdel(keys.FORWARDERS, *self._gone[:_SWEPT])


def _read(said: bytes) -> Presence | None:
    try:
        presence = _decode(said)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return presence if presence.version == VERSION else None
