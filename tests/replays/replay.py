"""What happened once, happening again: events with their timestamps, through real writers, a real sidecar, its state.

Each worker is a process of its own that writes its events into the journal; the sidecar then judges them all. Nothing
of its answers depends on when it runs: ids are digested under a key that is always the same, and what differs between
two runs (process ids, the names of directories) is put in order in `told`.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import msgspec
from sidecar_process import DEADLINE_S, Scrape, Sidecar, environment, run

from session_exporter.core.events import Event

VIEW = "session_exporter.cli.view_metrics"
DAY = "2025-09-08"
CONFIG = """
limits: {{incident_retention: 3650d}}
privacy: {{key_file: {key_file}}}
scopes:
{scopes}
"""


def at(clock: str) -> int:
    """The time of a clock on that day, microseconds since the epoch: `21:12:25.020`."""
    moment = datetime.fromisoformat(f"{DAY}T{clock}").replace(tzinfo=UTC)
    return round(moment.timestamp() * 1_000_000)


class Replay:
    """A sidecar, and the workers that wrote before it was started; a context manager.

    Args:
        home: An existing directory.
        scopes: As in the configuration, indented.
        workers: By a number that stands for its process id in stories: its replica, and its events in their order.
    """

    def __init__(self, home: Path, scopes: str, workers: dict[int, tuple[str, Sequence[Event]]]) -> None:
        key_file = home / "replayed.key"
        key_file.write_bytes(bytes(range(32)))
        self.sidecar = Sidecar(home, CONFIG.format(key_file=key_file, scopes=scopes))
        self._workers = workers
        self._pids: dict[int, int] = {}

    def __enter__(self) -> Self:
        for number, (replica, events) in self._workers.items():
            self._pids[_write(self.sidecar.journal, replica, events)] = number
        self.sidecar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.sidecar.kill()

    def scrape(self) -> Scrape:
        """What is exposed when all events have been judged in their order."""
        count = sum(len(events) for _, events in self._workers.values())
        scrape = self.sidecar.scrape_until(
            lambda each: each.total("session_exporter_events_total") == count, f"{count} events are counted"
        )
        assert (scrape.total("session_exporter_late_events_total"), scrape.lost()) == (0, {})
        return scrape

    def incidents(self) -> list[dict[str, Any]]:
        """What was found, oldest first, however long ago: what somebody is told who has followed from the start."""
        found: list[dict[str, Any]] = self.sidecar.json("/api/v1/incidents?after=00000000-0")["incidents"]
        return found

    def told(self, incident: dict[str, Any]) -> str:
        """What `view-metrics explain` prints, with the numbers of the workers for their process ids."""
        finished = run(VIEW, "explain", "--url", self.sidecar.url, incident["id"])
        assert finished.returncode == 0, finished.stderr
        return re.sub(r"\b(\d+)@", lambda found: f"{self._pids[int(found[1])]}@", finished.stdout)


def _write(journal: Path, replica: str, events: Sequence[Event]) -> int:
    command = [sys.executable, str(Path(__file__).with_name("replay_worker.py")), str(journal), replica]
    with subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE) as worker:
        worker.communicate(msgspec.msgpack.encode(events), timeout=DEADLINE_S)
        assert worker.returncode == 0
        return worker.pid
