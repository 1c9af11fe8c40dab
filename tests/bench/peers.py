"""What else could count a reused session: three libraries, set up as their documentation says.

To be run in a process of its own: prometheus_client reads its environment when it is imported.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from timeit import Timer
from typing import Final

PROMETHEUS: Final = "prometheus_client, multiprocess"
OPENTELEMETRY: Final = "OTel counter.add"
# Read by a process of its own, as a daemon would; and sent to a socket that nobody reads, where all is dropped.
STATSD: Final = "statsd UDP, read"
STATSD_UNREAD: Final = "statsd UDP, never read"

_READER: Final = """
import socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
while True:
    listener.recv(2048)
"""


def prometheus(directory: Path) -> Timer:
    """A labelled counter in multiprocess mode.

    Args:
        directory: Where its files are mapped; made here, to be on the file system of the journal.
    """
    directory.mkdir()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    from prometheus_client import CollectorRegistry, Counter

    counter = Counter("sessions_reused", "Sessions reused.", ["scope"], registry=CollectorRegistry())
    return Timer("labels('conversation').inc()", globals={"labels": counter.labels})


def opentelemetry() -> Timer:
    """A counter with one attribute, of a provider that has a reader."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    counter = MeterProvider([InMemoryMetricReader()]).get_meter("bench").create_counter("sessions_reused")
    return Timer("add(1, {'scope': 'conversation'})", globals={"add": counter.add})


@contextmanager
def statsd() -> Iterator[dict[str, Timer]]:
    """A client for each of two local sockets: one is read by another process, the other never."""
    with _bound() as read, _bound() as unread, _read_by_a_process(read):
        yield {STATSD: _client(read), STATSD_UNREAD: _client(unread)}


def _bound() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 0))
    return listener


@contextmanager
def _read_by_a_process(listener: socket.socket) -> Iterator[None]:
    descriptor = listener.fileno()
    process = subprocess.Popen([sys.executable, "-c", _READER, str(descriptor)], pass_fds=[descriptor])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _client(listener: socket.socket) -> Timer:
    from statsd import StatsClient

    client = StatsClient(*listener.getsockname())
    return Timer("incr('sessions.reused.conversation')", globals={"incr": client.incr})
