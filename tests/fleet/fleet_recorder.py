"""The workers of one replica: record, each at its time, what a file says, and tell how that went.

It says `ready` on its standard output, waits on its standard input for the time from which the others are counted, and
when all is recorded prints a JSON document. Its workers stay until the standard input ends.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from session_exporter.core import events as wire
from session_exporter.journal import JournalWriter

# Where the other times of an event are, by its kind's number.
OTHER_TIMES: Final = {4: 9, 11: 10, 12: 9}
# Two microseconds for each replica.
GRID_US: Final = 20
assert all(
    wire_kind.__struct_fields__[place - 1] in {"created_at_us", "since_us", "opened_at_us"}
    for wire_kind, place in zip((wire.Observed, wire.DbSession, wire.Unmet), OTHER_TIMES.values(), strict=True)
)


class Recording:
    """What was recorded, and how.

    Attributes:
        taken_ns: How long each call took.
        belated: By their place in the plan, the times of events that could not be recorded at their own.
    """

    def __init__(self, slack_us: int, replica: str) -> None:
        self.taken_ns: list[int] = []
        self.belated: dict[int, int] = {}
        self._slack_us = slack_us
        self._own_us = 2 * int(replica.rpartition("-")[2])
        self._last_us = 0

    def record(self, writers: list[JournalWriter], plan: list[list[Any]], begin_us: int) -> None:
        """Record each event at its time, or a moment later; one that is much too late has happened now.

        What is recorded after that has happened after it.
        """
        for place, (worker, *fields) in enumerate(plan):
            fields[1] += begin_us
            if (other := OTHER_TIMES.get(fields[0])) is not None and other < len(fields) and fields[other]:
                fields[other] += begin_us
            now_us = time.time_ns() // 1000
            if now_us - fields[1] > self._slack_us or fields[1] < self._last_us:
                self.belated[place] = fields[1] = self._next(now_us)
            if now_us < fields[1]:
                time.sleep((fields[1] - now_us) / 1e6)
            begun_ns = time.perf_counter_ns()
            writers[worker].append(tuple(fields))
            self.taken_ns.append(time.perf_counter_ns() - begun_ns)

    def _next(self, now_us: int) -> int:
        """A time that no other replica takes for what it could not record in time: what has one time has no order."""
        grid_us = max(now_us, self._last_us) // GRID_US + 1
        self._last_us = grid_us * GRID_US + self._own_us
        return self._last_us

    def document(self, writers: list[JournalWriter]) -> dict[str, object]:
        """What the parent is told; times in microseconds."""
        taken = sorted(self.taken_ns)
        at = {"p50": len(taken) // 2, "p99": len(taken) * 99 // 100, "max": len(taken) - 1}
        lost = {"/".join(pair): number for writer in writers for pair, number in writer.lost().items() if number}
        belated = {str(place): at_us for place, at_us in self.belated.items()}
        return {"lost": lost, "belated": belated, **{name: taken[index] / 1e3 for name, index in at.items()}}


def main(directory: str, replica: str, workers: str, plan_file: str, slack_us: str) -> None:
    plan = msgspec.msgpack.decode(Path(plan_file).read_bytes())
    writers = [JournalWriter(Path(directory), replica=replica) for _ in range(int(workers))]
    for writer in writers:
        writer.open()
    print("ready", flush=True)  # noqa: T201 - this is what the parent reads
    recording = Recording(int(slack_us), replica)
    recording.record(writers, plan, int(sys.stdin.readline()))
    print(json.dumps(recording.document(writers)), flush=True)  # noqa: T201
    sys.stdin.read()
    for writer in writers:
        writer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
