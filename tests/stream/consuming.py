"""What tests of consumers share: forwarders that write what they are told to, and readers."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

from session_exporter.config import StreamSettings
from session_exporter.core.events import FleetEvent, Reused
from session_exporter.core.shares import Share
from session_exporter.stream import keys
from session_exporter.stream.entries import VERSION, Entry, Origin, Presence, encode
from session_exporter.stream.reader import StreamReader
from session_exporter.stream.server import StreamServer
from session_exporter.stream.taking import StreamBatch

if TYPE_CHECKING:
    import redis
    from redis_server import RedisServer

    from session_exporter.stream.positions import Place

START_US = 1_700_000_000_000_000
FRAME_BYTES = 10
LEASE_MS = 400


def event(number: int, at_us: int = 0) -> FleetEvent:
    """The event of a writer with this number, from 1."""
    return Reused(at_us or START_US + number * 1000, "conversation", f"session-{number}", "user")


def numbers(batches: Iterable[StreamBatch]) -> list[int]:
    """The numbers of the events, in their order."""
    return [int(each.session.rpartition("-")[2]) for batch in batches for each in batch.events]


class Sending:
    """A forwarder's run, of which each entry is written when the test says so; the events of a writer are numbered.

    Args:
        client: Of the Redis; None to make entries only.
        forwarder: Its id.
        run: The number of its first run.
    """

    def __init__(self, client: "redis.Redis[bytes] | None" = None, forwarder: str = "forwarder", run: int = 1) -> None:
        self._client: Any = client
        self.forwarder = forwarder
        self.run = run
        self.sent: dict[Place, int] = {}

    def start_run(self) -> None:
        """Begin anew, as on a new connection."""
        self.run += 1
        self.sent.clear()

    def send(self, stream: int, events: Sequence[int], writer: str = "writer", **says: Any) -> bytes:
        """Write an entry with the events of these numbers; returns its id."""
        identifier = says.pop("id", "*")
        raw = self.entry(stream, events, writer, **says)
        added: bytes = self._client.xadd(keys.stream(stream), {keys.FIELD: raw}, id=identifier)
        return added

    def entry(self, stream: int, events: Sequence[int], writer: str = "writer", **says: Any) -> bytes:
        """Make an entry, as if it was sent."""
        before = self.sent.get((stream, writer), 0)
        self.sent[stream, writer] = before + len(events)
        return encode(
            Entry(
                version=says.get("version", VERSION),
                forwarder=self.forwarder,
                origin=Origin(writer, "pod", 1),
                segment=says.get("segment", 1),
                ends=[FRAME_BYTES * number for number in events],
                events=[event(number, says.get("at_us", 0)) for number in events],
                run=self.run,
                before=before,
                sent_us=says.get("sent_us", START_US),
                behind_us=says.get("behind_us", 0),
            )
        )

    def announce(self, at_us: int, complete_us: int) -> None:
        """Say that it is there."""
        self._client.hset(keys.FORWARDERS, self.forwarder, encode(Presence(VERSION, "pod", at_us, complete_us)))


class Consumer:
    """A reader with what it has committed.

    Args:
        server: The Redis.
        owned: Its partitions.
        partitions: How many there are.
        state: The identity of its state.
        name: As people call it.
        settings: Of the streams.
        options: More of the reader.
    """

    def __init__(
        self,
        server: "RedisServer",
        owned: Sequence[int] = (0, 1),
        partitions: int = 2,
        *,
        state: str = "state",
        name: str = "consumer-0",
        settings: StreamSettings | None = None,
        **options: Any,
    ) -> None:
        self.kept: dict[Place, tuple[Any, ...]] = {}
        self._settings = settings or StreamSettings(url=server.url, tail_us=0)
        self._make = lambda: StreamReader(
            StreamServer(self._settings),
            self._settings,
            Share(owned, partitions),
            self.kept,
            state_id=state,
            name=name,
            lease_ms=LEASE_MS,
            **options,
        )
        self.reader = self._make()

    def __enter__(self) -> Self:
        self.reader.lock()
        return self

    def __exit__(self, *error: object) -> None:
        self.reader.close()

    def restart(self) -> None:
        """Be killed, and start again from what was committed."""
        self.reader._server.close()
        self.reader = self._make()
        self.reader.lock()

    def read(self) -> list[StreamBatch]:
        """What there is now."""
        mark = self.reader.mark()
        batches = []
        while (batch := self.reader.read()) is not None:
            batches.append(batch)
        assert self.reader.passed(mark)
        return batches

    def commit(self) -> None:
        """Keep what was read, and say so."""
        positions = self.reader.positions()
        self.kept.update(positions.moved)
        for place in positions.forgotten:
            self.kept.pop(place, None)
        self.reader.release(positions)

    def take(self) -> list[int]:
        """Read and commit; returns the numbers of the events."""
        found = numbers(self.read())
        self.commit()
        return found
