"""What the tests of the journal share: events, draining, files made by hand, and workers that are real processes."""

import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Self

import msgspec

import session_exporter.journal
from session_exporter.core.events import Event, Writer
from session_exporter.journal import Batch, JournalReader
from session_exporter.journal.frame import HEADER_BYTES, Header, pack_header

REUSED = 2
_SOURCE_ROOT = Path(session_exporter.journal.__file__).parents[2]
_PRELUDE = """
import os, signal, sys, time
from pathlib import Path
from session_exporter.journal import JournalLimits, JournalReader, JournalWriter
directory = Path(sys.argv[1])
def fields(number): return (2, time.time_ns() // 1000, "conversation", f"s{number}", "u")
def ready(word="ready"): print(word, flush=True)
def wait(): sys.stdin.readline()
"""


def fields(session: object, at_us: int = 1) -> tuple[object, ...]:
    return (REUSED, at_us, "conversation", f"s{session}", "u")


def batches(reader: JournalReader) -> list[Batch]:
    """Scan, and read everything that the scan saw."""
    reader.scan()
    found = []
    while batch := reader.read():
        found.append(batch)
    return found


def drain(reader: JournalReader) -> list[Event]:
    return [event for batch in batches(reader) for event in batch.events]


def sessions(reader: JournalReader) -> list[str]:
    return [event.session for event in drain(reader)]


def until(condition: Callable[[], bool], deadline_s: float = 20.0) -> None:
    """Ask until it is so."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "the deadline has passed"


STRANGER = "0-1-2"
GOOD = msgspec.msgpack.encode(fields("good"))


def frame(payload, checksum=None, size=None):
    return (
        struct.pack(
            "<II", len(payload) if size is None else size, zlib.adler32(payload) if checksum is None else checksum
        )
        + payload
    )


def put_segment(directory, *frames, seq=1, committed=None, writer_id=STRANGER):
    """A finished segment of a writer that is dead."""
    body = b"".join(frames)
    committed = HEADER_BYTES + len(body) if committed is None else committed
    path = directory / f"{writer_id}.{seq:08d}.seg"
    path.write_bytes(pack_header(Header(Writer(writer_id), seq, 1, committed)) + body)
    return path


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class Worker:
    """A process that runs a piece of Python; its standard input and output are the conversation with it."""

    def __init__(self, code: str, directory: Path) -> None:
        path = os.pathsep.join([str(_SOURCE_ROOT), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PRELUDE + code, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def hear(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def finish(self) -> str:
        """Let it come to its end; what it still said."""
        said, _ = self.process.communicate("\n", timeout=60)
        assert self.process.returncode == 0, said
        return said.strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()
