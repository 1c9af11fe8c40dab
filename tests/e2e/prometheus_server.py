"""A real Prometheus as a child process, scraping one target."""

import json
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from sidecar_process import DEADLINE_S, until

_LISTENING = re.compile(r'msg="Listening on" address=(\S+)')
_CONFIG = """\
global: {{scrape_interval: 200ms}}
scrape_configs:
  - job_name: session-exporter
    metrics_path: {path}
    static_configs: [{{targets: ["{target}"]}}]
"""


class Prometheus:
    """Debian's prometheus on a free port of 127.0.0.1, its data in a directory that goes with it.

    Run as root, the server is somebody without privileges.

    Args:
        command: The path of `prometheus`.
        url: What to scrape.
        path: Where the target's metrics are.

    Attributes:
        target: What is scraped.
    """

    def __init__(self, command: str, url: str, path: str = "/metrics") -> None:
        self.target = url
        self._command = command
        self._config = _CONFIG.format(target=url.removeprefix("http://"), path=path)
        self._url = ""

    def __enter__(self) -> Self:
        # Not below the directory of the test, which nobody else can enter.
        self._home = Path(tempfile.mkdtemp(prefix="session-exporter-prometheus-"))
        try:
            self._start()
        except BaseException:
            shutil.rmtree(self._home)
            raise
        try:
            self._url = f"http://{until(self._address, 'Prometheus listens')}"
            until(self._is_ready, "Prometheus is ready")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._home)

    def _start(self) -> None:
        (self._home / "prometheus.yml").write_text(self._config, encoding="utf-8")
        command = [
            *(self._command, f"--config.file={self._home / 'prometheus.yml'}", "--web.listen-address=127.0.0.1:0"),
            *(f"--storage.tsdb.path={self._home / 'data'}", "--enable-feature=exemplar-storage"),
        ]
        somebody: dict[str, Any] = {}
        with (self._home / "log").open("wb") as log:
            if os.geteuid() == 0:
                nobody = pwd.getpwnam("nobody")
                for path in (self._home, self._home / "prometheus.yml"):
                    os.chown(path, nobody.pw_uid, nobody.pw_gid)
                somebody = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._home, **somebody
            )

    def _address(self) -> str:
        log = (self._home / "log").read_text(encoding="utf-8", errors="replace")
        found = _LISTENING.search(log)
        assert found or self._process.poll() is None, f"Prometheus has ended:\n{log}"
        return found[1] if found else ""

    def _is_ready(self) -> bool:
        try:
            with urlopen(f"{self._url}/-/ready", timeout=DEADLINE_S) as answer:
                return answer.status == 200
        except URLError:
            return False

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API."""
        with urlopen(f"{self._url}/api/v1/{path}?{urlencode(parameters)}", timeout=DEADLINE_S) as answer:
            document = json.load(answer)
        assert document["status"] == "success", document
        return document["data"]

    def samples(self, selector: str) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        """All stored samples of the selected series: labels, then (time, value) in order."""
        found = self.ask("query", query=f"{selector}[10m]")["result"]
        return [(each["metric"], [(time, float(value)) for time, value in each["values"]]) for each in found]

    def values(self, query: str) -> list[float]:
        """The values of an instant query."""
        return [float(each["value"][1]) for each in self.ask("query", query=query)["result"]]

    def until_scraped(self, times: int = 2) -> None:
        """Wait until the target has been scraped well so many times from now on."""
        known = self._scrapes()
        until(lambda: self._scrapes() >= known + times, "Prometheus scrapes its target")

    def _scrapes(self) -> int:
        return sum(value == 1 for _, samples in self.samples("up") for _, value in samples)
