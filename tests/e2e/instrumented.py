"""An application under `session-exporter run`, as its operator would start it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self
from urllib.error import URLError
from urllib.request import urlopen

from sidecar_process import DEADLINE_S, TICK_S, environment

APPLICATIONS = Path(__file__).parent / "applications"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Instrumented:
    """A server of the application's, with our hooks in it; a context manager.

    Args:
        home: Where configuration, log and journal are.
        config: The configuration's text.
        command: The program and its arguments; `{port}` stands for the port it is to listen on.
        journal: The journal's directory; one below `home` when not given.
        more: Of its environment.
    """

    def __init__(
        self, home: Path, config: str, command: Sequence[str], *, journal: Path | None = None, **more: str
    ) -> None:
        self.journal = journal or home / "journal"
        self.log = home / "application.log"
        self.config = home / "config.yml"
        self.config.write_text(f"journal: {{directory: {self.journal}}}\n{config}", encoding="utf-8")
        self.port = free_port()
        own = [sys.executable, "-m", "session_exporter", "run", "--config.file", str(self.config), "--"]
        self._command = own + [word.format(port=self.port) for word in command]
        path = os.pathsep.join([str(APPLICATIONS), environment()["PYTHONPATH"]])
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        self._environment = {**environment(PYTHONPATH=path, PATH=programs), **more}

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + DEADLINE_S
        while not self._answers():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(TICK_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> int:
        """End it as an orchestrator does."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.url}/openapi.json", timeout=DEADLINE_S):
                return True
        except URLError as error:
            return hasattr(error, "code")
        except OSError:
            return False
