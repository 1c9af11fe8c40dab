"""What all tests share: where their modules are, hypothesis profiles, servers, and that nothing is left behind."""

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings

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


@pytest.fixture(scope="session")
def require_server() -> Callable[[str], str]:
    """Returns the path of a server's command; without it the test is skipped, and under CI=true it fails."""

    def find(command: str) -> str:
        path = shutil.which(command)
        if path is not None:
            return path
        problem = f"{command} is missing; install it with: make servers"
        if os.environ.get("CI", "").lower() in {"true", "1"}:
            pytest.fail(problem)
        pytest.skip(problem)

    return find


@pytest.fixture(scope="module", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fails the last test of a module when processes or threads outlive it."""
    processes, threads = _processes(), set(threading.enumerate())
    yield
    deadline = time.monotonic() + LEFT_BEHIND_AFTER_S
    while (left := _left_behind(processes, threads)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left, f"left behind: {', '.join(left)}"


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
