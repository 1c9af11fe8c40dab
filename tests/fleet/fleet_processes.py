"""A whole fleet as child processes: Redis, a forwarder for each replica, and consumers that share the partitions."""

import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final, Self

from fleet_truth import EVENTS, METRICS, Counts, key_of
from histories import REPLICAS, SHARED
from redis_server import RedisServer
from sidecar_process import OPENMETRICS, Scrape, Sidecar, until

DRAINED_WITHIN_S: Final = 240.0
SCRAPE_EVERY_S: Final = 0.5
PARTITIONS: Final = 16
LATE: Final = "session_exporter_late_events_total"


class Forwarder(Sidecar):
    """`session-exporter forward` beside the workers of one replica."""

    def command_line(self) -> list[str]:
        return [
            *("forward", "--config.file", str(self.config_file), "--web.listen-address", self.listen),
            *("--journal.directory", str(self.journal), "--state.directory", str(self.state), *self._arguments),
        ]


class Consumer(Sidecar):
    """`session-exporter serve --source=stream`; which partitions it owns is in its arguments."""

    def command_line(self) -> list[str]:
        return [
            *("serve", "--source=stream", "--config.file", str(self.config_file)),
            *("--web.listen-address", self.listen, "--state.directory", str(self.state), *self._arguments),
        ]


class Fleet:
    """A context manager; everything in it is started and ended as often as a test likes, by the thread that made it.

    Args:
        home: An existing directory.
        redis: What carries the events; it is running.
        config: Of lateness and scopes.
        replicas: How many.
        consumers: How many.
        partitions: How many, over all consumers.

    Attributes:
        redis: As given.
        journals: Of each replica.
        forwarders: One for each replica.
        consumers: Partitions are dealt to them like cards.
    """

    def __init__(
        self,
        home: Path,
        redis: RedisServer,
        config: str,
        *,
        replicas: int = REPLICAS,
        consumers: int = 3,
        partitions: int = PARTITIONS,
    ) -> None:
        self.redis = redis
        self.key_file = home / "key"
        self.key_file.write_bytes(secrets.token_bytes(32))
        self.key_file.chmod(0o600)
        self._home = home
        self._config, self._partitions = config, partitions
        self.journals = [self._directory(f"journal-{number}") for number in range(replicas)]
        self.forwarders = [
            Forwarder(self._directory(f"forwarder-{number}"), self.config(f"replica: pod-{number}\n"), journal=journal)
            for number, journal in enumerate(self.journals)
        ]
        self.consumers = [
            Consumer(
                self._directory(f"consumer-{number}"),
                self.config(f"replica: consumer-{number}\n"),
                arguments=[f"--stream.partitions={','.join(map(str, range(number, partitions, consumers)))}"],
            )
            for number in range(consumers)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes():
            process.kill()

    def config(self, more: str = "") -> str:
        """A configuration for any of them."""
        stream = f"stream: {{url: {self.redis.url!r}, partitions: {self._partitions}}}\n"
        return f"{self._config}privacy: {{key_file: {self.key_file}}}\n{stream}{more}"

    def processes(self) -> list[Sidecar]:
        return [*self.forwarders, *self.consumers]

    def start(self) -> Self:
        """Start all that do not run, and wait until each can be scraped."""
        for process in self.processes():
            if process.process is None:
                process.start()
        for process in self.processes():
            process.scrape()
        return self

    def scrapes(self) -> list[Scrape]:
        """Of all consumers."""
        return [consumer.scrape() for consumer in self.consumers]

    def drained(self, events: int) -> "Found":
        """Wait until so many events are committed, every session of a declared scope has expired, and nothing moves."""
        looks = [Found([])]

        def look() -> Found | None:
            found = Found(self.scrapes())
            if found.events() < events or found.active():
                return None
            looks.append(found)
            time.sleep(SCRAPE_EVERY_S)
            return found if found.counts == looks[-2].counts else None

        try:
            return until(look, "the fleet has counted everything", DRAINED_WITHIN_S)
        except AssertionError as error:
            found = Found(self.scrapes())
            so_far = f"{found.events()} of {events} events, {found.active()} sessions are active"
            raise AssertionError(f"{error}: {so_far}\n{self.last_words()}") from None

    def lost(self) -> dict[str, Any]:
        """What any of them counts as lost."""
        return {
            str(process.log_file.parent.name): lost for process in self.processes() if (lost := process.scrape().lost())
        }

    def last_words(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"{process.log_file.parent.name}:\n{process.log[-1500:]}" for process in self.processes())

    def stop(self) -> list[int]:
        """End all with SIGTERM, those who send first; their exit codes."""
        return [process.stop() for process in self.processes() if process.process is not None]

    def _directory(self, name: str) -> Path:
        path = self._home / name
        path.mkdir()
        return path


class Found:
    """What all consumers expose, together."""

    def __init__(self, scrapes: Sequence[Scrape]) -> None:
        self.counts: Counts = Counter()
        self.late = int(sum(scrape.total(LATE) for scrape in scrapes))
        for scrape in scrapes:
            for (name, labels), value in scrape.samples.items():
                if name in METRICS:
                    self.counts[key_of(name, dict(labels))] += int(value)
        self.counts = +self.counts

    def events(self) -> int:
        return self.total(EVENTS)

    def active(self) -> int:
        """Sessions of the scopes in which they expire before the test is over."""
        lasting = sum(self.counts[key_of("session_active_sessions", {"scope": scope})] for scope in (SHARED, "other"))
        return self.total("session_active_sessions") - lasting

    def total(self, name: str) -> int:
        return sum(value for key, value in self.counts.items() if key[0] == name)


class Onlooker:
    """Scrapes consumers all the time, whenever they answer, and holds every answer against the one before it.

    Args:
        consumers: Who is scraped.

    Attributes:
        problems: Counters that went backwards or vanished.
        took_s: Of each answer, until its last byte was there.
    """

    def __init__(self, consumers: Sequence[Sidecar]) -> None:
        self.problems: list[str] = []
        self.took_s: list[float] = []
        self._consumers = consumers
        self._last: dict[int, Scrape] = {}
        self._ended = threading.Event()

    @contextmanager
    def looking(self) -> Iterator[Self]:
        thread = threading.Thread(target=self._look, name="onlooker")
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            thread.join()

    def forget(self, number: int) -> None:
        """A consumer starts anew."""
        self._last.pop(number, None)

    def _look(self) -> None:
        while not self._ended.wait(SCRAPE_EVERY_S):
            for number, consumer in enumerate(self._consumers):
                # It is being killed, or has not come up yet.
                with suppress(OSError, HTTPException, AssertionError):
                    self._ask(number, consumer)

    def _ask(self, number: int, consumer: Sidecar) -> None:
        if not consumer.listening():
            return
        begun_s = time.monotonic()
        status, body = consumer.get("/metrics", accept=OPENMETRICS)
        if status != HTTPStatus.OK:
            return
        self.took_s.append(time.monotonic() - begun_s)
        scrape = Scrape(body)
        last = self._last.get(number)
        if last is not None:
            self.problems += [f"consumer {number}: {each}" for each in scrape.regressions(last)]
        self._last[number] = scrape


@contextmanager
def fleet_of(home: Path, redis_program: str, config: str, **options: Any) -> Iterator[Fleet]:
    """A fleet on a Redis of its own that keeps what it is told; nothing of it runs yet but that."""
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(redis_program, keeps=True))
        yield stack.enter_context(Fleet(home, redis, config, **options))
