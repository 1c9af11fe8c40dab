"""The Redis, or Valkey, that events travel through: one connection, and failures by culprit."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from session_exporter.config import StreamSettings
from session_exporter.errors import ConfigError, StreamRefused, StreamUnavailable
from session_exporter.secreturls import read_url
from session_exporter.stream import entries, keys

# A Redis that is alive answers within milliseconds; loading its data, or behind a slow disk, it may take seconds.
TIMEOUT_S: Final = 5.0
_SOCKET: Final = "unix://"
_BEGINNINGS: Final = ("redis://", "rediss://", _SOCKET)
_EXPECTED: Final = (
    "expected redis://user:password@host:port/number, where user and password have %XX for what is neither letter nor "
    "digit, or ${VARIABLE} in their place"
)
# As Redis says that a number is of none of its databases.
_NO_DATABASE: Final = "DB index is out of range"
_REFUSALS: Final = (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError)
_PASSING: Final = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.BusyLoadingError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
    OSError,
)

_DIFFERENT: Final = {
    "version": "the fleet writes version {theirs}; this is version {ours}",
    "partitions": "the fleet has {theirs} partitions; stream.partitions says {ours}",
    "ids": "the fleet's ids are digests under another key; expected one privacy.key_file for all",
}


def stream_url(settings: StreamSettings, environ: Mapping[str, str]) -> str:
    """The URL to connect to, with what the environment or a file keeps secret.

    Raises:
        ConfigError: There is none, its file cannot be read, a variable is not set, or it is none that Redis has.
    """
    url = read_url(settings.url, settings.url_file, environ, "stream.url")
    if not url.startswith(_BEGINNINGS):
        raise ConfigError("stream.url: expected a URL that begins with redis://, rediss:// or unix://")
    if not url.startswith(_SOCKET) and not _is_whole(url):
        # What may be a part of a password is not shown, and nobody is asked which host that is.
        raise ConfigError(f"stream.url: not a URL; {_EXPECTED}")
    return url


def _is_whole(url: str) -> bool:
    """Whether nothing in a URL was taken for what it is not, as a password of any characters may be."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    database = parts.path.strip("/")
    return url.count("@") <= 1 and not parts.fragment and (not database or database.isdecimal())


class StreamServer:
    """One connection, which is never made anew unnoticed; for one thread at a time.

    Whoever has lost a connection may have lost what it said last: a Redis that was killed forgets up to a second. So a
    lost connection is an error until `connect` is called.

    Args:
        settings: Where it is.
        environ: For the variables in its URL.

    Attributes:
        address: Host and port, or the socket's path: what messages may show.
        client: Of redis-py; answers are bytes. Use it within `speaking`.

    Raises:
        ConfigError: The URL is none.
    """

    def __init__(self, settings: StreamSettings, *, environ: Mapping[str, str] = os.environ) -> None:
        url = stream_url(settings, environ)
        try:
            self.client: Any = redis.Redis.from_url(
                url,
                socket_timeout=TIMEOUT_S,
                socket_connect_timeout=TIMEOUT_S,
                max_connections=1,
                protocol=2,
                retry=Retry(NoBackoff(), 0),
                redis_connect_func=self._on_connect,
            )
        except (ValueError, TypeError) as error:
            raise ConfigError(f"stream.url: {str(error).replace(url, 'the URL')}") from None
        parts = self.client.connection_pool.connection_kwargs
        self.address = str(parts.get("path") or f"{parts.get('host', 'localhost')}:{parts.get('port', 6379)}")
        self._may_connect = False

    def connect(self) -> None:
        """Make a new connection, whether there is one or not; raises as `speaking` does."""
        self.close()
        self._may_connect = True
        try:
            with self.speaking() as client:
                client.ping()
        finally:
            self._may_connect = False

    def _on_connect(self, connection: Any) -> None:
        if not self._may_connect:
            raise exceptions.ConnectionError("the connection was lost")
        connection.on_connect()

    @contextmanager
    def speaking(self) -> Iterator[Any]:
        """The client, for a few commands.

        Raises:
            StreamUnavailable: It is not there, loading, read-only or out of memory: it may be well again later.
            StreamRefused: It wants another password, TLS or permissions.
        """
        try:
            yield self.client
        except _REFUSALS as error:
            raise StreamRefused(f"Redis at {self.address} refuses: {error}") from error
        except _PASSING as error:
            raise StreamUnavailable(f"Redis at {self.address}: {error or type(error).__name__}") from error
        except exceptions.RedisError as error:
            kind = StreamRefused if str(error) == _NO_DATABASE else StreamUnavailable
            raise kind(f"Redis at {self.address} answers: {error}") from error

    def close(self) -> None:
        """Close the connection."""
        try:
            self.client.connection_pool.disconnect()
        except (exceptions.RedisError, OSError):
            return

    def time_us(self) -> int:
        """Redis' clock; raises as `speaking` does."""
        with self.speaking() as client:
            seconds, microseconds = client.time()
        return int(seconds) * 1_000_000 + int(microseconds)

    def run_id(self) -> str:
        """Which run of the server this is: another one after each restart; raises as `speaking` does."""
        with self.speaking() as client:
            return str(client.info("server").get("run_id", ""))

    def agree(self, layout: entries.Layout) -> None:
        """Agree with all others on the layout; the first one decides.

        Raises:
            StreamRefused: The others have another one.
            StreamUnavailable: As `speaking`.
        """
        with self.speaking() as client:
            raw = client.get(keys.LAYOUT)
            if raw is None:  # a Redis without memory takes nothing, but lets those in who free it
                client.set(keys.LAYOUT, entries.encode(layout), nx=True)
                raw = client.get(keys.LAYOUT)
        try:
            found = msgspec.msgpack.decode(raw, type=entries.Layout)
        except (msgspec.MsgspecError, TypeError) as error:
            raise StreamRefused(f"Redis at {self.address}: {keys.LAYOUT} is not of this product: {error}") from error
        for name, told in _DIFFERENT.items():
            theirs, ours = getattr(found, name), getattr(layout, name)
            if theirs != ours:
                raise StreamRefused(f"Redis at {self.address}: {told.format(theirs=theirs, ours=ours)}")
