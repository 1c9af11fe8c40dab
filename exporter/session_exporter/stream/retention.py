"""Which segments may be deleted: those of which consumers have committed everything, and for want of space others."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from session_exporter.journal import Retained
from session_exporter.stream import keys

# A segment's number, and an offset in it.
Position: TypeAlias = tuple[int, int]
# A writer, and the number of one of its segments.
SegmentKey: TypeAlias = tuple[str, int]
# A stream's number and a writer.
Flow: TypeAlias = tuple[int, str]

# More than any segment has.
OFFSET_MAX: Final = 1 << 62

_WRITERS_PER_QUESTION: Final = 1000
_OFFSET_DIGITS_MAX: Final = 19


class Room(NamedTuple):
    """Bytes of segments, sent or not, that may be kept until consumers have committed them."""

    of_writer: int
    of_directory: int


class Retention:
    """What was sent over one connection, and what of it is committed: by all consumers, in the shared stream's case."""

    def __init__(self) -> None:
        self._committed: dict[str, dict[int, Position]] = {}
        self._sent: dict[SegmentKey, dict[int, int]] = {}

    def note_sent(self, stream: int, key: SegmentKey, end: int) -> None:
        """Something of a segment, up to this offset, is in a stream now."""
        self._sent.setdefault(key, {})[stream] = end

    def note_committed(self, positions: Mapping[Flow, Position]) -> None:
        """Consumers have committed so much."""
        for (stream, writer), position in positions.items():
            known = self._committed.setdefault(writer, {})
            known[stream] = max(known.get(stream, position), position)

    def committed_of(self, key: SegmentKey) -> dict[int, int]:
        """By stream, up to which offset a segment is committed; `OFFSET_MAX` for all of it."""
        writer, seq = key
        known = self._committed.get(writer, {})
        return {stream: at[1] if at[0] == seq else OFFSET_MAX for stream, at in known.items() if at[0] >= seq}

    def is_covered(self, key: SegmentKey) -> bool:
        """Whether all that was sent of a segment is committed."""
        return not self._uncovered(key)

    def _uncovered(self, key: SegmentKey) -> list[int]:
        committed = self.committed_of(key)
        return [stream for stream, end in self._sent.get(key, {}).items() if committed.get(stream, 0) < end]

    def uncovered(self, segments: Collection[SegmentKey]) -> dict[int, set[str]]:
        """By stream, the writers of whom something in one of these segments is not committed yet."""
        found: dict[int, set[str]] = {}
        for key in segments:
            for stream in self._uncovered(key):
                found.setdefault(stream, set()).add(key[0])
        return found

    def forget_others(self, kept: Collection[SegmentKey]) -> None:
        """Forget what was sent of other segments than these, and their writers."""
        self._sent = {key: sent for key, sent in self._sent.items() if key in kept}
        writers = {writer for writer, _ in kept}
        self._committed = {writer: known for writer, known in self._committed.items() if writer in writers}

    def excess(self, retained: Sequence[Retained], room: Room) -> set[SegmentKey]:
        """Those that must go before they are committed, so that there is room for new ones.

        Args:
            retained: All segments, the oldest first.
            room: For how many bytes of them there is.
        """
        by_writer: dict[str, list[Retained]] = {}
        for segment in retained:
            by_writer.setdefault(segment.key[0], []).append(segment)
        gone = {key for segments in by_writer.values() for key in _oldest(segments, room.of_writer)}
        return gone | _oldest([segment for segment in retained if segment.key not in gone], room.of_directory)


def _oldest(segments: list[Retained], room_bytes: int) -> set[SegmentKey]:
    """Of those that are over, the oldest, as many as it takes for the others to have room."""
    gone = set()
    excess_bytes = sum(segment.size_bytes for segment in segments) - room_bytes
    for segment in segments:
        if excess_bytes > 0 and segment.is_over:
            gone.add(segment.key)
            excess_bytes -= segment.size_bytes
    return gone


def read_positions(client: Any, writers: Mapping[int, Collection[str]], partitions: int) -> dict[Flow, Position]:
    """How far consumers have committed what these writers wrote.

    Args:
        client: Of redis-py.
        writers: By stream.
        partitions: How many there are.
    """
    asked = [
        (stream, key, chunk)
        for stream, names in writers.items()
        for chunk in _chunks(sorted(names))
        for key in _hashes(stream, partitions)
    ]
    if not asked:
        return {}
    pipeline = client.pipeline(transaction=False)
    for _, key, chunk in asked:
        pipeline.hmget(key, chunk)
    found: dict[Flow, Position] = {}
    for (stream, _, chunk), answers in zip(asked, pipeline.execute(), strict=True):
        for writer, raw in zip(chunk, answers, strict=True):
            position = position_of(raw)
            found[stream, writer] = min(found.get((stream, writer), position), position)
    return {flow: position for flow, position in found.items() if position > (0, 0)}


def _hashes(stream: int, partitions: int) -> list[str]:
    if stream != keys.SHARED:
        return [keys.committed(stream)]
    return [keys.shared_committed(partition) for partition in range(partitions)]


def _chunks(names: list[str]) -> list[list[str]]:
    return [names[at : at + _WRITERS_PER_QUESTION] for at in range(0, len(names), _WRITERS_PER_QUESTION)]


def position_of(raw: bytes | None) -> Position:
    """Read `segment:offset`; (0, 0), which is before everything, for nothing, or anything else."""
    seq, _, offset = (raw or b"").partition(b":")
    if not (seq.isdigit() and offset.isdigit() and max(len(seq), len(offset)) <= _OFFSET_DIGITS_MAX):
        return 0, 0
    return int(seq), int(offset)
