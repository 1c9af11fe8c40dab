"""A real sidecar in a process of its own, asked over HTTP."""

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
from scraping import Scraper

READY_WITHIN_S: Final = 60.0
STOPPED_WITHIN_S: Final = 300.0


class Sidecar(Scraper):
    """One running sidecar."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        super().__init__(port)
        self.process = process

    def value(self, metric: str) -> float:
        """The sum of a metric's samples."""
        samples = re.findall(rf"^{metric}(?:\{{[^\n]*\}})? (\S+)$", self.get({}).decode(), re.MULTILINE)
        if not samples:
            raise RuntimeError(f"{metric} is not exposed")
        return sum(map(float, samples))

    def wait_for(self, condition: Callable[["Sidecar"], bool], what: str, within_s: float) -> None:
        """Wait until a condition holds; RuntimeError when it does not within the time, or the sidecar ends."""
        until_s = time.monotonic() + within_s
        while not condition(self):
            if time.monotonic() > until_s or self.process.poll() is not None:
                raise RuntimeError(f"the sidecar did not come to this: {what}")
            time.sleep(0.05)

    def memory_mb(self, what: str = "VmRSS") -> float:
        """Resident memory, MB (10^6 bytes); with `VmHWM` the most it ever was."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        return int(re.findall(rf"{what}:\s+(\d+) kB", status)[0]) * 1024 / 1e6


@contextmanager
def sidecar_for(journal: Path, place: Path, *, trail_events: int = 20) -> Iterator[Sidecar]:
    """A sidecar for this journal, its state and log below `place`; stopped, and waited for, at the end.

    Args:
        journal: The journal's directory.
        place: A directory for the rest.
        trail_events: `audit_trail.events_per_user`; with 0 nothing is remembered.
    """
    config = place / "config.yml"
    trail = f"audit_trail: {{events_per_user: {trail_events}}}\n"
    config.write_text(f"scopes: {{{SCOPE}: {{idle_timeout: 2h}}}}\n{trail}", "utf-8")
    with serving(config, place / "state", f"--journal.directory={journal}") as sidecar:
        yield sidecar


@contextmanager
def serving(config: Path, state: Path, *arguments: str) -> Iterator[Sidecar]:
    """A process of this product; stopped, and waited for, at the end.

    Args:
        config: The configuration's path.
        state: The state's directory; the log is beside it.
        arguments: More of the command line; a first one without dashes is the command, instead of `serve`.
    """
    log = state.with_suffix(".log")
    command = [] if arguments and not arguments[0].startswith("-") else ["serve"]
    options = ["--web.listen-address=127.0.0.1:0", f"--config.file={config}", f"--state.directory={state}"]
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "session_exporter", *command, *arguments, *options],
            env=environment(),
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        sidecar = Sidecar(process, _port(log, process))
        try:
            yield sidecar
        finally:
            sidecar.close()
    except BaseException as error:
        error.add_note(f"it (status {process.poll()}) said: {log.read_text('utf-8')[-2000:]}")
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOPPED_WITHIN_S)


def _port(log: Path, process: subprocess.Popen[str]) -> int:
    until_s = time.monotonic() + READY_WITHIN_S
    while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text("utf-8"))):
        if time.monotonic() > until_s or process.poll() is not None:
            raise RuntimeError("the sidecar did not start")
        time.sleep(0.02)
    return int(found[1])
