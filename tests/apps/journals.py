"""What processes have left in a journal, read as the sidecar reads it."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from session_exporter.core.events import Event
from session_exporter.journal.control import Control
from session_exporter.journal.reader import JournalReader

DEADLINE_S = 60.0


class Journal:
    """A journal's directory.

    Args:
        directory: It need not exist yet.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def events(self) -> list[Event]:
        """All events, those of one worker after another."""
        return [event for events in self.events_by_pid().values() for event in events]

    def events_by_pid(self) -> dict[int, list[Event]]:
        found: dict[int, list[Event]] = {}
        reader = JournalReader(self.directory, {})
        try:
            reader.scan()
            while (batch := reader.read()) is not None:
                assert not batch.malformed
                assert not batch.unknown
                found.setdefault(batch.writer.pid, []).extend(batch.events)
        finally:
            reader.close()
        return found

    def controls(self) -> list[Control]:
        """What each worker says about itself."""
        if not self.directory.exists():
            return []
        reader = JournalReader(self.directory, {})
        try:
            reader.scan()
            return list(reader.controls())
        finally:
            reader.close()

    def pids(self) -> list[int]:
        return sorted(control.writer.pid for control in self.controls())

    def hooks(self) -> dict[int, dict[str, bool]]:
        """Whether each hook is active, by process id."""
        return {each.writer.pid: {name: hook[0] for name, hook in each.hooks.items()} for each in self.controls()}

    def errors(self) -> Counter[str]:
        """Failures by hook, of all workers."""
        counted: Counter[str] = Counter()
        for control in self.controls():
            counted.update({name: errors for name, (_, errors) in control.hooks.items() if errors})
        return counted


def wait_until(condition: Callable[[], object], problem: Callable[[], str] = lambda: "it never came") -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, problem()
        time.sleep(0.02)
