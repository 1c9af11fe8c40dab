"""Zero code, in processes as real servers start them: what they create is recorded, by the process that did."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import urlopen

import pytest
from hooked import APPS, RUN, SOURCES, environment, hooked
from journals import DEADLINE_S, Journal, wait_until

from session_exporter.core.events import Created

pytestmark = [pytest.mark.integration, pytest.mark.slow]

CALLS = '  - {call: "booth:open_session", kind: create, scope: chat, user: user, session: id}\n'
ON_PATH = {"PYTHONPATH": f"{APPS}{os.pathsep}{SOURCES}"}
Truth = dict[int, set[str]]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def config(tmp_path: Path, journal: Journal) -> Path:
    path = tmp_path / "sessions.yml"
    path.write_text(f"journal: {{directory: {journal.directory}}}\ncalls:\n{CALLS}", encoding="utf-8")
    return path


class Server:
    """A server under `session-exporter run`; its port is the one that its log tells."""

    def __init__(self, config: Path, log: Path, *command: str) -> None:
        self.log = log
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [*RUN, "--config.file", str(config), "--", *command],
                env=environment(**ON_PATH),
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        wait_until(lambda: self._listens() or self.process.poll() is not None, log.read_text)
        self.truth: Truth = {}

    def _port(self) -> str:
        found = re.search(r"http://127\.0\.0\.1:([1-9]\d*)", self.log.read_text())
        return found[1] if found else ""

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", int(self._port() or 0))):
                return True
        except OSError:
            return False

    def ask(self, user: str) -> None:
        """Have a session opened."""
        with urlopen(f"http://127.0.0.1:{self._port()}/{user}", timeout=DEADLINE_S) as response:
            told = json.load(response)
        self.truth.setdefault(told["pid"], set()).add(told["session"])

    def keep_asking(self, workers: int) -> None:
        """Ask until that many workers have answered."""
        deadline_s = time.monotonic() + DEADLINE_S
        with ThreadPoolExecutor(4) as pool:
            while len(self.truth) < workers:
                assert time.monotonic() < deadline_s, self.log.read_text()
                list(pool.map(self.ask, [f"u{number}" for number in range(20)]))

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)


@pytest.fixture
def serve(config: Path, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def served(*command: str) -> Server:
        started.append(Server(config, tmp_path / "server.log", *command))
        return started[-1]

    yield served
    for server in started:
        if server.process.poll() is None:
            server.stop()


def created(journal: Journal) -> Truth:
    found: Truth = {}
    for pid, events in journal.events_by_pid().items():
        sessions = [event.session for event in events if isinstance(event, Created)]
        assert len(sessions) == len(set(sessions)) == len(events)
        if sessions:
            found[pid] = set(sessions)
    return found


def printed(text: str) -> Truth:
    found: Truth = {}
    for line in text.splitlines():
        told = json.loads(line)
        found.setdefault(told["pid"], set()).add(told["session"])
    return found


def gunicorn(*options: str) -> list[str]:
    command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "--workers", "2", *options]
    return [*command, "--no-control-socket", "booth:wsgi"]


@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["workers import", "the master imports"])
def test_workers_of_gunicorn_record_what_they_create(options, serve, journal) -> None:
    server = serve(*gunicorn(*options))
    server.keep_asking(workers=2)
    assert created(journal) == server.truth
    assert server.process.pid not in created(journal)
    assert set(journal.pids()) == {server.process.pid, *server.truth}
    assert all(hooks["calls"] and hooks["autoload"] for hooks in journal.hooks().values())
    assert journal.errors() == {}


def test_a_worker_that_is_replaced_is_followed_by_its_successor(serve, journal) -> None:
    server = serve(*gunicorn("--preload"))
    server.keep_asking(workers=2)
    for pid in list(server.truth):
        os.kill(pid, signal.SIGKILL)
    server.keep_asking(workers=4)
    assert created(journal) == server.truth


def test_gunicorn_ends_as_it_is_told(serve) -> None:
    server = serve(*gunicorn())
    server.keep_asking(workers=1)
    assert server.stop(signal.SIGTERM) == 0
    assert "Shutting down: Master" in server.log.read_text()


def test_workers_of_uvicorn_record_what_they_create(serve, journal) -> None:
    options = ["--host", "127.0.0.1", "--port", "0", "--workers", "2", "--lifespan", "off"]
    server = serve(sys.executable, "-m", "uvicorn", "booth:asgi", *options)
    server.keep_asking(workers=2)
    assert created(journal) == server.truth
    assert server.process.pid not in created(journal)
    assert journal.errors() == {}


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("form", [[APPS / "shop_jobs.py"], ["-m", "shop_jobs"]], ids=["script", "module"])
def test_processes_of_every_kind_record_what_they_create(form, method, config, journal) -> None:
    done = hooked(config, sys.executable, *form, method, **ON_PATH)
    assert (done.returncode, done.stderr) == (0, "")
    truth = printed(done.stdout)
    assert len(truth) == 3
    assert created(journal) == truth
    # The server of `forkserver` runs no job; the tracker of shared resources is no process of the application's.
    assert len(journal.pids()) == 3 + (method == "forkserver")


def test_a_script_that_names_its_interpreter_records_what_it_creates(config, journal, tmp_path) -> None:
    script = tmp_path / "open-a-session"
    script.write_text(f"#!{sys.executable}\nimport booth\nprint(booth.served('u').decode())\n", encoding="utf-8")
    script.chmod(0o755)
    done = hooked(config, script, **ON_PATH)
    assert created(journal) == printed(done.stdout) != {}


def test_subprocesses_record_what_they_create(config, journal) -> None:
    script = (
        "import subprocess, sys; import booth; print(booth.served('parent').decode(), flush=True);"
        "subprocess.run([sys.executable, '-c', \"import booth; print(booth.served('child').decode())\"], check=True)"
    )
    done = hooked(config, sys.executable, "-c", script, **ON_PATH)
    truth = printed(done.stdout)
    assert len(truth) == 2
    assert created(journal) == truth
