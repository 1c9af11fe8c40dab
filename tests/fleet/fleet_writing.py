"""The workers of all replicas: while they live, as processes of their own, or as what they have left behind."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from histories import REPLICAS, START, WORKERS, WORKERS_EACH, Circle, Told, moved
from sidecar_process import environment

from session_exporter.journal import JournalLimits, JournalWriter

_WIDE: Final = JournalLimits(worker_limit_bytes=1 << 34, directory_limit_bytes=1 << 34)
DEADLINE_S: Final = 600.0


class Place(NamedTuple):
    """Where an event stands: the circle, and which one of it."""

    circle: int
    index: int


def replica_of(number: int) -> str:
    return f"pod-{number}"


def write_beforehand(circles: Sequence[Circle], journals: Sequence[Path], begin_us: int) -> list[Circle]:
    """Write all events into the journals of the replicas, or into one; returns them as they were written."""
    clock_us = begin_us
    writers = [
        JournalWriter(
            journals[number // WORKERS_EACH % len(journals)],
            limits=_WIDE,
            replica=WORKERS[number].replica,
            clock_us=lambda: clock_us,
        )
        for number in range(len(WORKERS))
    ]
    placed = [_moved(circle, begin_us - START) for circle in circles]
    for event, worker in sorted((each for circle in placed for each in circle.told), key=lambda each: each.event.at_us):
        clock_us = event.at_us
        writers[worker].append(tuple(_fields(event)))
    for writer in writers:
        assert not any(writer.lost().values()), writer.lost()
        writer.close()
    return placed


class Recorders:
    """Real workers of all replicas, who record circles as time goes by.

    Args:
        home: For their plans.
        journals: Of each replica.
        circles: What happens.
        slack_us: How late an event may be recorded and still have its own time.
    """

    def __init__(self, home: Path, journals: Sequence[Path], circles: Sequence[Circle], *, slack_us: int) -> None:
        self._circles = circles
        self._places: list[list[Place]] = []
        self._running: list[subprocess.Popen[str]] = []
        for replica, plan in enumerate(_plans(circles, self._places)):
            path = home / f"plan-{replica}"
            path.write_bytes(msgspec.msgpack.encode(plan))
            script = Path(__file__).with_name("fleet_recorder.py")
            words = [script, journals[replica], replica_of(replica), WORKERS_EACH, path, slack_us]
            self._running.append(
                subprocess.Popen(
                    [sys.executable, *map(str, words)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env=environment(),
                    text=True,
                )
            )

    @classmethod
    @contextmanager
    def working(cls, *args: Any, **options: Any) -> Iterator["Recorders"]:
        """Recorders that end with the block."""
        recorders = cls(*args, **options)
        try:
            yield recorders
        finally:
            recorders.leave()

    def begin(self, begin_us: int) -> None:
        """Let all begin, at a time; waits until they can."""
        for process in self._running:
            assert self._told(process) == "ready\n"
            self._say(process, f"{begin_us - START}\n")

    def ended(self) -> bool:
        """Whether all is recorded."""
        return all(_has_spoken(process) for process in self._running)

    def results(self, begin_us: int) -> tuple[list[Circle], list[dict[str, Any]]]:
        """What was recorded, and what each replica says of it; waits for it."""
        documents = [json.loads(self._told(process)) for process in self._running]
        placed = [_moved(circle, begin_us - START) for circle in self._circles]
        for places, document in zip(self._places, documents, strict=True):
            for number, at_us in document["belated"].items():
                circle, index = places[int(number)]
                told = placed[circle].told
                told[index] = told[index]._replace(event=msgspec.structs.replace(told[index].event, at_us=at_us))
        return placed, documents

    def leave(self) -> None:
        """Have the workers go; one that is still at work is stopped."""
        for process in self._running:
            try:
                process.communicate(timeout=1.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        self._running = []

    def _say(self, process: "subprocess.Popen[str]", text: str) -> None:
        assert process.stdin
        process.stdin.write(text)
        process.stdin.flush()

    def _told(self, process: "subprocess.Popen[str]") -> str:
        assert process.stdout
        line = process.stdout.readline()
        assert line, f"a recorder has ended with {process.wait()}"
        return line


def _has_spoken(process: "subprocess.Popen[str]") -> bool:
    import select

    return bool(select.select([process.stdout], [], [], 0)[0])


def _plans(circles: Sequence[Circle], places: list[list[Place]]) -> Iterator[list[list[Any]]]:
    """For each replica what its workers record, in order; and where each of it stands."""
    shares: list[list[tuple[Told, Place]]] = [[] for _ in range(REPLICAS)]
    for number, circle in enumerate(circles):
        for index, told in enumerate(circle.told):
            shares[told.worker // WORKERS_EACH].append((told, Place(number, index)))
    for share in shares:
        share.sort(key=lambda each: each[0].event.at_us)
        places.append([place for _, place in share])
        yield [[told.worker % WORKERS_EACH, *_fields(told.event)] for told, _ in share]


def _fields(event: object) -> list[Any]:
    fields: list[Any] = msgspec.msgpack.decode(msgspec.msgpack.encode(event))
    return fields


def _moved(circle: Circle, by_us: int) -> Circle:
    return circle._replace(told=[each._replace(event=moved(each.event, by_us)) for each in circle.told])
