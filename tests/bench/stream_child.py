"""Consumes streams that were filled beforehand, on one core, and prints how long it took and where the time went."""

import json
import os
import sys
import time
from pathlib import Path

from feeding import SCOPE
from stopwatch import Stopwatch, waited_s

from session_exporter.config import load
from session_exporter.core.fleet import FleetLedger
from session_exporter.sidecar.engine import Engine
from session_exporter.sidecar.stream_intake import StreamIntake
from session_exporter.sidecar.workers import Reloads
from session_exporter.stream.reader import StreamReader
from session_exporter.stream.reading import StreamReading


def drain(config_file: Path, state: Path, events: int, *, cpu: int) -> dict[str, float]:
    """Consume streams that hold `events` events; seconds, in total and by stage."""
    os.sched_setaffinity(0, {cpu})
    look, read, ledger, commit = Stopwatch(), Stopwatch(), Stopwatch(), Stopwatch()
    StreamReading.look, StreamReader.read = look.around(StreamReading.look), read.around(StreamReader.read)
    FleetLedger.apply, FleetLedger.advance = ledger.around(FleetLedger.apply), ledger.around(FleetLedger.advance)
    Engine._commit = commit.around(Engine._commit)
    engine = Engine(
        load(config_file), StreamIntake(None), state, reloads=Reloads(time.time()), on_incident=lambda *_: None
    )
    begun_s, begun_waited_s = time.perf_counter(), waited_s()
    snapshot = engine.cycle(float("inf"))
    wall_s, lent_s = time.perf_counter() - begun_s, waited_s() - begun_waited_s
    if snapshot is None or sum(snapshot.ledger.events.values()) != events:
        raise RuntimeError(f"committed {snapshot and snapshot.ledger.events}, sent {events}")
    totals = snapshot.ledger.scopes[SCOPE]
    engine.close()
    return {
        "wall_s": wall_s,
        "waited_s": lent_s,
        "look_s": look.seconds,
        "read_s": read.seconds - look.seconds,
        "ledger_s": ledger.seconds,
        "commit_s": commit.seconds,
        "creates": totals.creates,
        "reuses": totals.reuses,
    }


if __name__ == "__main__":
    config_path, state_path, event_count, on_cpu = sys.argv[1:]
    sys.stdout.write(json.dumps(drain(Path(config_path), Path(state_path), int(event_count), cpu=int(on_cpu))))
