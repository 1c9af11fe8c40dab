"""What forwarders route and consumers count, without what lies between, held against the oracle."""

from collections import Counter, defaultdict
from random import Random

import pytest
from fleet_truth import METRICS, by_one_ledger, by_oracle, differences, ledger_counts
from histories import LIVE, PAST, REPLICAS, SECOND, START, WORKERS, WORKERS_EACH, circles
from ledgers import Memory

from session_exporter.core import events as wire
from session_exporter.core.checkpoint import take_changes
from session_exporter.core.fleet import FleetLedger
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.shares import Share
from session_exporter.core.travelling import TravelledNames
from session_exporter.stream.keys import SHARED
from session_exporter.stream.routing import Router
from session_exporter.stream.turns import turns

pytestmark = pytest.mark.slow

KEY = b"k" * 32
PARTITIONS = 8
SHARES = [Share(owned, PARTITIONS) for owned in ((0, 1, 2), (3, 4, 5), (6, 7))]
EVENTS = 20_000
COMMIT_EVERY = 1_000


class Fleet:
    """Forwarders and consumers that hand events over at once."""

    def __init__(self, pace):
        rules = {name: rules for name, rules in pace.rules().items() if name != "other"}
        self.routers = [Router(Pseudonyms(KEY), rules, PARTITIONS) for _ in range(REPLICAS)]
        self.memories = [Memory() for _ in SHARES]
        self.ledgers = [
            FleetLedger(rules, share=share, names=TravelledNames(KEY), known=memory, lateness_us=pace.lateness_us)
            for share, memory in zip(SHARES, self.memories, strict=True)
        ]

    def tell(self, events, worker):
        """Have forwarded what a worker has recorded in a while."""
        router, writer = self.routers[worker // WORKERS_EACH], WORKERS[worker]
        ends = range(1, len(events) + 1)
        for turn in turns(events, ends):
            for stream, told in router.route(events[turn], ends[turn], writer).items():
                for ledger in self.ledgers:
                    if stream == SHARED or stream in ledger.share.owned:
                        ledger.apply(told.events, writer)

    def advance(self, watermark_us):
        for ledger in self.ledgers:
            ledger.advance(watermark_us)

    def commit(self):
        for ledger, memory in zip(self.ledgers, self.memories, strict=True):
            for scope, session, known in take_changes(ledger).left_sessions:
                memory.known[scope, session] = known
            ledger.forget_changes()

    def counts(self):
        self.commit()
        return sum((ledger_counts(ledger) for ledger in self.ledgers), Counter())


def pieces(told, lateness_us, chance):
    """(time, worker, events): what each worker has recorded in a while, in an order of arrival within the lateness."""
    while_us = lateness_us // 4
    recorded = defaultdict(list)
    for event, worker in sorted(told, key=lambda each: each.event.at_us):
        recorded[event.at_us // while_us + 1, worker].append(event)
    clocks, timed = [0] * len(WORKERS), []
    for (number, worker), events in recorded.items():
        clocks[worker] = max(number + chance.randrange(3), clocks[worker])
        timed.append((clocks[worker] * while_us, worker, events))
    return sorted(timed, key=lambda each: each[0])


def counted(*told, pace=LIVE):
    """What three consumers count of (seconds, kind, user, more) of one session, in the scope `chat`."""
    fleet = Fleet(pace)
    for at_s, kind, user, more in told:
        at_us = START + round(at_s * SECOND)
        fleet.advance(at_us - pace.lateness_us)
        fleet.tell([kind(at_us, "chat", "a session", user, **more)], 0)
    fleet.advance(at_us + pace.settles_us)
    return {key[0]: value for key, value in fleet.counts().items() if "_total" in key[0] and "scope=chat" in key}


def test_a_loss_is_counted_once_when_whoever_keeps_the_session_heard_of_it_long_before() -> None:
    missed = {"since_us": START + 6 * SECOND, "missed": wire.MISSED_BY_ID}
    found = counted((0, wire.Reused, "ann", {}), (1, wire.LookedUp, "ann", {}), (7.5, wire.Unmet, "ann", missed))
    assert found["session_context_loss_total"] == 1
    assert "session_stale_expected_total" not in found


def test_an_expected_session_that_has_expired_is_stale_whoever_asks_for_it() -> None:
    found = counted(*[(at_s, wire.Unmet, user, {}) for at_s, user in ((60, ""), (61, "ann"), (62, "bob"))])
    assert found["session_stale_expected_total"] == 3
    found = counted(
        (0, wire.Reused, "ann", {}),
        *[(at_s, wire.Unmet, user, {"shared": True}) for at_s, user in ((60, ""), (61, "ann"), (62, "bob"))],
    )
    assert found["session_stale_expected_total"] == 3


@pytest.mark.parametrize("pace", [LIVE, PAST], ids=["a minute", "hours"])
def test_what_is_routed_to_three_consumers_comes_to_what_the_oracle_says(pace) -> None:
    seed = Random().randrange(1_000_000)
    history, fleet = circles(seed, EVENTS, pace), Fleet(pace)
    told = [told for circle in history for told in circle.told]
    for number, (at_us, worker, events) in enumerate(pieces(told, pace.lateness_us, Random(seed))):
        fleet.advance(at_us - pace.lateness_us)
        fleet.tell(events, worker)
        if number % COMMIT_EVERY == 0:
            fleet.commit()
    for ledger in fleet.ledgers:
        ledger.finish()
    fleet.advance(at_us + pace.settles_us)

    truth, counted = by_oracle(history, pace), fleet.counts()
    names = METRICS - ({"session_ids_checked_total"} if pace is PAST else set())
    assert differences(counted, truth, {key[0] for key in truth} & names) == [], f"seed {seed}"
    assert differences(counted, by_one_ledger(history, pace), names) == [], f"seed {seed}"
    assert sum(ledger.totals.late_events for ledger in fleet.ledgers) == 0
