"""What the ledger takes for an event of each frequent kind, without journal and state."""

import gc
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Final

from feeding import SCOPE, SITES, session_of, user_of
from figures import Figure

from session_exporter.core.events import Created, Event, LookedUp, Reused, Writer
from session_exporter.core.ledger import Ledger
from session_exporter.core.population import Known
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.scopes import ScopeRules

WRITER: Final = Writer("bench", "host", 1)
BATCH: Final = 2_500
STEP_US: Final = 10
# A real time: the ledger's minutes and windows are those of the epoch.
BEGIN_US: Final = 1_750_000_000_000_000


class NothingKnown:
    """A long memory that is empty."""

    def find(self, scope: int, session: bytes) -> Known | None:  # noqa: ARG002 - the protocol's arguments
        return None


def measure(*, quick: bool) -> Iterator[Figure]:
    """A create of a new user, a lookup in a request of its own, and a reuse; each judged."""
    events, rounds = (2_500, 2) if quick else (50_000, 7)
    taken_us: dict[str, list[float]] = {}
    for _ in range(rounds):
        for what, each_us in _round(events).items():
            taken_us.setdefault(what, []).append(each_us)
    for what, each_us in taken_us.items():
        yield Figure(f"ledger, one {what}, judged, {events:,} users in turn", statistics.median(each_us), "µs/event")


def _round(count: int) -> dict[str, float]:
    ledger = Ledger({SCOPE: ScopeRules(name=SCOPE)}, names=Pseudonyms(b"k" * 32), known=NothingKnown())
    users = [(user_of(user), session_of(user)) for user in range(count)]
    kinds: dict[str, list[Event]] = {
        "create": [Created(BEGIN_US, SCOPE, session, user, sites=SITES) for user, session in users],
        "lookup": [
            LookedUp(BEGIN_US, SCOPE, session, user, "", f"request-{user}", b"", SITES) for user, session in users
        ],
        "reuse": [Reused(BEGIN_US, SCOPE, session, user) for user, session in users],
    }
    taken_us = {}
    for number, (what, events) in enumerate(kinds.items()):
        taken_us[what] = _judged_us(ledger, _in_time(events, BEGIN_US + number * count * STEP_US))
    totals = ledger.totals.scopes[SCOPE]
    if totals.creates != count or totals.lookups != count:
        raise RuntimeError(f"{count} creates and lookups: {totals.creates} and {totals.lookups} were counted")
    return taken_us


def _in_time(events: Sequence[Event], begin_us: int) -> list[Event]:
    """The events, one step after another."""
    return [type(each)(begin_us + number * STEP_US, *_fields(each)) for number, each in enumerate(events)]


def _fields(event: Event) -> list[object]:
    return [getattr(event, name) for name in event.__struct_fields__[1:]]


def _judged_us(ledger: Ledger, events: list[Event]) -> float:
    gc.collect()
    begun_s = time.process_time()
    for first in range(0, len(events), BATCH):
        batch = events[first : first + BATCH]
        ledger.apply(batch, WRITER)
        ledger.advance(batch[-1].at_us + 1)
    return (time.process_time() - begun_s) / len(events) * 1e6
