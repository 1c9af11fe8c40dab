"""A sidecar's engine on real directories, with a clock that stands still until it is told, and workers to feed it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ledgers import START, at

from session_exporter.config import Config
from session_exporter.core import events as wire
from session_exporter.core.incidents import Incident
from session_exporter.core.scopes import ScopeRules
from session_exporter.core.totals import ScopeTotals
from session_exporter.journal import JournalReader, JournalWriter
from session_exporter.sidecar.engine import Engine, Reloads
from session_exporter.sidecar.incidents import Wanted, read_incidents
from session_exporter.sidecar.intake import JournalIntake
from session_exporter.sidecar.schema import DATABASE_NAME
from session_exporter.sidecar.snapshot import Snapshot
from session_exporter.sidecar.state import State
from session_exporter.sidecar.summary import read_summary

CHAT = Config(scopes={"chat": ScopeRules("chat")})


class Sidecar:
    """Args: `place`, where the journal, the state and the key are made; and the configuration."""

    def __init__(self, place: Path, config: Config = CHAT) -> None:
        self.journal = place / "journal"
        self.state = place / "state"
        self.config = config
        self.now_us = START
        self.alarms: list[Incident] = []
        self._writers: dict[str, JournalWriter] = {}
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The running engine; started when there is none."""
        if self._engine is None:
            self._engine = Engine(
                self.config,
                JournalIntake(self.journal, clock_ns=lambda: self.now_us * 1000),
                self.state,
                reloads=Reloads(0.0),
                on_incident=self._alarm,
            )
        return self._engine

    def _alarm(self, incident: Incident, window_us: int) -> None:
        assert window_us == self.config.scopes[incident.scope].duplicate_window_us
        self.alarms.append(incident)

    def worker(self, name: str = "w", replica: str = "pod") -> JournalWriter:
        """The worker of this name."""
        if name not in self._writers:
            self._writers[name] = JournalWriter(self.journal, replica=replica, clock_us=lambda: self.now_us)
        return self._writers[name]

    def end_worker(self, name: str = "w") -> None:
        """End a worker, as its process would."""
        self._writers.pop(name).close()

    def tell(self, kind: type[Any], at_s: float, /, session: str = "", user: str = "ann", **more: Any) -> None:
        """Let a worker record an event; `at_s` is in seconds since `START`."""
        worker = self.worker(more.pop("worker", "w"))
        event = kind(at(at_s), more.pop("scope", "chat"), session, user, **more)
        worker.append(tuple(msgspec.to_builtins(event, builtin_types=(bytes,))))

    def created(self, at_s: float, session: str, user: str = "ann", **more: Any) -> None:
        self.tell(wire.Created, at_s, session, user, **more)

    def reused(self, at_s: float, session: str, user: str = "ann", **more: Any) -> None:
        self.tell(wire.Reused, at_s, session, user, **more)

    def cycle(self, at_s: float | None = None) -> Snapshot:
        """Drain and commit once, at a time in seconds since `START`."""
        if at_s is not None:
            self.now_us = at(at_s)
        snapshot = self.engine.cycle(budget_s=60.0)
        assert snapshot is not None
        return snapshot

    def chat(self, at_s: float | None = None) -> ScopeTotals:
        """The counts of the scope `chat` after a cycle."""
        return self.cycle(at_s).ledger.scopes["chat"]

    def kill(self) -> None:
        """Let go of the engine as the kernel does for a killed process: nothing is judged, read or committed."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine._intake.close()
            engine._state.close()

    def stop(self) -> None:
        """Stop the engine as SIGTERM does."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def close(self) -> None:
        self.kill()
        for name in list(self._writers):
            self.end_worker(name)

    def summary(self, since_s: float = 3600.0, scope: str | None = None) -> dict[str, Any]:
        return read_summary(self.state, since_s=since_s, scope=scope, now_us=self.now_us)

    def incidents(self, **wanted: Any) -> list[dict[str, Any]]:
        return read_incidents(self.state, Wanted(**wanted), now_us=self.now_us)["incidents"]


class Killed(BaseException):
    """The process was killed here."""


def killed_in(sidecar: Sidecar, owner: type[State | JournalReader], step: str) -> bool:
    """Run a cycle that is killed at the beginning of a step; False when it did not get there."""

    def die(*_: object, **__: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, step, die)
        try:
            sidecar.engine.cycle(60.0)
        except Killed:
            sidecar.kill()
            return True
    return False


@contextmanager
def tampered(sidecar: Sidecar, sql: str) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(sidecar.state / DATABASE_NAME, isolation_level=None)) as other:
        other.execute(sql)
        yield other


FULL_DISK = "CREATE TRIGGER full_disk BEFORE INSERT ON meta BEGIN SELECT RAISE(ABORT, 'disk full'); END"


def lose(sidecar: Sidecar, events: int, worker: str = "w") -> None:
    """Let a worker lose events, which it counts in its control block."""
    sidecar.worker(worker).open()
    for _ in range(events):
        sidecar.worker(worker).append((1, at(0), object()))


def lost(sidecar: Sidecar) -> int:
    return sum(sidecar.cycle().exporter.events_lost.values())
