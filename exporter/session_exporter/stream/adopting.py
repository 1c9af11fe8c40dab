"""What is left in Redis of whoever owned partitions before: how far that one had committed them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from session_exporter.core.shares import Share
from session_exporter.stream import keys
from session_exporter.stream.entries import Entry
from session_exporter.stream.positions import FIRST, Place, Position, Progress, StreamId, id_of, known_of
from session_exporter.stream.reading import StreamReading
from session_exporter.stream.server import StreamServer
from session_exporter.stream.taking import StreamBatch


@dataclass(frozen=True, slots=True)
class Predecessor:
    """Who owned partitions before, under another state.

    Attributes:
        names: What its process was called, by partition; several when several were.
        positions: How far it had committed them, as it has told.
        applied: By stream, up to where it had read it.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    positions: Mapping[Place, Position] = field(default_factory=dict)
    applied: Mapping[int, StreamId] = field(default_factory=dict)


class Standing(NamedTuple):
    """What was told of partitions before now.

    Attributes:
        applied: By stream, up to where its owner, this state or another one, had read it when it told last.
        predecessor: Who owned any of them; None when nobody did but this state.
    """

    applied: Mapping[int, StreamId]
    predecessor: Predecessor | None


def find_standing(server: StreamServer, share: Share, state_id: str) -> Standing:
    """What was told of partitions before now.

    Where several owned them, of the shared stream what all of them have committed counts as committed.

    Raises:
        StreamError: Redis is not there, or refuses.
    """
    statuses = _statuses(server, sorted(share.owned))
    ours = state_id.encode()
    others = {number: status for number, status in statuses.items() if status.get(b"state", ours) != ours}
    return Standing(_applied(statuses), _predecessor(server, others) if others else None)


def _applied(statuses: Mapping[int, Mapping[bytes, bytes]]) -> dict[int, StreamId]:
    applied = {partition: id_of(status.get(b"position")) for partition, status in statuses.items()}
    applied[keys.SHARED] = min(id_of(status.get(b"shared-position")) for status in statuses.values())
    return applied


def _predecessor(server: StreamServer, owners: Mapping[int, Mapping[bytes, bytes]]) -> Predecessor:
    names = {partition: status.get(b"name", b"").decode(errors="replace") for partition, status in owners.items()}
    positions: dict[Place, Position] = {}
    with server.speaking() as client:
        for partition in owners:
            for writer, position in _positions(client, keys.committed(partition)).items():
                positions[partition, writer] = position
            for writer, position in _positions(client, keys.shared_committed(partition)).items():
                positions[keys.SHARED, writer] = min(positions.get((keys.SHARED, writer), position), position)
    return Predecessor(names, positions, _applied(owners))


def _statuses(server: StreamServer, partitions: Sequence[int]) -> dict[int, dict[bytes, bytes]]:
    with server.speaking() as client:
        pipeline = client.pipeline(transaction=False)
        for partition in partitions:
            pipeline.hgetall(keys.status(partition))
        return dict(zip(partitions, pipeline.execute(), strict=True))


def _positions(client: Any, name: str) -> dict[str, Position]:
    found = {}
    for writer, raw in client.hgetall(name).items():
        position = id_of(raw.replace(b":", b"-"))
        if position != FIRST:
            found[writer.decode(errors="replace")] = Position(*position)
    return found


def left_of(server: StreamServer, predecessor: Predecessor) -> Iterator[StreamBatch]:
    """What the streams still hold of what a predecessor has committed, in the order sent.

    Raises:
        StreamError: Redis is not there.
    """
    reading, progress = StreamReading(server, tuple(predecessor.applied)), Progress({})
    while any(reading.applied.get(stream, FIRST) < until for stream, until in predecessor.applied.items()):
        reading.look()
        while (found := reading.next()) is not None:
            arrived, entry = found
            if isinstance(entry, Entry):
                known = progress.take(arrived.stream, entry, reading.looked_us).known
                until = known_of(entry, predecessor.positions.get((arrived.stream, entry.origin.id)))
                if until > known:
                    yield StreamBatch(entry.origin.writer(), arrived.stream, entry.events[known:until])
        if reading.is_drained:
            return
