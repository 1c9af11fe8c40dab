"""Lives of users, in traffic as it is: what happens in them, and the truth about it, which whoever writes them knows.

A life is a row of chapters. Each begins at least a duplicate window after the one before, with the user's current
session in `Life.session` (`""` for none: it ended for a reason that is legitimate, or expired), and says what the
ledger has to find in it. Nothing here judges: the truth comes of how a chapter was written.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable
from random import Random
from typing import Final, TypeAlias

from session_exporter.core import events as wire

SECOND: Final = 1_000_000
START_US: Final = 1_800_000_000 * SECOND
WINDOW_US: Final = 10 * SECOND
IDLE_US: Final = 1800 * SECOND
LATENESS_US: Final = 2 * SECOND

# Two hosts with three workers each, and after a rollout six others; then the one who only reads the database.
WORKERS: Final = [wire.Writer(f"worker-{number}", f"pod-{number // 3}", 10 + number) for number in range(12)]
DATABASE: Final = 12
WRITERS: Final = [*WORKERS, wire.Writer(wire.WATCH)]
WORKERS_AT_ONCE: Final = 6

SITES: Final = [
    ("app/services/session.py:41:SessionService.get_or_create_session", "app/main.py:77:websocket_endpoint"),
    ("app/handlers/message.py:112:MessageHandler.handle", "app/main.py:77:websocket_endpoint"),
    ("app/pipeline.py:9:Pipeline.run",),
]

Stories: TypeAlias = defaultdict[str, Counter[tuple[object, ...]]]


class World:
    """What all lives share: chance, the workers, what is recorded where, and the truth.

    Args:
        seed: Of chance.
        rollout_us: When all workers are replaced.
    """

    def __init__(self, seed: int, rollout_us: int) -> None:
        self.chance = Random(seed)
        self.rollout_us = rollout_us
        self.truth: Stories = defaultdict(Counter)
        self.reuses = self.lookups = self.events = 0
        self.recorded: dict[int, list[list[wire.Event]]] = {}
        self.strangers: deque[tuple[str, str]] = deque(maxlen=100)
        self._ids = 0

    def new_id(self) -> int:
        self._ids += 1
        return self._ids

    def generation(self) -> str:
        """What the ids of one request end in that were generated together."""
        number = self.new_id()
        return f"1757362890388_{number}_{number:08x}"

    def worker(self, at_us: int) -> int:
        number = int(self.chance.random() * WORKERS_AT_ONCE)
        return number if at_us < self.rollout_us else number + WORKERS_AT_ONCE

    def record(self, event: wire.Event, writer: int) -> None:
        self.events += 1
        second = event.at_us // SECOND
        if second not in self.recorded:
            self.recorded[second] = [[] for _ in WRITERS]
        self.recorded[second][writer].append(event)

    def truly(self, kind: str, *story: object) -> None:
        self.truth[kind][story] += 1


class Life:
    """One user, with one device, in one scope.

    Args:
        world: Where it takes place.
        user: The user's id.
        begin_us: When it begins.
        scope: Where the sessions belong.
        key: The device.
    """

    def __init__(self, world: World, user: str, begin_us: int, *, scope: str = "chat", key: str = "") -> None:
        self.world, self.user, self.scope, self.key = world, user, scope, key
        self.at_us = begin_us
        self.session = ""
        self.open: set[str] = set()
        self.chance = world.chance

    def pause(self, low_s: float, high_s: float) -> None:
        """Let time pass; a pause between chapters is longer than the window and much shorter than the timeout."""
        self.at_us += int((low_s + self.chance.random() * (high_s - low_s)) * SECOND)

    def new_session(self) -> str:
        """An id in the format of the scope."""
        if self.scope == "thread":
            return f"thread_chat_{self.world.generation()}"
        return f"5e551011-0000-4000-8000-{self.world.new_id():012x}"

    def visit(self, worker: int | None = None, request: str = "") -> "Visit":
        request = request or f"request-{self.world.new_id()}"
        return Visit(self, self.world.worker(self.at_us) if worker is None else worker, request)

    def aside(self, writer: int | None = None) -> "Visit":
        """Work outside of any request: a job, a thread of its own, the database."""
        return Visit(self, self.world.worker(self.at_us) if writer is None else writer, "")

    def born(self, session: str) -> str:
        """The truth that a session came into existence; it is the current one from now on."""
        self.world.truly("create", session)
        self.open.add(session)
        self.session = session
        return session

    def over(self, session: str, reason: str) -> None:
        """The truth that a session ended."""
        self.world.truly(f"end/{reason}", session)
        self.open.discard(session)
        if session == self.session:
            self.session = ""

    def all_expire(self) -> None:
        """The truth that whatever is open has been idle for too long."""
        for session in sorted(self.open):
            self.over(session, "expired")

    def truly(self, kind: str, *story: object) -> None:
        self.world.truly(kind, self.user, *story)

    def either(self, *choices: Callable[[], None]) -> None:
        self.chance.choice(choices)()

    def is_likely(self, probability: float) -> bool:
        return self.chance.random() < probability


class Visit:
    """One request, or work outside of any: everything in it is recorded by one writer, a moment after the other."""

    def __init__(self, life: Life, writer: int, request: str) -> None:
        self.life, self.writer, self.request = life, writer, request
        self.began_us = life.at_us
        self._seen: set[str] = set()
        self._looked: set[tuple[str, str]] = set()

    def tell(self, kind: type, session: str, *fields: object, user: str | None = None, key: str | None = None) -> None:
        life = self.life
        life.at_us += int(life.chance.random() * 60_000) + 1
        user, key = life.user if user is None else user, life.key if key is None else key
        event = kind(life.at_us, life.scope, session, user, key, self.request, b"", *fields)
        life.world.record(event, self.writer)

    def looks_up(self, session: str = "", asked: str = "", **who: str) -> None:
        """Look the user's session up; `""` finds none."""
        self.tell(wire.LookedUp, session, self._site(), 800, False, asked, **who)
        self._found(session, **who)

    def sees(self, session: str, created_at_us: int = 0, expected: str = "", **who: str) -> None:
        """A wrapped call returns the session, and says when it was created, or not."""
        self.tell(wire.Observed, session, self._site(), created_at_us, 900, wire.RESULT, "", expected, **who)
        self._found(session, **who)

    def writes(self, session: str) -> None:
        """A statement inserts the row or updates it, nobody knows."""
        self.tell(wire.Observed, session, self._site(), 0, 0, wire.UPSERT)
        self._inferred(session)

    def reuses(self, session: str, **who: str) -> None:
        self.tell(wire.Reused, session, **who)
        self.life.world.reuses += 1

    def creates(self, session: str, expected: str = "", generation: str = "", **who: str) -> str:
        """Create a session; that it counts is for the chapter to say."""
        self.tell(wire.Created, session, self._site(), generation, expected, **who)
        self._seen.add(session)
        return session

    def ends(self, session: str, reason: str, **who: str) -> None:
        self.tell(wire.Ended, session, reason, **who)

    def never_got(
        self, expected: str, missed: int, actual: str = "", *, shared: bool = False, since_us: int = 0
    ) -> None:
        """The request is over, and the session that it expected was not to be had."""
        self.tell(wire.Unmet, expected, missed, since_us or self.began_us + 1, actual, shared, self._site())

    def _found(self, session: str, user: str = "", key: str = "") -> None:
        life, whose = self.life, (user or self.life.user, key or self.life.key)
        life.world.lookups += 1
        if self.request and whose in self._looked:
            life.world.truly("redundant_lookup", whose[0], life.at_us)
        self._looked.add(whose)
        self._inferred(session)

    def _inferred(self, session: str) -> None:
        if session in self.life.open and (not self.request or session not in self._seen):
            self.life.world.reuses += 1
        self._seen.add(session)

    def _site(self) -> tuple[str, ...]:
        return SITES[self.life.at_us % len(SITES)]
