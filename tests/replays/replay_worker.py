"""One worker process: writes the events that it reads from its standard input, at their times."""

import sys
from pathlib import Path

import msgspec

from session_exporter.journal import JournalWriter

if __name__ == "__main__":
    directory, replica = sys.argv[1:]
    now_us = 0
    writer = JournalWriter(Path(directory), replica=replica, clock_us=lambda: now_us)
    for fields in msgspec.msgpack.decode(sys.stdin.buffer.read()):
        now_us = fields[1]
        writer.append(tuple(fields))
    writer.close()
    if any(writer.lost().values()):
        raise SystemExit(f"lost: {writer.lost()}")
