"""Consumers' engines on real directories and a real Redis, and a forwarder that sends what it is told to, at once."""

import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import redis as redis_py
from redis_server import RedisServer

from session_exporter.config import Config, PrivacySettings, StateSettings, StreamSettings
from session_exporter.core import events as wire
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.scopes import ScopeRules
from session_exporter.core.totals import ScopeTotals
from session_exporter.sidecar.engine import Engine, Reloads
from session_exporter.sidecar.incidents import Wanted, read_incidents
from session_exporter.sidecar.snapshot import Snapshot
from session_exporter.sidecar.stream_intake import StreamIntake
from session_exporter.stream import keys
from session_exporter.stream.entries import VERSION, Entry, Origin, Presence, encode
from session_exporter.stream.routing import Router

if TYPE_CHECKING:
    from session_exporter.core.incidents import Incident

PARTITIONS = 4
KEY = b"k" * 32
FRAME_BYTES = 10
CHAT = {"chat": ScopeRules("chat")}


def now_us() -> int:
    return time.time_ns() // 1000


class Consumer:
    """One of them.

    Args:
        place: Where its state is.
        config: Of the fleet.
        partitions: Its own; None for all.

    Attributes:
        behind_us: How far its clock is behind the real time.
    """

    def __init__(self, place: Path, config: Config, partitions: Iterable[int] | None = None) -> None:
        self.state = place
        self.config = config
        self.partitions = None if partitions is None else frozenset(partitions)
        self.behind_us = 0
        self.alarms: list[Incident] = []
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The running engine; started when there is none."""
        if self._engine is None:
            self._engine = Engine(
                self.config,
                StreamIntake(self.partitions, clock_ns=lambda: (now_us() - self.behind_us) * 1000, environ={}),
                self.state,
                reloads=Reloads(0.0),
                on_incident=lambda incident, _: self.alarms.append(incident),
            )
        return self._engine

    def cycle(self, budget_s: float = 60.0) -> Snapshot:
        """Drain and commit once."""
        snapshot = self.engine.cycle(budget_s)
        assert snapshot is not None
        return snapshot

    def chat(self) -> ScopeTotals:
        """The counts of the scope `chat` after a cycle."""
        return self.cycle().ledger.scopes["chat"]

    def kill(self) -> None:
        """Let go of everything as the kernel does for a killed process: nothing is committed, nobody is told."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine._watching.close()
            engine._intake.reader._server.close()
            engine._state.close()

    def stop(self) -> None:
        """Stop the engine as SIGTERM does."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def incidents(self, **wanted: Any) -> list[dict[str, Any]]:
        return read_incidents(self.state, Wanted(**wanted), now_us=now_us())["incidents"]


class Fleet:
    """Workers whose events are sent the moment they happen, and those who count them.

    Args:
        place: Where states and the key are made.
        server: The Redis.

    Attributes:
        begun_us: A minute ago: event times are given in seconds since then.
        run: Of the forwarder.
        behind_s: From when the forwarder has still to send, as it says with all it sends; 0 when that is all.
    """

    def __init__(self, place: Path, server: RedisServer) -> None:
        self.place = place
        self.server = server
        self.client = redis_py.Redis.from_url(server.url)
        (place / "key").write_bytes(KEY)
        self.config = Config(
            scopes=CHAT,
            privacy=PrivacySettings(key_file=place / "key"),
            stream=StreamSettings(server.url, partitions=PARTITIONS),
            state=StateSettings(),
        )
        self.begun_us = now_us() - 60_000_000
        self.run = 1
        self.behind_s = 0.0
        self._router = Router(Pseudonyms(KEY), CHAT, PARTITIONS)
        self._ends: dict[str, int] = defaultdict(int)
        self._sent: dict[tuple[int, str], int] = defaultdict(int)
        self._told: list[tuple[wire.Writer, list[wire.Event], list[int]]] = []
        self._consumers = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._consumers.close()
        self.client.close()

    def consumer(self, name: str = "consumer", partitions: Iterable[int] | None = None, **more: Any) -> Consumer:
        """One with a state of this name."""
        values = {each: getattr(self.config, each) for each in ("scopes", "privacy", "stream")}
        made = Consumer(self.place / name, Config(**{**values, "replica": name, **more}), partitions)
        self._consumers.callback(made.kill)
        return made

    def at(self, seconds: float) -> int:
        return self.begun_us + round(seconds * 1e6)

    def tell(self, kind: type[Any], at_s: float, /, session: str = "", user: str = "ann", **more: Any) -> None:
        """Let a worker record an event, which the forwarder sends."""
        name = more.pop("worker", "w")
        writer = wire.Writer(name, more.pop("replica", f"pod-{name}"), 1)
        self._ends[name] += FRAME_BYTES
        event = kind(self.at(at_s), more.pop("scope", "chat"), session, user, **more)
        self._told.append((writer, [event], [self._ends[name]]))
        self._send(*self._told[-1])

    def created(self, at_s: float, session: str, user: str = "ann", **more: Any) -> None:
        self.tell(wire.Created, at_s, session, user, **more)

    def reused(self, at_s: float, session: str, user: str = "ann", **more: Any) -> None:
        self.tell(wire.Reused, at_s, session, user, **more)

    def send_again(self, skipping: int = 0) -> None:
        """Send all events once more, but for the first ones, as a forwarder whose connection was lost."""
        self.run += 1
        self._sent.clear()
        self._router.forget()
        for told in self._told[skipping:]:
            self._send(*told)

    def _send(self, writer: wire.Writer, events: list[wire.Event], ends: list[int]) -> None:
        for stream, routed in self._router.route(events, ends, writer).items():
            before = self._sent[stream, writer.id]
            self._sent[stream, writer.id] += len(routed.events)
            origin = Origin(writer.id, writer.replica, writer.pid)
            said = (self.run, before, now_us(), self.at(self.behind_s) if self.behind_s else 0)
            entry = Entry(VERSION, "forwarder", origin, 1, routed.ends, routed.events, *said)
            self.client.xadd(keys.stream(stream), {keys.FIELD: encode(entry)})

    def announce(self, complete_s: float) -> None:
        """Have the forwarder say up to when everything was sent."""
        presence = Presence(VERSION, "pod", now_us(), self.at(complete_s))
        self.client.hset(keys.FORWARDERS, "forwarder", encode(presence))
