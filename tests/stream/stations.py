"""A forwarder on a real journal and a real Redis, with clocks that stand still until they are told, and a consumer."""

import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Self

import msgspec
import redis
from redis_server import RedisServer

from session_exporter.config import Config, JournalSettings, StreamSettings
from session_exporter.core import events as wire
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.scopes import ScopeRules
from session_exporter.journal import JournalLimits, JournalReader, JournalWriter
from session_exporter.stream import keys
from session_exporter.stream.collecting import Tallies
from session_exporter.stream.entries import VERSION, Entry, Layout, Presence, decode
from session_exporter.stream.forwarder import Forwarder
from session_exporter.stream.server import StreamServer

PARTITIONS = 3
STREAMS = (*range(PARTITIONS), keys.SHARED)
NAMES = Pseudonyms(b"k" * 32)
LAYOUT = Layout(VERSION, PARTITIONS, "check")
SMALL = JournalLimits(segment_bytes=4096, worker_limit_bytes=1 << 30, directory_limit_bytes=1 << 30)
WIDE = JournalSettings(worker_limit_bytes=1 << 30, directory_limit_bytes=1 << 30)


class Station:
    """A host with workers and a forwarder.

    Args:
        place: Where the journal is made.
        server: Where it sends to.
        journal: What may be kept.
        max_entries: Of each stream.
        url: How it addresses the server; `""` for as everybody does.

    Attributes:
        told: The times of all events that were recorded, each of which is only one's own; by worker.
        ahead_us: How far its clock is ahead of the real time.
        now_s: What its other clock shows, which only `cycle` advances.
    """

    def __init__(
        self,
        place: Path,
        server: RedisServer,
        *,
        journal: JournalSettings = WIDE,
        max_entries: int = 1_000_000,
        url: str = "",
    ) -> None:
        self.directory = place / "journal"
        self.server = server
        self.told: dict[str, list[int]] = defaultdict(list)
        self.ahead_us = 0
        self.now_s = 0.0
        self.tallies = Tallies()
        self.forwarder: Forwarder | None = None
        self._reader: JournalReader | None = None
        stream = StreamSettings(url or server.url, partitions=PARTITIONS, max_entries=max_entries)
        self._config = Config(scopes={"chat": ScopeRules("chat")}, journal=journal, stream=stream)
        self._streams = StreamServer(stream)
        self._writers: dict[str, JournalWriter] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        for name in list(self._writers):
            self.end_worker(name)

    # Workers.

    def worker(self, name: str = "w") -> JournalWriter:
        """The worker of this name."""
        if name not in self._writers:
            self._writers[name] = JournalWriter(self.directory, replica="pod", limits=SMALL)
        return self._writers[name]

    def end_worker(self, name: str = "w") -> None:
        """End a worker, as its process would."""
        self._writers.pop(name).close()

    def now_us(self) -> int:
        """This host's clock."""
        return time.time_ns() // 1000 + self.ahead_us

    def tell(self, count: int = 1, worker: str = "w", *, users: int = 20, kind: Any = wire.Reused, **more: Any) -> None:
        """Let a worker record events of users who take turns, each a microsecond after the other."""
        told = self.told[worker]
        for _ in range(count):
            at_us = max(self.now_us(), told[-1] + 1 if told else 0)
            number = len(told) % users if users else 0
            user = f"u{number}" if users else ""
            self.worker(worker).append(fields(kind(at_us, "chat", f"s{number}", user, **more)))
            told.append(at_us)

    def segments(self) -> int:
        """How many there are on disk."""
        return len(list(self.directory.glob("*.seg")))

    # The forwarder.

    def start(self, *, predecessor: str = "") -> Forwarder:
        """Start one, or another in the place of one that is gone."""
        self._reader = JournalReader(self.directory, {}, locating=True)
        self._reader.lock()
        self.forwarder = Forwarder(
            self._config,
            self._reader,
            server=self._streams,
            names=NAMES,
            layout=LAYOUT,
            tallies=self.tallies,
            replica="pod",
            predecessor=predecessor,
            clock_ns=lambda: self.now_us() * 1000,
            monotonic_s=lambda: self.now_s,
            jitter=lambda _, most: most,
        )
        self.forwarder.open()
        return self.forwarder

    def kill(self) -> None:
        """Let go of the forwarder as the kernel does for a killed process: nothing is sent, nobody is told."""
        if self.forwarder is not None and self._reader is not None:
            self.forwarder.close()
            self._reader.close()
            self.forwarder = None

    def cycle(self, times: int = 1) -> Forwarder:
        """Let it work as often, when everything that it does now and then is due."""
        forwarder = self.forwarder or self.start()
        for _ in range(times):
            self.now_s += 10.0
            forwarder.cycle(budget_s=60.0)
        return forwarder


def fields(event: wire.Event) -> tuple[object, ...]:
    return tuple(msgspec.to_builtins(event, builtin_types=(bytes,)))


class Consumer:
    """What one, who owns all partitions, makes of the streams; what must not be in them fails.

    Attributes:
        taken: By stream and writer, the times of the events that it took in.
        dropped: How many of the workers' events it had already.
        entries: By stream, all entries as they stood there when it read last.
    """

    def __init__(self, server: RedisServer) -> None:
        self.client = redis.Redis.from_url(server.url)
        self.taken: dict[tuple[int, str], list[int]] = defaultdict(list)
        self.dropped = 0
        self.entries: dict[int, list[Entry]] = {}
        self._positions: dict[tuple[int, str], tuple[int, int]] = {}
        self._seen: set[tuple[int, str, str, int, int]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.client.close()

    def read(self) -> Self:
        """Read all streams from their beginning, and drop what it has."""
        for stream in STREAMS:
            found = self.client.xrange(keys.stream(stream))
            self.entries[stream] = [decode(values[keys.FIELD]) for _, values in found]
            sent: dict[tuple[str, str, int], int] = defaultdict(int)
            for entry in self.entries[stream]:
                flow = entry.forwarder, entry.origin.id, entry.run
                assert entry.before == sent[flow], "within a run, something is missing"
                sent[flow] += len(entry.events)
                if (stream, *flow, entry.before) not in self._seen:
                    self._seen.add((stream, *flow, entry.before))
                    self._take(stream, entry)
        return self

    def _take(self, stream: int, entry: Entry) -> None:
        place = stream, entry.origin.id
        for end, event in zip(entry.ends, entry.events, strict=True):
            if isinstance(event, wire.Claimed | wire.Checked):
                continue
            if (entry.segment, end) <= self._positions.get(place, (0, 0)):
                self.dropped += 1
            else:
                self.taken[place].append(event.at_us)
        self._positions[place] = max(self._positions.get(place, (0, 0)), (entry.segment, entry.ends[-1]))

    def commit(self, partitions: range = range(PARTITIONS)) -> Self:
        """Publish how far it is, for these partitions."""
        for (stream, writer), (segment, offset) in self._positions.items():
            hashes = [keys.committed(stream)] if stream in partitions else []
            if stream == keys.SHARED:
                hashes = [keys.shared_committed(partition) for partition in partitions]
            for name in hashes:
                self.client.hset(name, writer, f"{segment}:{offset}")
        return self

    def forget(self) -> Self:
        """Go on from nothing."""
        self.taken.clear()
        self._positions.clear()
        return self

    def of(self, station: Station, worker: str = "w") -> list[int]:
        """The times of all events of a worker, in their order; those of each stream must be ascending."""
        writer = station.worker(worker).writer_id
        mine = [times for (_, found), times in self.taken.items() if found == writer]
        assert all(times == sorted(times) for times in mine), "the events of a stream are out of order"
        return sorted(at_us for times in mine for at_us in times)

    def presences(self) -> dict[str, Presence]:
        """What forwarders say of themselves."""
        found = self.client.hgetall(keys.FORWARDERS)
        return {name.decode(): msgspec.msgpack.decode(raw, type=Presence) for name, raw in found.items()}
