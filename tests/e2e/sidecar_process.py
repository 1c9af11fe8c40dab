"""A real sidecar as a child process, and what its scrapes say."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from prometheus_client.openmetrics.parser import text_string_to_metric_families

import session_exporter

DEADLINE_S = 30.0
TICK_S = 0.01
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
# What would send the child elsewhere.
OVERRIDES = {"SESSION_EXPORTER_DIR", "SESSION_EXPORTER_DISABLED"}
_SOURCE_ROOT = Path(session_exporter.__file__).parents[1]
_LISTENING = re.compile(r'msg=listening url="?(http[^\s"]+)')

Labels = tuple[tuple[str, str], ...]
Series = tuple[str, Labels]


def until(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """Ask until the answer is true; returns it."""
    end = time.monotonic() + deadline_s
    while not (answer := condition()):
        assert time.monotonic() < end, f"the deadline of {deadline_s:g} s has passed: {what}"
        time.sleep(TICK_S)
    return answer


def environment(**more: str) -> dict[str, str]:
    """The environment for a child that imports the same package."""
    path = os.pathsep.join([str(_SOURCE_ROOT), os.environ.get("PYTHONPATH", "")])
    own = {key: value for key, value in os.environ.items() if key not in OVERRIDES}
    return {**own, "PYTHONPATH": path, **more}


def run(module: str, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the product to its end; one that is refused ends by itself."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(
        command, env=environment(**more), capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


class Scrape:
    """One answer of `/metrics` in OpenMetrics: every sample, and which of them may only grow or stay."""

    def __init__(self, body: str) -> None:
        self.samples: dict[Series, float] = {}
        self.exemplars: dict[Series, dict[str, str]] = {}
        self.cumulative: set[Series] = set()
        self.births: set[Series] = set()
        for family in text_string_to_metric_families(body):
            for sample in family.samples:
                series = (sample.name, tuple(sorted(sample.labels.items())))
                self.samples[series] = sample.value
                if sample.exemplar:
                    self.exemplars[series] = sample.exemplar.labels
                if sample.name.endswith("_created"):
                    self.births.add(series)
                elif family.type in {"counter", "histogram"}:
                    self.cumulative.add(series)

    def value(self, name: str, **labels: str) -> float:
        """One sample."""
        return self.samples[name, tuple(sorted(labels.items()))]

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples of a name that have these labels."""
        return sum(self.of(name, **labels).values())

    def of(self, name: str, **labels: str) -> dict[Labels, float]:
        """All samples of a name that have these labels."""
        return {
            own: value
            for (sample, own), value in self.samples.items()
            if sample == name and labels.items() <= dict(own).items()
        }

    def lost(self) -> dict[Labels, float]:
        """What is counted as lost, without the zeros."""
        return {labels: value for labels, value in self.of("session_exporter_events_lost_total").items() if value}

    def regressions(self, earlier: "Scrape") -> list[str]:
        """Counters that went backwards or vanished since `earlier`, and births that changed."""
        found = []
        for series in earlier.cumulative | earlier.births:
            before, now = earlier.samples[series], self.samples.get(series)
            if now is None or (now != before if series in earlier.births else now < before):
                found.append(f"{series[0]}{dict(series[1])}: {before} and then {now}")
        return sorted(found)


class Sidecar:
    """`session-exporter serve` on directories of its own; started and ended as often as a test likes.

    Args:
        home: An existing directory; configuration, logs, and by default journal and state are below it.
        config: The configuration's text.
        journal: The journal's directory.
        state: The state's directory.
        arguments: More of the command line.

    Attributes:
        variables: More of the environment.
    """

    def __init__(
        self,
        home: Path,
        config: str = "",
        *,
        journal: Path | None = None,
        state: Path | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.config_file = home / "config.yml"
        self.config_file.write_text(config, encoding="utf-8")
        self.journal = journal or home / "journal"
        self.state = state or home / "state"
        self.listen = "127.0.0.1:0"
        self.process: subprocess.Popen[bytes] | None = None
        self.variables: dict[str, str] = {}
        self._home = home
        self._arguments = arguments
        self._starts = 0
        self._url = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def command_line(self) -> list[str]:
        """The arguments of `session-exporter`."""
        return [
            *("serve", "--config.file", str(self.config_file), "--web.listen-address", self.listen),
            *("--journal.directory", str(self.journal), "--state.directory", str(self.state), *self._arguments),
        ]

    @property
    def log_file(self) -> Path:
        """What the newest process writes to stderr."""
        return self._home / f"sidecar-{self._starts}.log"

    @property
    def log(self) -> str:
        """All that the newest process has logged so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self._starts else ""

    def start(self) -> Self:
        """Start it, and wait for nothing."""
        assert self.process is None, "it runs already"
        self._starts += 1
        self._url = ""
        with self.log_file.open("wb") as log:
            command = [sys.executable, "-m", "session_exporter", *self.command_line()]
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(**self.variables)
            )
        return self

    def listening(self) -> str:
        """Its URL, `""` while it does not listen; a sidecar that has ended by itself fails the test."""
        found = _LISTENING.search(self.log)
        assert found or (self.process and self.process.poll() is None), f"the sidecar has ended:\n{self.log}"
        return found[1] if found else ""

    @property
    def url(self) -> str:
        """Where it listens; waits for it."""
        if not self._url:
            self._url = until(self.listening, "the sidecar listens")
        return self._url

    def get(self, path: str, *, method: str = "GET", accept: str = "") -> tuple[int, str]:
        """Ask for a path; the status and the body, whatever the status."""
        request = Request(f"{self.url}{path}", method=method, headers={"Accept": accept} if accept else {})
        try:
            with urlopen(request, timeout=DEADLINE_S) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def json(self, path: str) -> Any:
        """Ask for a document."""
        status, body = self.get(path)
        assert status == 200, body
        return json.loads(body)

    def answer(self) -> Scrape | None:
        """Scrape once; None before the first commit."""
        status, body = self.get("/metrics", accept=OPENMETRICS)
        assert status in {200, 503}, body
        return Scrape(body) if status == 200 else None

    def scrape(self) -> Scrape:
        """Scrape, as soon as it can be."""
        return until(self.answer, "a scrape is answered")

    def scrape_until(self, condition: Callable[[Scrape], Any], what: str) -> Scrape:
        """Scrape until the condition holds; the scrape that fulfils it."""

        def look() -> Scrape | None:
            scrape = self.answer()
            return scrape if scrape and condition(scrape) else None

        return until(look, what)

    def until_logged(self, pattern: str) -> str:
        """Wait for a line of the log; returns what the pattern found."""
        return until(lambda: re.search(pattern, self.log), f"{pattern!r} in the log")[0]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.process
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; the exit code."""
        assert self.process
        code = self.process.wait(DEADLINE_S)
        self.process = None
        return code

    def stop(self) -> int:
        """End it with SIGTERM; the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End it with SIGKILL, if it runs."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
