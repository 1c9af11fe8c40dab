"""A Redis as a fleet has it, for measurements: appended to a file, on a core that what is measured does not use."""

import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from feeding import SCOPE, bursts, write_backlog

sys.path.append(str(Path(__file__).parents[1] / "servers"))
from redis_server import RedisServer  # of the tests, who start it the same way

PARTITIONS: Final = 16
WRITERS: Final = 8
EVENTS_PER_USER: Final = 20
USERS_PER_COMMIT: Final = 12_500
# The events' own clock: 100,000 of them per second.
STEP_US: Final = 10
# What is measured has a core to itself.
MEASURED_CPU: Final = max(os.sched_getaffinity(0))


@contextmanager
def redis_for_streams() -> Iterator[RedisServer]:
    """A running Redis; RuntimeError when there is no redis-server."""
    program = shutil.which("redis-server")
    if program is None:
        raise RuntimeError("redis-server is missing; install it with: make servers")
    others = os.sched_getaffinity(0) - {MEASURED_CPU}
    with RedisServer(program, keeps=True) as server:
        if others:
            os.sched_setaffinity(server.pid, others)
        yield server


def write_fleet_config(place: Path, url: str) -> Path:
    """A configuration for forwarders and consumers, and their key; returns its path."""
    key_file, path = place / "key", place / "fleet.yml"
    key_file.write_bytes(secrets.token_bytes(32))
    # Nothing has to make room for anything, so that every run finds the same.
    journal = "journal: {worker_limit: 16GiB, directory_limit: 64GiB}"
    stream = f"stream: {{url: {url!r}, partitions: {PARTITIONS}, tail: 1d, max_entries: 100000000}}"
    scopes = f"scopes: {{{SCOPE}: {{idle_timeout: 2h}}}}"
    path.write_text(f"{journal}\n{stream}\nprivacy: {{key_file: {key_file}}}\n{scopes}\n", encoding="utf-8")
    return path


def write_users(directory: Path, users: int, *, begin_us: int) -> int:
    """A backlog of so many users, each with 20 events; returns how many events."""
    steps = bursts(users, USERS_PER_COMMIT, EVENTS_PER_USER)
    return write_backlog(directory, steps, begin_us=begin_us, step_us=STEP_US, writers=WRITERS)


class Traffic:
    """What went through a Redis since this was made."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._before = self._now()

    def since(self) -> dict[str, float]:
        """Commands, and bytes in and out and of memory."""
        now = self._now()
        return {name: now[name] - before for name, before in self._before.items()}

    def _now(self) -> dict[str, float]:
        stats, memory = self._client.info("stats"), self._client.info("memory")
        return {
            "commands": stats["total_commands_processed"],
            "in_bytes": stats["total_net_input_bytes"],
            "out_bytes": stats["total_net_output_bytes"],
            "memory_bytes": memory["used_memory"],
        }
