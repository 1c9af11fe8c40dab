"""Where the time of a process goes."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Stopwatch:
    """Adds up the time that wrapped calls take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            begun_s = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - begun_s

        return timed


def waited_s() -> float:
    """How long this process was ready to run while its core was given to others; 0 where the kernel does not tell."""
    try:
        return int(Path("/proc/self/schedstat").read_text("ascii").split()[1]) / 1e9
    except OSError:
        return 0.0
