"""Drains a journal that was written beforehand, on one core, and prints how long it took and where the time went."""

import json
import os
import sys
import time
from pathlib import Path

from feeding import SCOPE
from stopwatch import Stopwatch, waited_s

from session_exporter.config import Config
from session_exporter.core.ledger import Ledger
from session_exporter.core.scopes import ScopeRules
from session_exporter.journal import JournalReader
from session_exporter.sidecar.engine import Engine
from session_exporter.sidecar.intake import JournalIntake
from session_exporter.sidecar.workers import Reloads


def drain(journal: Path, state: Path, events: int, *, cpu: int) -> dict[str, float]:
    """Drain a journal that holds `events` events; seconds, in total and by stage."""
    os.sched_setaffinity(0, {cpu})
    read, ledger, commit = Stopwatch(), Stopwatch(), Stopwatch()
    JournalReader.read = read.around(JournalReader.read)
    Ledger.apply, Ledger.advance = ledger.around(Ledger.apply), ledger.around(Ledger.advance)
    Engine._commit = commit.around(Engine._commit)
    config = Config(scopes={SCOPE: ScopeRules(name=SCOPE)})
    engine = Engine(config, JournalIntake(journal), state, reloads=Reloads(time.time()), on_incident=lambda *_: None)
    begun_s, begun_cpu_s, begun_waited_s = time.perf_counter(), time.process_time(), waited_s()
    snapshot = engine.cycle(float("inf"))
    wall_s, cpu_s, lent_s = (
        time.perf_counter() - begun_s,
        time.process_time() - begun_cpu_s,
        waited_s() - begun_waited_s,
    )
    if snapshot is None or sum(snapshot.ledger.events.values()) != events:
        raise RuntimeError(f"committed {snapshot and snapshot.ledger.events}, written {events}")
    totals = snapshot.ledger.scopes[SCOPE]
    engine.close()
    return {
        "wall_s": wall_s,
        "waited_s": lent_s,
        "cpu_s": cpu_s,
        "read_s": read.seconds,
        "ledger_s": ledger.seconds,
        "commit_s": commit.seconds,
        "creates": totals.creates,
        "reuses": totals.reuses,
    }


if __name__ == "__main__":
    journal_path, state_path, event_count, on_cpu = sys.argv[1:]
    sys.stdout.write(json.dumps(drain(Path(journal_path), Path(state_path), int(event_count), cpu=int(on_cpu))))
