"""Listening: addresses as every exporter writes them, and a server that is bound before it says so."""

import asyncio
import errno
import logging
import re
import socket
from collections.abc import Iterable, MutableMapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.log import server_logger

from session_exporter.errors import ListenError

PORT_MAX: Final = 65535
# A scrape under way is let finish; longer than any answer takes that is not waiting for a stuck disk.
SHUTDOWN_TIMEOUT_S: Final = 5.0
KEEPALIVE_TIMEOUT_S: Final = 120.0

_ADDRESS: Final = re.compile(r"(?:\[(?P<v6>[^\[\]]+)\]|(?P<host>[^:\[\]\s]*)):(?P<port>[0-9]{1,5})")
_NO_DUAL_STACK: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
_LOCAL: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


class Address(NamedTuple):
    """Where to listen: `host` is `""` for every interface, `port` 0 for any free one; `text` is how it was written."""

    host: str
    port: int
    text: str


def parse_address(text: str) -> Address:
    """Read `:9897`, `127.0.0.1:0`, `localhost:9897` or `[::1]:9897`.

    Raises:
        ListenError: It has another form, or the port is above 65535.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > PORT_MAX:
        raise ListenError(
            f"web.listen-address {text!r}: expected [HOST]:PORT, such as :9897, 127.0.0.1:0 or [::1]:9897"
        )
    return Address(match["v6"] or match["host"] or "", int(match["port"]), text)


def serve(app: web.Application, listen_addresses: Sequence[str]) -> "Server":
    """Prepare to serve an application; `async with` binds the addresses, serves, and closes.

    Raises:
        ListenError: An address is malformed, or there is none.
    """
    if not listen_addresses:
        raise ListenError("web.listen-address: none given, expected at least one, such as :9897")
    return Server(app, [parse_address(text) for text in listen_addresses])


class Server:
    """An application and its listening sockets; entered once, on the event loop that serves it."""

    def __init__(self, app: web.Application, addresses: Iterable[Address]) -> None:
        self._app = app
        self._addresses = tuple(addresses)
        self._stack = AsyncExitStack()
        self._urls: tuple[str, ...] = ()

    @property
    def urls(self) -> tuple[str, ...]:
        """One per address, in their order, with the port that was bound: `http://127.0.0.1:9897`."""
        return self._urls

    async def __aenter__(self) -> Self:
        """Bind every address, then serve.

        Raises:
            ListenError: An address cannot be bound; then none is.
        """
        async with AsyncExitStack() as stack:
            listeners = [stack.enter_context(await _bind(address)) for address in self._addresses]
            runner = web.AppRunner(
                self._app,
                access_log=None,
                logger=_Reticent(server_logger, {}),
                shutdown_timeout=SHUTDOWN_TIMEOUT_S,
                keepalive_timeout=KEEPALIVE_TIMEOUT_S,
            )
            stack.push_async_callback(runner.cleanup)
            await runner.setup()
            for listener in listeners:
                await web.SockSite(runner, listener).start()
            self._urls = tuple(map(_url, self._addresses, listeners))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening, let requests under way finish for a few seconds, and clean up; more than once is fine."""
        await self._stack.aclose()


class _Reticent(logging.LoggerAdapter[logging.Logger]):
    """Names what is wrong with a request that is no HTTP, without its lines: they may hold the id of a user."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        fault = kwargs.get("exc_info")
        if isinstance(fault, HttpProcessingError):
            kwargs = {**kwargs, "exc_info": None, "extra": {"fault": type(fault).__name__}}
        return msg, kwargs


async def _bind(address: Address) -> socket.socket:
    try:
        if not address.host:
            return _bind_everywhere(address.port)
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # A name that has both, such as localhost, means IPv4, as it does to every exporter written in Go.
        family, _, _, _, place = min(found, key=lambda info: info[0] != socket.AF_INET)
        return socket.create_server(place[:2], family=family)
    except (OSError, UnicodeError) as error:
        raise ListenError(f"web.listen-address {address.text!r}: {_reason(error)}") from error


def _bind_everywhere(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            # A kernel that knows IPv6 and is told not to use it.
            if error.errno not in _NO_DUAL_STACK:
                raise
    return socket.create_server(("", port))


def _reason(error: OSError | UnicodeError) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return "the address is in use by another process; stop it, or listen on another port"
    if isinstance(error, OSError) and error.errno == errno.EACCES:
        return "permission denied; ports below 1024 need privileges"
    return f"cannot listen there: {error}"


def _url(address: Address, listener: socket.socket) -> str:
    host = _LOCAL.get(address.host, address.host)
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"
