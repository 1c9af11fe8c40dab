"""Whatever happens, and whoever is shown meanwhile: what is counted by user adds up to what is counted of the scope."""

from collections import Counter
from typing import Any

import msgspec
from fleets import KEY, PARTITIONS, Fleet, rules_of
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import SECOND, START, WORKER
from rows import Memory, Rows

from session_exporter.core import events as wire
from session_exporter.core.checkpoint import take_changes
from session_exporter.core.fleet import FleetLedger
from session_exporter.core.ledger import Ledger
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.scopes import Limits, ScopeRules
from session_exporter.core.top_users import CHOOSE_EVERY_US, NOTICE_US
from session_exporter.core.totals import OTHER_USERS, LedgerTotals, ScopeTotals, UserCounts
from session_exporter.core.travelling import TravelledNames

Series = tuple[str, int]
NAMES = ("creates", "reuses", "duplicates", "losses")
LATENESS_S = 2


class Town:
    """A ledger that may be killed, and what its commits have shown of the scope `chat`; nothing is read twice."""

    def __init__(self, top: int) -> None:
        self.names = Pseudonyms(b"k" * 32)
        self.memory, self.rows, self.numbers = Memory(), Rows(), dict[str, int]()
        self.now_us, self.sessions = START, 0
        self.series: dict[Series, Counter[str]] = {}
        self.before = Counter[str]()
        self.top = top
        self.ledger = self.ledger_of()
        self.commit()

    def ledger_of(self, totals: LedgerTotals | None = None) -> Ledger:
        return Ledger(
            {"chat": ScopeRules("chat", idle_timeout_us=600 * SECOND)},
            names=self.names,
            known=self.memory,
            limits=Limits(top_users=self.top),
            lateness_us=LATENESS_S * SECOND,
            born_us=self.now_us,
            numbers=self.numbers,
            totals=totals,
        )

    def tell(self, kind: type, user: str, session: str = "", **more: Any) -> None:
        self.ledger.apply([kind(self.now_us, "chat", session, user, **more)], WORKER)

    def happen(self, what: str, user: str) -> None:
        if what == "create":
            self.sessions += 1
            self.tell(wire.Created, user, f"s{self.sessions}")
        elif what == "reuse":
            self.tell(wire.Reused, user, f"s{self.sessions}")
        elif what == "reuse of nobody":
            self.tell(wire.Reused, "", f"s{self.sessions}")
        elif what == "lookup":
            self.tell(wire.LookedUp, user, f"s{self.sessions}")
        elif what == "sight":
            self.tell(wire.Observed, user, f"s{self.sessions}")
        elif what == "loss":
            self.tell(wire.ContextLost, user, expected="a", actual="b")
        else:
            self.tell(wire.Unmet, "", f"s{self.sessions}", since_us=self.now_us - SECOND, missed=wire.MISSED_BY_ID)

    def pass_s(self, seconds: float) -> None:
        self.now_us += round(seconds * SECOND)
        self.ledger.advance(self.now_us - LATENESS_S * SECOND)

    def commit(self) -> ScopeTotals:
        self.rows.store(take_changes(self.ledger), self.memory)
        totals = msgspec.msgpack.decode(self.rows.totals, type=LedgerTotals).scopes["chat"]
        assert len(totals.users) <= self.top + 1
        assert (OTHER_USERS in totals.users) == (self.top > 0)
        for label, counts in totals.users.items():
            now = of_user(counts)
            last = self.series.get((label, counts.born_us), Counter())
            assert all(now[name] >= last[name] for name in NAMES), "a counter went backwards"
            self.series[label, counts.born_us] = now
        return totals

    def restart(self, top: int) -> None:
        """Go on from the last commit; what came after it is lost, as the transport never lets it be."""
        if not self.top or not top:
            self.series, self.before = {}, of_scope(msgspec.msgpack.decode(self.rows.totals, type=LedgerTotals))
        self.top = top
        self.ledger = self.rows.restored(self.ledger_of)
        self.commit()

    def counted(self) -> Counter[str]:
        """By name, what all series together have counted since users are shown."""
        return sum(self.series.values(), Counter())


def of_user(counts: UserCounts) -> Counter[str]:
    return Counter({name: getattr(counts, name) for name in NAMES})


def of_scope(totals: LedgerTotals) -> Counter[str]:
    chat = totals.scopes["chat"]
    losses = sum(chat.losses.values())
    return Counter(creates=chat.creates, reuses=chat.reuses, duplicates=chat.duplicate_creates, losses=losses)


WHAT = ("create", "create", "reuse", "reuse of nobody", "lookup", "sight", "loss", "unmet")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(WHAT), st.sampled_from(["", "ann", "bob", "cy", "dee", "eve"])),
        st.tuples(st.just("pass"), st.sampled_from([0.5, 3.0, 31.0, 4000.0])),
        st.tuples(st.just("commit"), st.just(0)),
        st.tuples(st.just("restart"), st.sampled_from([None, None, 0, 1, 2, 4])),
    ),
    max_size=80,
)


@settings(deadline=None)
@given(top=st.integers(0, 3), steps=STEPS)
def test_over_restarts_and_other_numbers_of_users_everything_is_in_exactly_one_series(
    top: int, steps: list[tuple[str, Any]]
) -> None:
    town = Town(top)
    for what, how in steps:
        if what == "pass":
            town.pass_s(how)
        elif what == "commit":
            town.commit()
        elif what == "restart":
            town.restart(town.top if how is None else how)
        else:
            town.happen(what, how)
    town.pass_s(60)
    town.commit()
    if town.top:
        scope = of_scope(msgspec.msgpack.decode(town.rows.totals, type=LedgerTotals))
        assert {name: town.counted()[name] for name in NAMES} == {
            name: scope[name] - town.before[name] for name in NAMES
        }


def test_after_a_restart_the_same_users_go_on_counting() -> None:
    town = Town(2)
    for _ in range(2):
        for user in ("ann", "bob"):
            town.happen("create", user)
        town.pass_s(60)
    town.commit()
    town.pass_s(60)
    before = town.commit().users
    assert len(before) == 3
    town.restart(2)
    assert town.commit().users == before
    town.happen("create", "ann")
    town.pass_s(5)
    after = town.commit().users
    assert {label for label, counts in after.items() if counts != before[label]} == {
        town.names.label("u", town.names["ann"])
    }


class Scraper:
    """What `increase` is to Prometheus: nothing for a series that was not there before, or begins anew."""

    def __init__(self) -> None:
        self.last: dict[str, Counter[str]] = {}
        self.increase = Counter[str]()

    def scrape(self, totals: ScopeTotals) -> None:
        found = {label: of_user(counts) for label, counts in totals.users.items()}
        for label, now in found.items():
            if label in self.last:
                self.increase += now - self.last[label]
        self.last = found


@settings(deadline=None, max_examples=50)
@given(
    every_s=st.sampled_from([1, 5, 15, 30]),
    rounds=st.lists(st.lists(st.sampled_from(["ann", "bob", "cy", "dee"]), max_size=6), min_size=20, max_size=50),
)
def test_whoever_scrapes_often_enough_sees_the_increase_of_the_scope(every_s: int, rounds: list[list[str]]) -> None:
    assert every_s * SECOND <= NOTICE_US
    town, scraper = Town(2), Scraper()
    step_s = min(every_s, CHOOSE_EVERY_US // SECOND)
    totals = town.commit()
    scraper.scrape(totals)
    quiet: list[list[str]] = [[]] * 60
    for number, users in enumerate([*rounds, *quiet], start=1):
        for user in users:
            town.happen("create", user)
        town.pass_s(step_s)
        totals = town.commit()
        if number * step_s % every_s == 0:
            scraper.scrape(totals)
    assert scraper.increase["creates"] == totals.creates
    assert scraper.increase["duplicates"] == totals.duplicate_creates


class ShowingFleet(Fleet):
    """Consumers who each show their worst users."""

    def consumer(self, index: int, totals: LedgerTotals | None = None) -> FleetLedger:
        return FleetLedger(
            self.rules,
            share=self.shares[index],
            names=TravelledNames(KEY),
            known=self.memories[index],
            limits=Limits(top_users=9),
            lateness_us=self.lateness_us,
            numbers=self.numbers[index],
            totals=totals,
        )


def test_each_consumer_of_a_fleet_shows_the_worst_of_its_own_users() -> None:
    fleet = ShowingFleet(rules_of(), [range(4), range(4, PARTITIONS)], LATENESS_S * SECOND)
    users = [f"user{number}" for number in range(8)]
    for number in range(120):
        now_us = START + number * SECOND
        user, session = users[number % 8], f"s{number}"
        fleet.tell(wire.Created(now_us, "chat", session, user), WORKER)
        fleet.tell(wire.Created(now_us + 1, "chat", f"{session}b", user), WORKER)
        fleet.tell(wire.Reused(now_us + 2, "chat", session, user), WORKER)
        fleet.tell(wire.Reused(now_us + 3, "chat", session), WORKER)
        fleet.advance(now_us - LATENESS_S * SECOND)
        if number % 10 == 9:
            for index in range(2):
                fleet.restart(index)
    found = Counter[str]()
    for ledger in fleet.consumers:
        take_changes(ledger)
        chat = ledger.totals.scopes["chat"]
        assert sum(map(of_user, chat.users.values()), Counter()) == of_scope(ledger.totals)
        found.update(label for label, counts in chat.users.items() if counts.reuses and counts.duplicates)
    assert found.pop(OTHER_USERS) == 2
    assert found == Counter(fleet.names.label("u", fleet.names[user]) for user in users)
