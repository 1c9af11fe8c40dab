"""`session-exporter tail --follow` as a process of its own, beside an application that goes on."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from session_exporter.tracker import SessionTracker

pytestmark = pytest.mark.slow

DEADLINE_S = 20
Follow = Callable[..., contextlib.AbstractContextManager[subprocess.Popen[str]]]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def tracker(directory: Path) -> Iterator[SessionTracker]:
    tracker = SessionTracker(directory)
    yield tracker
    tracker.close()


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "config.yml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def follow(directory: Path) -> Follow:
    @contextlib.contextmanager
    def run(*arguments: object, show_ids: bool = True) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, "-m", "session_exporter", "tail", "--follow", "--journal.directory", directory]
        process = subprocess.Popen(
            [*map(str, command), *(["--show-ids"] if show_ids else []), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        watchdog = threading.Timer(DEADLINE_S, process.kill)
        watchdog.start()
        try:
            yield process
        finally:
            watchdog.cancel()
            process.kill()
            process.communicate()

    return run


def next_line(process: subprocess.Popen[str]) -> str:
    """The watchdog ends the process, and so this, when none comes."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"ended: {process.stderr and process.stderr.read()}"
    return line


def end(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str, str]:
    process.send_signal(number)
    out, err = process.communicate()
    return process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_there_and_what_comes_is_printed_until_a_signal(
    tracker: SessionTracker, follow: Follow, number: int
) -> None:
    tracker.created("ann", "s1")
    with follow() as process:
        assert " created " in next_line(process)
        for n in range(3):
            tracker.reused("ann", f"later-{n}")
            assert f" later-{n} " in next_line(process)
        assert end(process, number) == (0, "", "")


def test_a_directory_without_workers_is_waited_for(tracker: SessionTracker, directory: Path, follow: Follow) -> None:
    with follow() as process:
        assert process.stderr is not None
        note = process.stderr.readline()
        assert note.startswith(f"session-exporter: no worker has written in {directory}; ")
        assert note.endswith("; waiting for one\n")
        tracker.created("ann", "s1")
        assert " s1 " in next_line(process)
        assert end(process) == (0, "", "")


def test_a_pipe_that_is_closed_ends_it_even_when_nothing_comes(tracker: SessionTracker, follow: Follow) -> None:
    tracker.created("ann", "s1")
    with follow() as process:
        next_line(process)
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait() == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
        process.stdout = None


def test_a_pipe_that_is_closed_ends_the_printing_of_what_is_there(tracker: SessionTracker, directory: Path) -> None:
    for n in range(2000):
        tracker.reused("ann", f"s{n}")
    command = f"{sys.executable} -m session_exporter tail --show-ids --journal.directory {directory}; echo $? >&2"
    result = subprocess.run(
        ["bash", "-c", f"({command}) | head -1"], capture_output=True, encoding="utf-8", check=True, timeout=DEADLINE_S
    )
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr == "0\n"


def test_a_full_disk_is_told(tracker: SessionTracker, directory: Path) -> None:
    tracker.reused("ann", "s")
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "session_exporter", "tail", "--show-ids", "--journal.directory", directory],
            stdout=full,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            check=False,
            timeout=DEADLINE_S,
        )
    assert result.returncode == 2
    assert result.stderr == "session-exporter: standard output: No space left on device\n"


def test_verdicts_come_when_the_clock_has_passed_them(
    tracker: SessionTracker, follow: Follow, config: Callable[[str], Path]
) -> None:
    with follow("--judged", "--json", "--config.file", config("lateness: 100ms")) as process:
        with tracker.request(user_id="ann"):
            tracker.created(None, "s1")
            tracker.created(None, "s2")
        # No later event moves the watermark on, only time does.
        found = [json.loads(next_line(process)) for _ in range(3)]
        assert [(each["verdict"], each["session"], each["cause"]) for each in found] == [
            ("create", "s1", None),
            ("create", "s2", None),
            ("rapid_duplicate_create", "s2", "same_request"),
        ]
        code, out, _ = end(process)
        assert (code, out) == (0, "")


def test_what_still_waits_for_its_verdict_is_judged_at_the_end(
    directory: Path, follow: Follow, config: Callable[[str], Path]
) -> None:
    times_s = iter((time.time() - 120, time.time()))
    tracker = SessionTracker(directory, clock_ns=lambda: round(next(times_s) * 1e9))
    tracker.created("ann", "old")
    tracker.created("ann", "new")
    with follow("--judged", "--config.file", config("lateness: 1m")) as process:
        # They are read together.
        assert " old " in next_line(process)
        code, out, _ = end(process)
    tracker.close()
    assert (code, [line.split()[2:5] for line in out.splitlines()]) == (
        0,
        [["create", "default", "new"], ["context_loss", "default", "-"]],
    )


def test_a_second_signal_ends_it_when_nobody_takes_its_lines(tracker: SessionTracker, follow: Follow) -> None:
    for n in range(3000):
        tracker.reused("ann", f"s{n}")
    with follow() as process:
        next_line(process)
        while process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
        assert process.returncode in (0, -signal.SIGTERM)


def test_many_lines_lose_none(tracker: SessionTracker, follow: Follow) -> None:
    total = 20_000
    with follow("--json") as process:
        sender = threading.Thread(target=lambda: [tracker.reused("u", f"s{n}") for n in range(total)])
        sender.start()
        found: list[Any] = [json.loads(next_line(process))["session"] for _ in range(total)]
        sender.join()
        assert end(process)[:2] == (0, "")
    assert found == [f"s{n}" for n in range(total)]
