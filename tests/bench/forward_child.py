"""Forwards a journal that was written beforehand, on one core, and prints how long it took and where the time went."""

import json
import os
import sys
import time
from pathlib import Path

from stopwatch import Stopwatch, waited_s

from session_exporter.config import load
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.journal import JournalReader
from session_exporter.sidecar.secrets import check_value, read_key
from session_exporter.stream.entries import VERSION, Layout
from session_exporter.stream.forwarder import Forwarder
from session_exporter.stream.routing import Router
from session_exporter.stream.sending import Sender
from session_exporter.stream.server import StreamServer


def forward(config_file: Path, journal: Path, events: int, *, cpu: int) -> dict[str, float]:
    """Forward a journal that holds `events` events; seconds, in total and by stage."""
    os.sched_setaffinity(0, {cpu})
    read, route, pack, send = Stopwatch(), Stopwatch(), Stopwatch(), Stopwatch()
    JournalReader.read = read.around(JournalReader.read)
    Router.route = route.around(Router.route)
    Sender.pack, Sender.send = pack.around(Sender.pack), send.around(Sender.send)
    config = load(config_file)
    key = read_key(journal, config.privacy.key_file)
    layout = Layout(VERSION, config.stream.partitions, check_value(key))
    reader = JournalReader(journal, {}, locating=True)
    reader.lock()
    forwarder = Forwarder(config, reader, server=StreamServer(config.stream), names=Pseudonyms(key), layout=layout)
    forwarder.open()
    begun_s, begun_waited_s = time.perf_counter(), waited_s()
    forwarder.cycle(float("inf"))
    wall_s, cpu_waited_s = time.perf_counter() - begun_s, waited_s() - begun_waited_s
    if forwarder.tallies.forwarded != events:
        raise RuntimeError(f"forwarded {forwarder.tallies.forwarded}, written {events}")
    forwarder.leave()
    forwarder.close()
    reader.close()
    stages = {"read_s": read.seconds, "route_s": route.seconds, "pack_s": pack.seconds, "send_s": send.seconds}
    return {"wall_s": wall_s, "waited_s": cpu_waited_s, **stages}


if __name__ == "__main__":
    config_path, journal_path, event_count, on_cpu = sys.argv[1:]
    found = forward(Path(config_path), Path(journal_path), int(event_count), cpu=int(on_cpu))
    sys.stdout.write(json.dumps(found))
