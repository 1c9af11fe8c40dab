"""Whether a Redis is fit to carry events, before anything is sent."""

import logging
from typing import Final

from redis.exceptions import NoPermissionError

from session_exporter.errors import StreamRefused
from session_exporter.stream import keys
from session_exporter.stream.server import StreamServer

_EVICTING: Final = "allkeys"

logger = logging.getLogger(__name__)


def require_streams(server: StreamServer, partitions: int) -> None:
    """Look at what is there under the names of the streams.

    Raises:
        StreamRefused: Something else than a stream, which would refuse its part of every round while the others take
            theirs again and again.
        StreamUnavailable: As `StreamServer.speaking`.
    """
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


def warn_of_eviction(server: StreamServer) -> None:
    """Warn when Redis would rather delete streams than refuse to take more; raises as `StreamServer.speaking`."""
    with server.speaking() as client:
        try:
            policy = str(client.info("memory").get("maxmemory_policy", ""))
        except NoPermissionError:
            return
    if policy.startswith(_EVICTING):
        logger.warning(
            "Redis deletes streams when its memory is full; expected the maxmemory-policy noeviction",
            extra={"redis": server.address, "maxmemory_policy": policy},
        )
