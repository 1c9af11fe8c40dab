"""Sessions that an application keeps in Redis, seen through redis-py, synchronous and asynchronous.

A session is a key that fits a pattern. Seen are single commands, pipelines and transactions, of every client whenever
it was made: SET and its kin, MSET, HSET, HMSET, HSETNX; GET, GETEX, MGET, EXISTS, HGET, HMGET, HGETALL; DEL, UNLINK,
GETDEL; EXPIRE, PERSIST and their kin.

A reply of SET does not tell whether the key was there. This process knows when it looked before; else the ledger
decides, unless the mapping says that the application reads every session before it writes it. Writing a session that is
known to be there is no reuse: many stores write each session back with every request.

Not seen: what scripts and functions do inside of the server, RENAME and COPY, commands on parts of a hash or on lists,
sets and streams, a key that the server lets expire (the scope's idle timeout is for those), DEL of several keys of
which only some were there, and the clients of a cluster.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Final

from session_exporter.hooks.stores.clients import unwrap_clients, wrap_clients
from session_exporter.hooks.stores.watcher import StoreWatcher
from session_exporter.mappings import StoreMapping
from session_exporter.postimport import when_imported
from session_exporter.reporter import Reporter
from session_exporter.tracker import SessionTracker

HOOK: Final = "redis"
# By module, whether its methods are asynchronous.
_MODULES: Final = {"redis.client": False, "redis.asyncio.client": True}

_logger = logging.getLogger("session_exporter")
_lock: Final = threading.RLock()
_installed: Final[set[StoreMapping]] = set()


def install_stores(mappings: Sequence[StoreMapping], tracker: SessionTracker | None = None) -> Callable[[], None]:
    """Report the sessions that the application keeps in Redis.

    Args:
        mappings: Which keys are sessions; the first one whose pattern fits a key is the key's. One that is installed
            already is left out.
        tracker: Where to; one of its own when not given.

    Returns:
        What takes it back.
    """
    with _lock:
        own = [mapping for mapping in dict.fromkeys(mappings) if mapping not in _installed]
        _installed.update(own)
    if not own:
        return lambda: None
    installation = _StoreInstallation(own, (tracker or SessionTracker()).reporter(HOOK))
    installation.begin()
    return installation.end


class _StoreInstallation:
    """One call of `install_stores`."""

    def __init__(self, mappings: Sequence[StoreMapping], reporter: Reporter) -> None:
        self._mappings = mappings
        self._reporter = reporter
        self._watcher = StoreWatcher(mappings, reporter)
        self._modules: list[ModuleType] = []
        self._forget: list[Callable[[], None]] = []

    def begin(self) -> None:
        self._reporter.register(active=True)
        with self._reporter.shield:
            self._forget = [when_imported(name, self._imported) for name in _MODULES]

    def end(self) -> None:
        with self._reporter.shield, _lock:
            if not self._watcher.active:
                return
            self._watcher.active = False
            _installed.difference_update(self._mappings)
            for forget in self._forget:
                forget()
            for module in self._modules:
                unwrap_clients(module)
            self._reporter.register(active=bool(_installed))

    def _imported(self, module: ModuleType) -> None:
        with self._reporter.shield, _lock:
            if not self._watcher.active:
                return
            try:
                wrap_clients(module, self._watcher, asynchronous=_MODULES[module.__name__])
                self._modules.append(module)
            except (AttributeError, KeyError):
                self._reporter.register(active=False)
                _logger.warning("hook redis: %s is of a version that is not supported: not installed", module.__name__)
