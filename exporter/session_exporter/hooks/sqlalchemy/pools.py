"""How many connections the pools of a process have, and how long the application waits for one."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from weakref import ReferenceType, ref

from session_exporter.reporter import Reporter

# Added up each time a connection comes or goes; the pool that was used least recently is left out beyond it.
POOLS_MAX: Final = 64


class PoolWatch:
    """Adds up the pools that connections are taken from; those without a queue have no figures to add.

    Args:
        reporter: The hook's.
        clock_ns: Monotonic nanoseconds.
    """

    def __init__(self, reporter: Reporter, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._reporter = reporter
        self._clock_ns = clock_ns
        self._pools: dict[int, tuple[ReferenceType[Any], int, int]] = {}
        self._shown: dict[str, int] = {}

    def connect(self, original: Callable[..., Any], pool: Any, *args: Any, **kwargs: Any) -> Any:
        """Take a connection from a pool, as `original` does."""
        began_ns = self._clock_ns()
        try:
            return original(pool, *args, **kwargs)
        finally:
            with self._reporter.shield:
                self._reporter.pool_waited(max(0, self._clock_ns() - began_ns) // 1000)
                self.look(pool)

    def look(self, pool: Any) -> None:
        """Bring the figures of a pool up to date."""
        with self._reporter.shield:
            idle, used = getattr(pool, "checkedin", None), getattr(pool, "checkedout", None)
            if idle is None or used is None:
                return
            known = self._pools.get(id(pool))
            reference = ref(pool, partial(self._collected, id(pool))) if known is None else known[0]
            self._pools[id(pool)] = reference, max(0, idle()), max(0, used())
            if len(self._pools) > POOLS_MAX:
                self._pools.pop(next(iter(self._pools)), None)
            self._show()

    def look_at_all(self) -> None:
        """Bring the figures of all pools up to date: one was disposed of."""
        for reference, _, _ in list(self._pools.values()):
            pool = reference()
            if pool is not None:
                self.look(pool)

    def forget(self) -> None:
        """Show nothing of the pools that were seen."""
        self._pools.clear()
        self._shown.clear()

    def stop(self) -> None:
        """Show that there are none."""
        self.forget()
        with self._reporter.shield:
            self._show()

    def _show(self) -> None:
        figures = list(self._pools.values())
        self._set("db_pool_idle", sum(idle for _, idle, _ in figures))
        self._set("db_pool_used", sum(used for _, _, used in figures))

    def _set(self, name: str, value: int) -> None:
        if self._shown.get(name) != value:
            self._shown[name] = value
            self._reporter.set_gauge(name, value)

    def _collected(self, key: int, pool: object) -> None:
        known = self._pools.get(key)
        if known is not None and known[0] is pool:
            self._pools.pop(key, None)
            with self._reporter.shield:
                self._show()
