"""What all tests share: where their modules are, hypothesis profiles, servers, and that nothing is left behind."""

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from postgres_server import Postgres
    from redis_server import RedisServer

# Oracles and fixtures are modules beside the tests that use them.
sys.path[:0] = [str(path) for path in Path(__file__).parent.iterdir() if path.is_dir()]

# HYPOTHESIS_PROFILE=campaign is for `make fuzz`. Tests that need more examples than others take a multiple.
settings.register_profile("default", max_examples=100, deadline=None, print_blob=True)
settings.register_profile("campaign", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# Every process that a test starts inherits it, also one whose parent is gone.
MARK = f"SESSION_EXPORTER_TESTS={uuid4().hex}"
os.environ.update([MARK.split("=", 1)])
# The helper of `multiprocessing` lives as long as the process that it helps.
LASTING = (b"multiprocessing.resource_tracker", b"multiprocessing.forkserver")
LEFT_BEHIND_AFTER_S = 10.0
# Where Debian keeps the programs of PostgreSQL, not on the PATH.
POSTGRES_PROGRAMS = "/usr/lib/postgresql"


@pytest.fixture(scope="session")
def require_server() -> Callable[[str], str]:
    """Returns the path of a server's command; without it the test is skipped, and under CI=true it fails."""

    def find(command: str) -> str:
        path = shutil.which(command) or shutil.which(command, path=_postgres_programs())
        if path is not None:
            return path
        problem = f"{command} is missing; install it with: make servers"
        if os.environ.get("CI", "").lower() in {"true", "1"}:
            pytest.fail(problem)
        pytest.skip(problem)

    return find


@pytest.fixture(scope="session")
def postgres(require_server: Callable[[str], str]) -> Iterator["Postgres"]:
    """A PostgreSQL, started for the first test that asks for it; each takes a `database()` of its own."""
    from postgres_server import Postgres

    programs = Path(require_server("initdb")).resolve().parent
    with Postgres(programs) as server:
        yield server


@pytest.fixture
def own_postgres(require_server: Callable[[str], str]) -> Iterator["Postgres"]:
    """A PostgreSQL of a test's own, which may kill it: what was committed is there after a restart."""
    from postgres_server import Postgres

    with Postgres(Path(require_server("initdb")).resolve().parent, keeps=True) as server:
        yield server


@pytest.fixture(scope="session")
def shared_redis(require_server: Callable[[str], str]) -> Iterator["RedisServer"]:
    """A Redis, started for the first test that asks for it, with whatever the last one has left in it."""
    from redis_server import RedisServer

    with RedisServer(require_server("redis-server")) as server:
        yield server


@pytest.fixture
def redis(shared_redis: "RedisServer") -> "RedisServer":
    """A Redis that is empty; another test has used it before."""
    shared_redis.flush()
    return shared_redis


@pytest.fixture
def own_redis(require_server: Callable[[str], str]) -> Iterator[Callable[..., "RedisServer"]]:
    """Starts a Redis of a test's own, as the arguments of `RedisServer` say."""
    from redis_server import RedisServer

    with ExitStack() as stack:
        yield lambda **more: stack.enter_context(RedisServer(require_server("redis-server"), **more))


@pytest.fixture(scope="module", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fails the last test of a module when processes or threads outlive it.

    The servers that a session keeps are no matter of a module: they are started without the mark.
    """
    processes, threads = _processes(), set(threading.enumerate())
    yield
    deadline = time.monotonic() + LEFT_BEHIND_AFTER_S
    while (left := _left_behind(processes, threads)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left, f"left behind: {', '.join(left)}"


def _postgres_programs() -> str:
    """As a PATH, the newest version first."""
    versions = sorted(Path(POSTGRES_PROGRAMS).glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    return os.pathsep.join(map(str, versions))


def _left_behind(processes: dict[int, str], threads: set[threading.Thread]) -> list[str]:
    living = [f"process {pid}: {command}" for pid, command in _processes().items() if pid not in processes]
    return living + [str(each) for each in threading.enumerate() if each not in threads]


def _processes() -> dict[int, str]:
    """Command lines, by pid, of the living processes that tests of this process started."""
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if MARK.encode() not in (directory / "environ").read_bytes():
                continue
            command = (directory / "cmdline").read_bytes()
        except OSError:  # gone, or somebody else's
            continue
        if command and not any(word in command for word in LASTING):
            found[int(directory.name)] = command.replace(b"\0", b" ").decode(errors="replace").strip()[:200]
    return found
