"""What the hooks add to statements, calls and requests, beside OpenTelemetry's instrumentation of SQLAlchemy."""

import os
import statistics
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from figures import Figure, shown
from hook_situations import ASGI, BARE, CALL, LISTENER, MAPPED, OPENTELEMETRY, OURS, STATEMENTS, UNMAPPED
from places import SOURCES, in_child, journal_place

# By statement: microseconds that we may add, and what part of OpenTelemetry's that may be.
TARGETS: Final = {UNMAPPED: (5.0, 1 / 5), MAPPED: (15.0, 1 / 2)}
CALL_TARGET_US: Final = 3.0
REQUEST_TARGET_US: Final = 10.0
# Older versions, where `make test-sqlalchemy` has put them.
VERSIONS: Final = Path(__file__).parents[2] / ".venv"
OLDER: Final = "2.0"


def measure(*, quick: bool) -> Iterator[Figure]:
    """Microseconds over those of the same without hooks, everything in turns."""
    rounds = 3 if quick else 31
    older = VERSIONS / f"sqlalchemy-{OLDER}"
    yield from _statements(rounds, version("SQLAlchemy"))
    if older.is_dir():
        yield from _statements(rounds, OLDER, PYTHONPATH=os.pathsep.join([str(older), str(SOURCES)]))
    with journal_place() as place:
        taken = in_child(Path(__file__).with_name("hooks_child.py"), "calls", str(place), str(rounds))
    for what, at_most in ((CALL, CALL_TARGET_US), (ASGI, REQUEST_TARGET_US)):
        yield Figure(what, statistics.median(_added(taken[what], OURS)), "µs added", at_most=at_most)


def _statements(rounds: int, sqlalchemy: str, **more: str) -> Iterator[Figure]:
    with journal_place() as place:
        script = Path(__file__).with_name("hooks_child.py")
        taken = in_child(script, "statements", str(place), str(rounds), **more)
    for statement in STATEMENTS:
        ours, theirs = _added(taken[statement], OURS), _added(taken[statement], OPENTELEMETRY)
        at_most, part = TARGETS[statement]
        what = f"{statement}, SQLAlchemy {sqlalchemy}"
        listener_us = shown(statistics.median(_added(taken[statement], LISTENER)))
        yield Figure(what, statistics.median(ours), "µs added", peer=f"{LISTENER}: {listener_us}", at_most=at_most)
        yield Figure(
            "·",
            statistics.median(ours),
            "µs added",
            peer=f"{OPENTELEMETRY}: {shown(statistics.median(theirs))}",
            # Of the medians: differences of single rounds come near to nothing, and nothing divides nothing.
            ratio=statistics.median(ours) / statistics.median(theirs),
            ratio_at_most=part,
        )


def _added(taken_us: dict[str, Sequence[float]], who: str) -> list[float]:
    return [ours - bare for ours, bare in zip(taken_us[who], taken_us[BARE], strict=True)]
