"""A real sidecar in a process of its own, asked over HTTP."""

import http.client
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from feeding import SCOPE
from places import environment

READY_WITHIN_S: Final = 60.0
# What a Prometheus server sends with each scrape.
HEADERS: Final = {
    "Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
    "Accept-Encoding": "gzip",
    "X-Prometheus-Scrape-Timeout-Seconds": "10",
}


class Sidecar:
    """One running sidecar."""

    def __init__(self, process: subprocess.Popen[str], address: tuple[str, int]) -> None:
        self.process = process
        self._connection = http.client.HTTPConnection(*address, timeout=60.0)

    def scrape_ms(self) -> float:
        """How long one scrape takes for a client that keeps its connection, milliseconds."""
        begun_s = time.perf_counter()
        self._get("/metrics", HEADERS)
        return (time.perf_counter() - begun_s) * 1e3

    def value(self, metric: str) -> float:
        """The sum of a metric's samples."""
        body = self._get("/metrics", {}).decode()
        samples = re.findall(rf"^{metric}(?:\{{[^\n]*\}})? (\S+)$", body, re.MULTILINE)
        if not samples:
            raise RuntimeError(f"{metric} is not exposed")
        return sum(map(float, samples))

    def wait_for(self, condition: Callable[["Sidecar"], bool], what: str, within_s: float) -> None:
        until_s = time.monotonic() + within_s
        while not condition(self):
            if time.monotonic() > until_s or self.process.poll() is not None:
                raise RuntimeError(f"the sidecar did not come to this: {what}")
            time.sleep(0.05)

    def memory_mib(self) -> float:
        """Resident memory, MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024

    def close(self) -> None:
        self._connection.close()

    def _get(self, path: str, headers: dict[str, str]) -> bytes:
        self._connection.request("GET", path, headers=headers)
        response = self._connection.getresponse()
        body = response.read()
        if response.status != http.HTTPStatus.OK:
            raise RuntimeError(f"{path}: status {response.status}")
        return body


@contextmanager
def running(journal: Path, place: Path) -> Iterator[Sidecar]:
    """A sidecar for this journal, its state and log below `place`; stopped, and waited for, at the end."""
    config = place / "config.yml"
    config.write_text(f"scopes: {{{SCOPE}: {{idle_timeout: 2h}}}}\n", "utf-8")
    log = place / "sidecar.log"
    options = {
        "--config.file": config,
        "--web.listen-address": "127.0.0.1:0",
        "--journal.directory": journal,
        "--state.directory": place / "state",
    }
    arguments = [f"{name}={value}" for name, value in options.items()]
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "session_exporter", "serve", *arguments],
            env=environment(),
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        sidecar = Sidecar(process, _address(log, process))
        try:
            yield sidecar
        finally:
            sidecar.close()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(READY_WITHIN_S)


def _address(log: Path, process: subprocess.Popen[str]) -> tuple[str, int]:
    until_s = time.monotonic() + READY_WITHIN_S
    while not (found := re.search(r"http://(127\.0\.0\.1):(\d+)", log.read_text("utf-8"))):
        if time.monotonic() > until_s or process.poll() is not None:
            raise RuntimeError(f"the sidecar did not start: {log.read_text('utf-8')}")
        time.sleep(0.02)
    return found[1], int(found[2])
