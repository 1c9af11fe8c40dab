"""What an import costs the application's start, in interpreters of their own."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Final

from figures import Figure, shown
from places import disk_place, environment
from rounds import ratio

OURS: Final = "from session_exporter import SessionTracker"
PEERS: Final = ("import prometheus_client", "import opentelemetry.sdk.metrics")
BARE: Final = "pass"


def measure(*, quick: bool) -> Iterator[Figure]:
    """Milliseconds over those of a bare interpreter, with bytecode caches in place, in turns."""
    rounds = 2 if quick else 15
    statements = (BARE, OURS, *PEERS)
    taken_ms: dict[str, list[float]] = {statement: [] for statement in statements}
    with disk_place() as caches:
        # The caches are elsewhere than the sources: nothing is left behind, whoever owns them.
        kept = environment(PYTHONPYCACHEPREFIX=str(caches))
        for _ in range(rounds + 1):
            for statement in statements:
                taken_ms[statement].append(_taken_ms(statement, kept))
    over_ms = {
        statement: [each - bare for each, bare in zip(taken_ms[statement][1:], taken_ms[BARE][1:], strict=True)]
        for statement in statements
    }
    ours_ms = statistics.median(over_ms[OURS])
    for peer in PEERS:
        theirs = f"{peer}: {shown(statistics.median(over_ms[peer]))}"
        yield Figure(OURS, ours_ms, "ms", peer=theirs, ratio=ratio(over_ms[OURS], over_ms[peer]), at_most=50)
    yield Figure("· the bare interpreter", statistics.median(taken_ms[BARE][1:]), "ms")


def _taken_ms(statement: str, variables: dict[str, str]) -> float:
    begun_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], env=variables, check=True)
    return (time.perf_counter() - begun_s) * 1e3
