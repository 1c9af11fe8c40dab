"""A server that lives as long as the tests of one process, by somebody without privileges, on a port of 127.0.0.1."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

HOST = "127.0.0.1"
DEADLINE_S = 30.0
TICK_S = 0.005
PORTS_TRIED = 5


class ServerFailed(Exception):
    """A server did not start, or one of its programs failed; what it printed is in the message."""


class ServerProcess:
    """A context manager that starts a server in a directory of its own, and stops it by its pid.

    It is not in the environment that marks what tests start, so that it may outlive the test module that asked for it
    first; `__exit__` sees to its end, and the kernel does when the test process is killed.

    Args:
        name: Of the server.
        user: Who runs it when the tests are run by root.

    Attributes:
        host: 127.0.0.1.
        port: A free one, chosen by the kernel.
        home: The directory.
        log: The file that it logs to.
    """

    stop_signal = signal.SIGTERM

    def __init__(self, name: str, user: str = "nobody") -> None:
        self.host = HOST
        self.port = 0
        # Not below the directory of the test, which nobody else can enter.
        self.home = Path(tempfile.mkdtemp(prefix=f"session-exporter-{name}-"))
        self.log = self.home / "log"
        self._name = name
        self._somebody = _somebody(user) if os.geteuid() == 0 else {}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            if self._somebody:
                os.chown(self.home, self._somebody["user"], self._somebody["group"])
            self.prepare()
            self._start()
            self.furnish()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None:
            self._process.send_signal(self.stop_signal)
            try:
                self._process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.home)

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None
        return self._process.pid

    def prepare(self) -> None:
        """Make what the server needs before it starts."""

    def command(self) -> list[str]:
        """The server's command line, for `port` and `home`."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Whether the server answers."""
        raise NotImplementedError

    def furnish(self) -> None:
        """Make what has to be there once the server answers."""

    def run(self, *command: object, **variables: str) -> str:
        """Run a program to its end, by whom the server is run; returns what it prints.

        Raises:
            ServerFailed: It failed.
        """
        words = [str(word) for word in command]
        done = subprocess.run(
            words, **self._surroundings(variables), capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
        if done.returncode:
            raise ServerFailed(f"{Path(words[0]).name}: {done.stderr or done.stdout}")
        return done.stdout

    def _start(self) -> None:
        # Somebody else may take the port between the moment it is found free and the moment the server asks for it.
        for _ in range(PORTS_TRIED):
            self.port = _free_port()
            if self._starts_there():
                return
        raise ServerFailed(f"{self._name} does not start: {self._logged()}")

    def _starts_there(self) -> bool:
        """Start it on `port`; whether it becomes ready."""
        with self.log.open("ab") as log:
            self._process = process = subprocess.Popen(
                self._tied(self.command()), stdout=log, stderr=log, **self._surroundings({})
            )
        return self._becomes_ready(process)

    def _becomes_ready(self, process: "subprocess.Popen[bytes]") -> bool:
        deadline = time.monotonic() + DEADLINE_S
        while not self.is_ready():
            if process.poll() is not None:
                return False
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self._name} is not ready after {DEADLINE_S:g} s: {self._logged()}")
            time.sleep(TICK_S)
        return process.poll() is None

    def _logged(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def _tied(self, command: list[str]) -> list[str]:
        """The kernel stops the server when this process is killed, where there is the program to say so."""
        setpriv = shutil.which("setpriv")
        return [setpriv, f"--pdeathsig={self.stop_signal.name}", "--", *command] if setpriv else command

    def _surroundings(self, variables: dict[str, str]) -> dict[str, Any]:
        clean = {"PATH": os.environ["PATH"], "HOME": str(self.home), "LC_ALL": "C.UTF-8", "TZ": "UTC", **variables}
        return {"env": clean, "cwd": self.home, "stdin": subprocess.DEVNULL, **self._somebody}


def _somebody(user: str) -> dict[str, Any]:
    found = pwd.getpwnam(user)
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port
