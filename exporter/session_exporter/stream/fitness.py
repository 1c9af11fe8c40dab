"""Whether a Redis is fit to carry events, before anything is sent."""

import logging
from typing import Any, Final

from redis.exceptions import NoPermissionError

from session_exporter.errors import StreamRefused
from session_exporter.stream import keys
from session_exporter.stream.server import StreamServer

# The first that can be told to append to a stream only if it is still there.
VERSION_MIN: Final = (6, 2)
_EVICTING: Final = "allkeys"

logger = logging.getLogger(__name__)


def require_fit(server: StreamServer, partitions: int) -> None:
    """Look at what Redis is, and at what is there under the names of the streams.

    Raises:
        StreamRefused: It is too old; or something there is no stream, and would refuse its part of every round.
        StreamUnavailable: As `StreamServer.speaking`.
    """
    _require_version(server)
    names = [keys.stream(stream) for stream in (*range(partitions), keys.SHARED)]
    with server.speaking() as client:
        pipeline = client.pipeline(transaction=False)
        for name in names:
            pipeline.type(name)
        kinds = pipeline.execute()
    for name, kind in zip(names, kinds, strict=True):
        if kind not in {b"stream", b"none"}:
            found = f"{name} is a {kind.decode()}; expected a stream, or nothing"
            raise StreamRefused(f"Redis at {server.address}: {found}")


def _require_version(server: StreamServer) -> None:
    version = str(_info(server, "server").get("redis_version", ""))
    parts = version.split(".")[:2]
    # Who does not say, or says it otherwise, is believed to be new.
    if all(part.isdecimal() for part in parts) and tuple(map(int, parts)) < VERSION_MIN:
        expected = ".".join(map(str, VERSION_MIN))
        raise StreamRefused(f"Redis at {server.address} is version {version}; expected {expected} or newer")


def warn_of_eviction(server: StreamServer) -> None:
    """Warn when Redis would rather delete streams than refuse to take more; raises as `StreamServer.speaking`."""
    policy = str(_info(server, "memory").get("maxmemory_policy", ""))
    if policy.startswith(_EVICTING):
        logger.warning(
            "Redis deletes streams when its memory is full; expected the maxmemory-policy noeviction",
            extra={"redis": server.address, "maxmemory_policy": policy},
        )


def _info(server: StreamServer, section: str) -> dict[str, Any]:
    """What Redis says of itself; nothing when we may not ask."""
    with server.speaking() as client:
        try:
            found: dict[str, Any] = client.info(section)
        except NoPermissionError:
            return {}
    return found
