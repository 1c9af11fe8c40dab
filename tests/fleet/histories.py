"""What happens to thousands of users over six replicas, in small circles that have nothing to do with each other.

A circle is two users with a handful of sessions, in the traffic that the oracle of the ledger is tested with, told by
workers of any replica. Each is judged by itself, however many there are.
"""

from itertools import count
from random import Random
from typing import Any, Final, NamedTuple

from msgspec import structs
from test_continuity_oracle import SESSIONS, START, STEP, WATCH, Traffic
from test_continuity_oracle import WORKERS as ITS_WORKERS

from session_exporter.core import events as wire
from session_exporter.core.ids import IdFormat
from session_exporter.core.scopes import FAILURES, OUTCOMES, VIOLATIONS, ScopeRules

REPLICAS: Final = 6
WORKERS_EACH: Final = 3
WORKERS: Final = [
    wire.Writer(f"worker-{number}", f"pod-{number // WORKERS_EACH}", number)
    for number in range(REPLICAS * WORKERS_EACH)
]
SECOND: Final = 1_000_000
DAY_US: Final = 86_400 * SECOND
# Where circles live, and how often: `cart` is not declared, and in `meeting` people use each other's sessions.
SCOPES: Final = ("chat", "chat", "chat", "chat", "thread", "thread", "cart", "form", "meeting")
SHARED: Final = "meeting"
UNDECLARED: Final = "cart"
# Of the traffic that circles are made of.
_LATENESS_S, _WINDOW_S = 2, 10
_USES: Final = frozenset((wire.Reused, wire.LookedUp, wire.Observed, wire.Ended, wire.Attributed))
_THREADS: Final = IdFormat("unified", legacy="^t-", kind="thread")


class Pace(NamedTuple):
    """How time goes by in a history.

    Attributes:
        ratio: So much quicker than in the traffic of the oracle's own tests.
        span_s: From the first event to the last, before it is made quicker; as all of these.
        idle_s: After which sessions expire.
        pauses_s: Between two bursts of a circle.
        settles_s: When it is looked at, after the last event.
    """

    ratio: int
    span_s: float
    idle_s: float
    pauses_s: tuple[float, ...]
    settles_s: float

    @property
    def lateness_us(self) -> int:
        return _LATENESS_S * SECOND // self.ratio

    @property
    def idle_us(self) -> int:
        return int(self.idle_s * SECOND) // self.ratio

    @property
    def settles_us(self) -> int:
        return int(self.settles_s * SECOND) // self.ratio

    def rules(self) -> dict[str, ScopeRules]:
        """Of every scope, `other` included."""
        window_us, idle_us = _WINDOW_S * SECOND // self.ratio, self.idle_us
        formats = {"session": IdFormat("uuid"), "user": IdFormat("^u-[0-9]+$"), "thread": _THREADS}
        return {
            "chat": ScopeRules("chat", "one", window_us, idle_us),
            "thread": ScopeRules("thread", "many", window_us, idle_us),
            "form": ScopeRules("form", "one", window_us, idle_us, id_formats=formats),
            # Who kept a session may have forgotten its users when they come back after half of the timeout.
            SHARED: ScopeRules(SHARED, "one", window_us, DAY_US),
            "other": ScopeRules("other"),
        }

    def config(self) -> str:
        """The same for a configuration file."""
        lines = [f"lateness: {self.lateness_us // 1000}ms", "scopes:"]
        for name, rules in self.rules().items():
            if name != "other":
                times = f"duplicate_window: {rules.duplicate_window_us // 1000}ms, "
                times += f"idle_timeout: {rules.idle_timeout_us // 1000}ms"
                formats = ', id_format: {session: uuid, user: "^u-[0-9]+$", thread: unified, legacy: {thread: "^t-"}}'
                more = formats if rules.id_formats else ""
                lines.append(f"  {name}: {{sessions_per_user: {rules.sessions_per_user}, {times}{more}}}")
        return "\n".join([*lines, ""])


# While it is recorded; nearly everything expires soon after.
LIVE: Final = Pace(2, 60, 14, (12, 13.8, 14.2, 20), 28)
# Written down hours before it is looked at. A request may be cut in two where its worker's turn to be read ends, which
# must come again before the request is forgotten.
PAST: Final = Pace(1, 600, 60, (12, 30, 57, 58.1, 60.1, 62, 90), 4 * 3600)


class Told(NamedTuple):
    """An event, and the number of the worker who records it."""

    event: wire.Event
    worker: int


class Circle(NamedTuple):
    """What was told of two users in one scope, in the order of time."""

    scope: str
    told: list[Told]


class _Life(Traffic):
    """What happens in one circle.

    Args:
        chance: Of its own.
        number: Of the circle.
        pace: How time goes by.
        is_shared: Whether its users use each other's sessions.
    """

    def __init__(self, chance: Random, number: int, pace: Pace, *, is_shared: bool) -> None:
        super().__init__(chance.choice)
        self._pace, self._is_shared = pace, is_shared
        self._numbers = count(1000 * number)
        self._happens = [
            *(self.single, self.single, self.single, self.visit, self.login),
            *(self.race, self.tie, self.fetch_again, self.mishap, self.belated, self.dismiss),
        ]

    def tell(self, writer: wire.Writer, kind: type, at_us: int, session: str, *, user: Any = None, **more: Any) -> None:
        if user and not self._is_shared and kind is not wire.Ended:
            user = self.owners[session]
        elif user is None and self._is_shared and self.one_in(4):
            user = self.choose(["ann", "bob", "carl"])
        if user == "" or self.owners.get(more.get("expected", "")) != self.owners[session]:
            # What a request expected is told to the user's partition only.
            more.pop("expected", None)
        super().tell(writer, kind, at_us, session, user=user, **more)

    def live(self) -> None:
        """Bursts of what happens, until the time is over."""
        end_us = START + int(self._pace.span_s * SECOND)
        at_us = START + self.choose(range(int(self._pace.span_s / 2 * SECOND)))
        for _ in range(self.choose(range(1, 5))):
            for _ in range(self.choose(range(3, 12))):
                at_us += self.choose([1, 2, 4, 9, 30, 79, 80]) * STEP
                if at_us < end_us:
                    self.choose(self._happens)(at_us)
            at_us += int(self.choose(self._pace.pauses_s) * SECOND)

    def new_session(self, owner: str, key: str) -> str:
        session = f"n{next(self._numbers)}"
        self.owners[session], self.keys[session] = owner, key
        return session

    def race(self, at_us: int) -> None:
        """Two or three creates, of which all but the first are too many."""
        old, worker = self.choose(SESSIONS), self.choose(ITS_WORKERS)
        request = self.request(worker)
        for _ in range(self.choose([2, 2, 3])):
            session = self.new_session(self.owners[old], self.keys[old])
            self.tell(worker, wire.Created, at_us, session, request=request)
            if self.one_in(2):
                worker, request = self.choose(ITS_WORKERS), ""
            at_us += self.choose([1, 1000, 116_000, SECOND, 9 * SECOND])

    def tie(self, at_us: int) -> None:
        """Two creates at one time; which of them is first makes no difference on a device of their own."""
        owner, key = self.choose(["ann", "bob"]), f"device-{next(self._numbers)}"
        while at_us in self.taken:
            at_us += 2
        for _ in range(2):
            self.tell(self.choose(ITS_WORKERS), wire.Created, at_us, self.new_session(owner, key))
            self.taken.discard(at_us)
        self.taken.add(at_us)

    def fetch_again(self, at_us: int) -> None:
        """Pipeline, handler and action each fetch the session."""
        session, worker = self.choose(SESSIONS), self.choose(ITS_WORKERS)
        request = self.request(worker)
        for _ in range(self.choose([2, 3, 5])):
            kind = self.choose([wire.LookedUp, wire.LookedUp, wire.Observed])
            self.tell(worker, kind, at_us, session, request=request, duration_us=800)
            at_us += 3_000

    def belated(self, at_us: int) -> None:
        """Whose session it is, becomes known later, and elsewhere."""
        session = self.new_session(self.choose(["ann", "bob"]), self.choose(["", "phone"]))
        self.tell(self.choose(ITS_WORKERS), wire.Created, at_us, session, user="")
        at_us += self.choose([1_000, SECOND, 3 * SECOND, 9 * SECOND])
        self.tell(self.choose(ITS_WORKERS), wire.Attributed, at_us, session)

    def dismiss(self, at_us: int) -> None:
        """A session is seen without its user, and ended by its id alone, or by somebody who ends those of others."""
        session = self.choose(SESSIONS)
        self.tell(self.choose(ITS_WORKERS), self.choose([wire.Reused, wire.LookedUp]), at_us, session, user="")
        at_us += self.choose([1_000, SECOND])
        if self.one_in(2):
            self.end(at_us, session)
        else:
            self.tell(self.choose(ITS_WORKERS), wire.Ended, at_us, session, user="admin", reason="escalated")

    def mishap(self, at_us: int) -> None:
        """What is counted as it is, whatever happens to sessions."""
        session, worker = self.choose(SESSIONS), self.choose(ITS_WORKERS)
        kind, more = self.choose(
            [
                (wire.ContextLost, {"expected": session, "actual": "a greeting"}),
                (wire.Conflicted, {}),
                (wire.CreateFailed, {"reason": self.choose(FAILURES)}),
                (wire.Violated, {"kind": self.choose(VIOLATIONS[1:]), "other_user": "carl"}),
                (wire.DbSession, {"outcome": self.choose(OUTCOMES), "opened_at_us": at_us - 1000, "queries": 3}),
                (wire.Identified, self._ids()),
            ]
        )
        request = more.pop("request", None) or (self.request(worker) if self.one_in(2) else "")
        user = "" if self.one_in(4) else self.owners[session]
        self.reports.append((kind(at_us, "", session, user, self.keys[session], request, **more), worker))

    def named(self) -> list[tuple[wire.Event, wire.Writer]]:
        """What has happened, in the order of time, with a name where one is needed.

        What was never told under its user's name is forgotten, by whoever does not keep it, once it has expired: so a
        session is first made, or used under that name, and a request that only perhaps expected it is certain.
        """
        self.reports.sort(key=lambda each: each[0].at_us)
        told, owned = {""}, {""}
        for index, (event, writer) in enumerate(self.reports):
            session, user = event.session, event.user
            if session not in told and type(event) in _USES:
                user = self.owners[session]
                if type(event) is wire.Ended:
                    self.reports[index] = wire.Reused(event.at_us, "", session, user, self.keys[session]), writer
                else:
                    self.reports[index] = structs.replace(event, user=user), writer
            elif session not in owned and type(event) is wire.Unmet:
                self.reports[index] = structs.replace(event, shared=False), writer
            if type(event) in {*_USES, wire.Created}:
                told.add(session)
                owned.update([session] if user else [])
        return self.reports

    def _ids(self) -> dict[str, str]:
        first, second = (f"1757362890388_{next(self._numbers)}_0000000{digit}" for digit in "12")
        thread = self.choose([f"thread_chat_{first}", f"t-{next(self._numbers)}", "Thread 7", ""])
        return {"thread": thread, "run": self.choose([f"run_{first}", f"run_{second}", ""]), "request": f"req_{first}"}


class _Naming:
    """The ids of one circle in the world, and the workers who tell of it: of two replicas, and another one."""

    def __init__(self, chance: Random, number: int, scope: str) -> None:
        self._chance, self._number, self._scope = chance, number, scope
        self._known: dict[str, str] = {"": ""}
        first, second = chance.sample(range(REPLICAS), 2)
        its = [WORKERS_EACH * first, WORKERS_EACH * first + 1, WORKERS_EACH * second, WORKERS_EACH * second + 1]
        self.workers = dict(zip((each.id for each in ITS_WORKERS), its, strict=True))
        self.workers[WATCH.id] = chance.randrange(len(WORKERS))

    def session(self, name: str) -> str:
        if name not in self._known and self._scope == "form" and self._chance.random() < 0.8:
            self._known[name] = f"5e551011-0000-4000-8000-{self._chance.getrandbits(48):012x}"
        return self._known.setdefault(name, f"{self._scope}-{self._number}-{name}")

    def user(self, name: str) -> str:
        if name in {"ann", "bob"}:
            return f"u-{self._number}{'12'[name == 'bob']}"
        return name and f"{name}-{self._number}"

    def other(self, name: str) -> str:
        return name and f"{name}-{self._number}"


def circle(seed: int, number: int, pace: Pace) -> Circle:
    """One circle; the same for the same arguments."""
    chance = Random(f"{seed}/{number}")
    scope = SCOPES[number % len(SCOPES)]
    life, naming = _Life(chance, number, pace, is_shared=scope == SHARED), _Naming(chance, number, scope)
    told: list[Told] = []
    before_us = at_us = 0
    life.live()
    for event, writer in life.named():
        if event.at_us != before_us:
            before_us, at_us = event.at_us, max(START + (event.at_us - START) // pace.ratio, at_us + 2)
        told.append(Told(_named(_timed(event, at_us, pace.ratio), naming, scope), naming.workers[writer.id]))
    return Circle(scope, told)


def _timed(event: wire.Event, at_us: int, ratio: int) -> wire.Event:
    """The event at another time, and what it says of others as long before that."""
    others = {
        name: at_us - (event.at_us - before_us) // ratio
        for name in ("since_us", "created_at_us", "opened_at_us")
        if (before_us := getattr(event, name, 0))
    }
    return structs.replace(event, at_us=at_us, **others)


def _named(event: wire.Event, naming: _Naming, scope: str) -> wire.Event:
    fields: dict[str, Any] = {"scope": scope, "session": naming.session(event.session), "user": naming.user(event.user)}
    for name in ("expected", "actual", "asked"):
        if text := getattr(event, name, ""):
            fields[name] = text if " " in text else naming.session(text)
    if not event.request.startswith("req_"):
        fields["request"] = naming.other(event.request)
    return structs.replace(event, **fields)


def circles(seed: int, events: int, pace: Pace) -> list[Circle]:
    """So many events at least, and the end of the last circle."""
    made: list[Circle] = []
    total = 0
    for number in count():
        made.append(circle(seed, number, pace))
        total += len(made[-1].told)
        if total >= events:
            break
    return made


def moved(event: wire.Event, by_us: int) -> wire.Event:
    """The event so much later."""
    times = ("at_us", "since_us", "created_at_us", "opened_at_us")
    return structs.replace(event, **{name: at_us + by_us for name in times if (at_us := getattr(event, name, 0))})
