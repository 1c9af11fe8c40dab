"""prometheus_client's multiprocess mode: what workers leave behind, and an exposition of it.

multiprocess_peer.py DIRECTORY fill FIRST LAST   the files of these workers, each written under a pid of its own
multiprocess_peer.py DIRECTORY serve             prints the port it serves on; ends with its standard input
"""

import os
import sys
from pathlib import Path

EVENTS_PER_WORKER = 20


def _fill(first: int, last: int) -> None:
    from prometheus_client import CollectorRegistry, Counter, Histogram, values

    pid = 0
    # The library's own way to name files by something else than the process id; it starts new ones when that changes.
    values.ValueClass = values.MultiProcessValue(lambda: pid)
    registry = CollectorRegistry()
    counter = Counter("sessions_reused", "Sessions reused.", ["scope"], registry=registry)
    histogram = Histogram("session_duration_seconds", "How long sessions last.", ["scope"], registry=registry)
    for worker in range(first, last):
        pid = 1_000_000 + worker
        for _ in range(EVENTS_PER_WORKER):
            counter.labels("conversation").inc()
        histogram.labels("conversation").observe(1.0)


def _serve() -> None:
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    server, _ = start_http_server(0, "127.0.0.1", registry)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    where, task, *workers = sys.argv[1:]
    Path(where).mkdir(exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = where
    if task == "fill":
        _fill(*map(int, workers))
    else:
        _serve()
