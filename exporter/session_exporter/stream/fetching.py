"""One reading of several streams: no more at once than memory is meant for."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from session_exporter.stream import keys
from session_exporter.stream.merging import Arrived
from session_exporter.stream.positions import StreamId

# What one answer should take; one of the largest entries may take a hundred megabytes, once.
ANSWER_BYTES: Final = 16 << 20
# Entries of all streams in one answer.
ANSWER_ENTRIES: Final = 512
# By another name than redis-py has for it, so that its answer is not made into dictionaries.
_XREAD: Final = b"XREAD"


class Fetching:
    """Asks for the next entries of streams, and reads the answers.

    Args:
        streams: By partition.

    Attributes:
        count: Entries to ask of each stream.
    """

    def __init__(self, streams: Sequence[int]) -> None:
        self._streams = {keys.stream(stream).encode(): stream for stream in streams}
        self._most = max(ANSWER_ENTRIES // len(self._streams), 1)
        self.count = self._most

    def command(self, cursors: Mapping[int, StreamId]) -> list[Any]:
        """The command that reads what follows the cursors."""
        names = [keys.stream(stream) for stream in cursors]
        after = [f"{ms}-{number}" for ms, number in cursors.values()]
        return [_XREAD, b"COUNT", self.count, b"STREAMS", *names, *after]

    def answered(self, answer: Any, asked: Mapping[int, StreamId]) -> dict[int, Sequence[Arrived]]:
        """What an answer holds, by stream, of all that were asked for."""
        read: dict[int, Sequence[Arrived]] = dict.fromkeys(asked, ())
        for name, entries in answer or ():
            stream = self._streams[name]
            read[stream] = [_arrived(stream, identifier, fields) for identifier, fields in entries]
        self._learn(read)
        return read

    def _learn(self, read: Mapping[int, Sequence[Arrived]]) -> None:
        """Ask for as many the next time as this time's would fill an answer with."""
        sizes = [len(entry.raw or b"") for entries in read.values() for entry in entries]
        if sizes:
            fitting = ANSWER_BYTES * len(sizes) // max(sum(sizes), 1) // len(self._streams)
            self.count = max(min(fitting, self._most, self.count * 2), 1)


def _arrived(stream: int, identifier: bytes, fields: list[bytes]) -> Arrived:
    ms, _, number = identifier.partition(b"-")
    raw = fields[1] if len(fields) == 2 and fields[0] == keys.FIELD else None  # noqa: PLR2004 - a name and a value
    return Arrived(int(ms), int(number), stream, raw)
