"""A campaign: the lives of many users at once, told to a ledger as workers would; how much of the truth it found."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from operator import attrgetter
from typing import Final, NamedTuple, TypeAlias

from arrivals import arrive, was_there_before
from chapters import CHAPTERS, rotate_by_hand
from injections import INJECTIONS, OF_MANY
from ledgers import Memory
from lives import IDLE_US, LATENESS_US, SECOND, START_US, WINDOW_US, WRITERS, Life, Stories, World

from session_exporter.core.checkpoint import take_changes
from session_exporter.core.ids import IdFormat
from session_exporter.core.incidents import Incident
from session_exporter.core.ledger import Ledger
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.scopes import Limits, ScopeRules
from session_exporter.core.tally import Verdict

EVENTS_PER_USER: Final = 20
# Of the users, so many meet with each kind of incident.
INJECTED: Final = 0.01
# Between the first arrival and the last; lives last about an hour.
ARRIVALS_US: Final = 6 * 3600 * SECOND
COMMIT_EVERY_S: Final = 60
SYSTEM_USERS: Final = ("system", "service:billing")
THREADS: Final = IdFormat("unified", legacy="^t-", kind="thread")
SCOPES: Final = {
    "chat": ScopeRules("chat", "one", WINDOW_US, IDLE_US, id_formats={"session": IdFormat("uuid"), "thread": THREADS}),
    "thread": ScopeRules("thread", "many", WINDOW_US, IDLE_US, id_formats={"session": THREADS, "thread": THREADS}),
}
Chapter: TypeAlias = Callable[[Life], None]
_CHAPTERS_OF_MANY: Final = [chapter for chapter in CHAPTERS if chapter is not rotate_by_hand]


class Score(NamedTuple):
    """How well one kind was found, id by id; of what was invented or missed, the first few."""

    precision: float
    recall: float
    invented: list[tuple[object, ...]]
    missed: list[tuple[object, ...]]


PERFECT: Final = Score(1.0, 1.0, [], [])


def score(truth: Counter[tuple[object, ...]], found: Counter[tuple[object, ...]]) -> Score:
    """Compare what happened with what was found."""
    right = (truth & found).total()
    precision = right / found.total() if found else 1.0
    recall = right / truth.total() if truth else 1.0
    return Score(precision, recall, list(found - truth)[:5], list(truth - found)[:5])


class Found:
    """What the ledger says that happened, in the words of the truth."""

    def __init__(self) -> None:
        self.stories: Stories = defaultdict(Counter)

    def hear(self, verdict: Verdict) -> None:
        """Take in a verdict; those with an incident are told by that."""
        session, user = verdict.session.decode(), verdict.user.decode()
        match verdict.verdict:
            case "create" | "adopted":
                self.stories[verdict.verdict][session,] += 1
            case "end":
                self.stories[f"end/{verdict.detail}"][session,] += 1
            case "rotation":
                self.stories["rotation"][user, session] += 1
            case "stale_expected":
                self.stories["stale"][user, session] += 1
            case "redundant_lookup" | "conflict":
                self.stories[verdict.verdict][user, verdict.at_us] += 1
            case "id_mismatch":
                self.stories["id_mismatch"][user, session] += 1
            case "invalid_id":
                self.stories[f"invalid_id/{verdict.detail}"][user, session] += 1
            case "create_failure":
                self.stories[f"failure/{verdict.detail}"][user, verdict.at_us] += 1

    def read(self, incident: Incident) -> None:
        """Take in an incident."""
        told = incident.detail
        match incident.kind:
            case "rapid_duplicate_create":
                self.stories[f"duplicate/{told['cause']}"][told["user"], *told["sessions"][-2:]] += 1
            case "context_loss":
                self.stories[f"loss/{told['reason']}"][told["user"], told["expected"], told["actual"]] += 1
            case "isolation_violation":
                self.stories[f"violation/{told['violation']}"][told["user"], told["session"]] += 1


class Campaign:
    """So many users, each with some twenty events in half an hour or more, many of them at any time.

    Args:
        users: How many.
        limits: What bounds the ledger.
        installed_us: Nothing that happened before was recorded.
    """

    def __init__(self, users: int, *, limits: Limits | None = None, installed_us: int = 0) -> None:
        self.world = World(seed=users, rollout_us=START_US + ARRIVALS_US // 2)
        self.found = Found()
        self.memory = Memory()
        self.ledger = Ledger(
            SCOPES,
            names=Pseudonyms(b"k" * 32, show_ids=True),
            known=self.memory,
            limits=limits,
            lateness_us=LATENESS_US,
            listener=self.found.hear,
        )
        self._users = users
        self._installed_us = installed_us
        self._read_until = [START_US // SECOND] * len(WRITERS)

    def run(self) -> None:
        """Live all lives, and let the ledger judge them."""
        arrivals = self._arrivals()
        for second in count(START_US // SECOND):
            arrived = next(arrivals, None)
            for writer in range(len(WRITERS)):
                self._read(writer, second + 1 - second // 3 * (writer + 5) % 3)
            self.world.recorded.pop(second - 3, None)
            self.ledger.advance((second + 1) * SECOND - LATENESS_US)
            if second % COMMIT_EVERY_S == 0:
                self._commit()
            if arrived is None and not self.world.recorded:
                break
        self.ledger.advance((second + 3) * SECOND + 2 * IDLE_US)
        self._commit()

    def scores(self) -> dict[str, Score]:
        """By kind, whatever happened or was found."""
        truth, found = self.world.truth, self.found.stories
        return {kind: score(truth[kind], found[kind]) for kind in sorted({*truth, *found})}

    def _read(self, writer: int, until: int) -> None:
        """Read what a writer has recorded before a second: within the lateness, some writers are read later."""
        for second in range(self._read_until[writer], until):
            events = self.world.recorded.get(second)
            if events and events[writer] and second * SECOND >= self._installed_us:
                self.ledger.apply(sorted(events[writer], key=attrgetter("at_us")), WRITERS[writer])
        self._read_until[writer] = max(until, self._read_until[writer])

    def _commit(self) -> None:
        changes = take_changes(self.ledger)
        for scope, session, known in changes.left_sessions:
            self.memory.known[scope, session] = known
        for incident in changes.incidents:
            self.found.read(incident)

    def _arrivals(self) -> Iterator[int]:
        """Live the lives that begin in the next second, and so on."""
        seconds = ARRIVALS_US // SECOND
        for second in range(seconds):
            for number in range(self._users * second // seconds, self._users * (second + 1) // seconds):
                _live(self.world, number, START_US + second * SECOND)
            yield second


def _live(world: World, number: int, begin_us: int) -> None:
    user = SYSTEM_USERS[number] if number < len(SYSTEM_USERS) else f"user-{number}"
    if number % 10 == 0:
        _spend(Life(world, user, begin_us, scope="thread"), EVENTS_PER_USER, _CHAPTERS_OF_MANY, OF_MANY)
    elif number % 10 == 1:
        for key in ("phone", "laptop"):
            _spend(Life(world, user, begin_us, key=key), EVENTS_PER_USER // 2, CHAPTERS, list(INJECTIONS))
    else:
        _spend(Life(world, user, begin_us), EVENTS_PER_USER, CHAPTERS, list(INJECTIONS))


def _spend(life: Life, events: int, chapters: list[Chapter], kinds: Sequence[str]) -> None:
    """Live until there were so many events; at some point of some lives one thing goes wrong."""
    life.pause(0, 1)
    begun = life.world.events
    (was_there_before if life.is_likely(0.1) else arrive)(life)
    wrong_after = begun + life.chance.randrange(events) if life.is_likely(INJECTED * len(kinds)) else None
    while life.world.events - begun < events or wrong_after is not None:
        life.pause(11, 200)
        if wrong_after is not None and life.world.events >= wrong_after:
            life.chance.choice(INJECTIONS[life.chance.choice(kinds)])(life)
            wrong_after = None
        else:
            life.chance.choice(chapters)(life)
    life.all_expire()
