"""What the ledger takes for an event when it can tell incidents and check ids, and what it takes when it need not."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

from creates import BEGIN_US, NothingKnown
from feeding import SCOPE, SITES, bursts, session_of, user_of
from figures import Figure

from session_exporter.core.checkpoint import take_changes
from session_exporter.core.events import MISSED_BY_ID, Created, Event, LookedUp, Reused, Unmet, Writer
from session_exporter.core.ids import IdFormat
from session_exporter.core.ledger import Ledger
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.scopes import Limits, ScopeRules
from session_exporter.core.trail import Trail

EVENTS_PER_USER: Final = 20
USERS_PER_BURST: Final = 12_500
BATCH: Final = 2_500
EVENTS_PER_COMMIT: Final = 250_000
STEP_US: Final = 100
WRITERS: Final = [Writer(f"bench-{number}", "host", number) for number in range(1, 9)]
FORMATS: Final = {"session": IdFormat("uuid"), "user": IdFormat("uuid")}
# One user of so many loses a session, in one of seven requests: one request of a hundred.
LOSING: Final = 14
LOST_IN: Final = 4

Turn: TypeAlias = Callable[[int, int, int], Event]


def measure(*, quick: bool) -> Iterator[Figure]:
    """Reuses and requests, without and with all that detection can be asked for; then what one incident costs."""
    users, rounds = (1_000, 2) if quick else (50_000, 5)
    reuses, requests, losing = (_history(users, turn) for turn in (_reuse, _visit, _losing_visit))
    taken_us: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, events, is_told in (
            ("reuses", reuses, False),
            ("told reuses", reuses, True),
            ("requests", requests, False),
            ("told requests", requests, True),
            ("losing", losing, True),
        ):
            taken_us.setdefault(name, []).append(_taken_us(events, is_told=is_told))
    for name in ("reuses", "requests"):
        yield Figure(f"ledger, {users:,} users, {name}", statistics.median(taken_us[name]), "µs/event")
        added_us = _median_difference(taken_us[f"told {name}"], taken_us[name])
        yield Figure("· what incidents and ids are told from adds", added_us, "µs/event", at_most=1.0)
    lost_us = _median_difference(taken_us["losing"], taken_us["told requests"]) * len(losing)
    yield Figure("ledger, one lost session, found and told", lost_us / -(-users // LOSING), "µs")


def _median_difference(more_us: Sequence[float], less_us: Sequence[float]) -> float:
    return statistics.median(more - less for more, less in zip(more_us, less_us, strict=True))


def _history(users: int, turn: Turn) -> list[Event]:
    steps = bursts(users, USERS_PER_BURST, EVENTS_PER_USER)
    return [turn(BEGIN_US + number * STEP_US, user, before) for number, (user, before) in enumerate(steps)]


def _reuse(at_us: int, user: int, before: int) -> Event:
    kind = Reused if before else Created
    return kind(at_us, SCOPE, session_of(user), user_of(user))


def _visit(at_us: int, user: int, before: int, session: str = "") -> Event:
    """The first request misses and creates; each of the others looks the session up and goes on with it twice."""
    number = (before + 1) // 3
    session, whose, request = session or session_of(user), user_of(user), f"request-{user}-{number}"
    if before == 1:
        return Created(at_us, SCOPE, session, whose, "", request, b"", SITES)
    if number == 0 or before % 3 == 2:
        return LookedUp(at_us, SCOPE, session if number else "", whose, "", request, b"", SITES)
    return Reused(at_us, SCOPE, session, whose, "", request)


def _losing_visit(at_us: int, user: int, before: int) -> Event:
    """The same, but that some users lose their session in one of their requests, and go on with another."""
    number, lost, next_one = (before + 1) // 3, session_of(user), session_of(-user - 1)
    if user % LOSING or number < LOST_IN:
        return _visit(at_us, user, before)
    if number > LOST_IN:
        return _visit(at_us, user, before, next_one)
    whose, request = user_of(user), f"request-{user}-{number}"
    if before % 3 == 2:
        return LookedUp(at_us, SCOPE, "", whose, "", request, b"", SITES, asked=lost)
    if before % 3 == 0:
        return Created(at_us, SCOPE, next_one, whose, "", request, b"", SITES)
    return Unmet(at_us, SCOPE, lost, whose, "", request, b"", MISSED_BY_ID, at_us - STEP_US, next_one)


def _taken_us(events: Sequence[Event], *, is_told: bool) -> float:
    names = Pseudonyms(b"k" * 32)
    rules = ScopeRules(SCOPE, id_formats=FORMATS if is_told else {})
    trail = Trail(names, Limits()) if is_told else None
    ledger = Ledger({SCOPE: rules}, names=names, known=NothingKnown(), trail=trail)
    gc.collect()
    begun_s = time.process_time()
    for number, first in enumerate(range(0, len(events), BATCH)):
        batch = events[first : first + BATCH]
        ledger.apply(batch, WRITERS[number % len(WRITERS)])
        ledger.advance(batch[-1].at_us + 1)
        if first % EVENTS_PER_COMMIT == 0:
            take_changes(ledger)
    take_changes(ledger)
    return (time.process_time() - begun_s) / len(events) * 1e6
