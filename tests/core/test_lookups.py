"""Where sessions are looked up: the count of each place, and of the pairs that made a request look twice."""

from collections import Counter
from typing import NamedTuple

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from ledgers import REMOTE, SECOND, START, WORKER, Book, at

from session_exporter.core import events as wire
from session_exporter.core.checkpoint import Changes, restore
from session_exporter.core.ledger import Ledger
from session_exporter.core.lookups import (
    COMMIT_ROWS_MAX,
    FIRSTS_KEPT,
    HOUR_ROWS_MAX,
    HOUR_US,
    NO_FIRST,
    NUMBERS_REMEMBERED_MAX,
    OTHER,
    PLACES_KEPT,
    LookupCount,
    Places,
    Ranked,
    Sites,
    folded,
    number_of,
    ranked,
)
from session_exporter.core.scopes import ScopeRules

HOUR_S = 3600.0
FIND = "app/store.py:9:find"
PIPELINE = (FIND, "app/pipeline.py:4:run")
HANDLER = (FIND, "app/handler.py:7:handle")
ACTION = (FIND, "app/action.py:2:perform")


def pairs_of(*commits: Changes, scope: str = "chat") -> Counter[tuple[int, int]]:
    counts: Counter[tuple[int, int]] = Counter()
    for changes in commits:
        for each in changes.lookups:
            counts[each.place, each.first] += each.lookups * (each.scope == scope)
    return +counts


def numbered(*pairs: tuple[Sites, Sites | None, int]) -> dict[tuple[int, int], int]:
    return {(number_of(sites), NO_FIRST if first is None else number_of(first)): n for sites, first, n in pairs}


def test_a_redundant_lookup_counts_where_it_was_made_beside_the_place_of_the_first() -> None:
    book = Book()
    for request in ("r1", "r2"):
        for second, sites in enumerate((PIPELINE, HANDLER, ACTION, HANDLER)):
            book.looked_up(second, request=request, sites=sites)
    counts = pairs_of(book.commit())
    assert counts == numbered((PIPELINE, None, 2), (HANDLER, PIPELINE, 4), (ACTION, PIPELINE, 2))


def test_a_place_that_asks_again_and_again_is_its_own_first() -> None:
    book = Book()
    for second in range(3):
        book.looked_up(second, request="r1", sites=PIPELINE)
    assert pairs_of(book.commit()) == numbered((PIPELINE, None, 1), (PIPELINE, PIPELINE, 2))


def test_the_call_sites_below_tell_callers_of_one_function_apart() -> None:
    book = Book()
    book.looked_up(0, request="r1", sites=PIPELINE)
    book.looked_up(1, request="r2", sites=HANDLER)
    (one, other) = book.commit().lookups
    assert {one.sites, other.sites} == {PIPELINE, HANDLER}
    assert one.place != other.place


def test_a_call_that_gets_or_creates_is_a_lookup_at_its_place() -> None:
    book = Book()
    book.looked_up(0, request="r1", sites=PIPELINE)
    book.observed(1, "s1", request="r1", sites=HANDLER)
    assert pairs_of(book.commit()) == numbered((PIPELINE, None, 1), (HANDLER, PIPELINE, 1))


def test_lookups_without_call_sites_have_an_entry_of_their_own() -> None:
    book = Book()
    book.looked_up(0, request="r1")
    book.looked_up(1, request="r1", sites=PIPELINE)
    book.looked_up(2, request="r1")
    counts = book.commit()
    assert pairs_of(counts) == numbered(((), None, 1), (PIPELINE, (), 1), ((), (), 1))
    assert {each.sites for each in counts.lookups} == {(), PIPELINE}


def test_lookups_outside_of_requests_are_counted_and_never_redundant() -> None:
    book = Book()
    for second in range(3):
        book.looked_up(second, sites=PIPELINE)
    assert pairs_of(book.commit()) == numbered((PIPELINE, None, 3))


def test_lookups_count_in_the_hour_of_their_event_time() -> None:
    book = Book()
    for at_s in (0, HOUR_S, 1, -1, HOUR_S - 1e-6):
        book.looked_up(at_s, sites=PIPELINE)
    hours = Counter({each.hour - START // HOUR_US: each.lookups for each in book.commit().lookups})
    assert hours == {0: 3, 1: 1, -1: 1}
    assert START % HOUR_US == 0


def test_a_commit_holds_what_was_counted_since_the_one_before() -> None:
    book = Book()
    book.looked_up(0, request="r1", sites=PIPELINE)
    first = book.commit()
    book.looked_up(1, request="r1", sites=HANDLER)
    second = book.commit()
    assert (pairs_of(first), pairs_of(second)) == (numbered((PIPELINE, None, 1)), numbered((HANDLER, PIPELINE, 1)))
    assert book.commit().lookups == []


def test_counters_that_start_anew_leave_nothing_of_what_was_counted() -> None:
    book = Book()
    book.looked_up(0, request="r1", sites=PIPELINE)
    book.ledger.forget_counts(at(1))
    assert book.commit().lookups == []


def test_the_minutes_say_how_many_requests_looked_up() -> None:
    book = Book()
    for request in ("r1", "r1", "r1", "r2", ""):
        book.looked_up(0, request=request, sites=PIPELINE)
    ((_, _, minute),) = book.commit().minutes
    assert minute.counts == {"lookups": 5, "looking_requests": 2, "redundant_lookups": 2}


class Lookup(NamedTuple):
    request: str
    user: str
    scope: str
    sites: Sites
    hours: int
    by_call: bool


LOOKUPS = st.lists(
    st.builds(
        Lookup,
        st.sampled_from(["", "r1", "r2", "r3"]),
        st.sampled_from(["ann", "bob"]),
        st.sampled_from(["chat", "tasks"]),
        st.sampled_from([(), PIPELINE, HANDLER, ACTION]),
        st.integers(0, 2),
        st.booleans(),
    ),
    max_size=40,
)


def in_one_reading(lookups: list[Lookup]) -> Counter[tuple[str, int, int, int]]:
    """What any number of ledgers, commits and restarts has to add up to."""
    counts: Counter[tuple[str, int, int, int]] = Counter()
    firsts: dict[tuple[str, str, str], Sites] = {}
    for each in lookups:
        key = (each.request, each.scope, each.user)
        redundant = bool(each.request) and key in firsts
        first = number_of(firsts.setdefault(key, each.sites)) if redundant else NO_FIRST
        if each.request:
            firsts.setdefault(key, each.sites)
        counts[each.scope, START // HOUR_US + each.hours, number_of(each.sites), first] += 1
    return counts


class Kept:
    """One ledger of several, by user; it may be killed and restored, and loses nothing that was committed."""

    def __init__(self) -> None:
        self.commits: list[Changes] = []
        self.ledger = self._new()

    def _new(self) -> Ledger:
        book = Book(scopes={"tasks": ScopeRules("tasks")})
        requests = [(each.waiting.epoch, each.requests) for each in self.commits]
        if self.commits:
            restore(book.ledger, (), (), self.commits[-1].waiting, requests)
        self.book = book
        return book.ledger

    def look_up(self, number: int, each: Lookup) -> None:
        at_us = START + each.hours * HOUR_US + number * SECOND
        kind = wire.Observed if each.by_call else wire.LookedUp
        event = kind(at_us, each.scope, "s1" if each.by_call else "", each.user, request=each.request, sites=each.sites)
        self.ledger.apply([event], WORKER)

    def commit(self, *, restart: bool) -> None:
        changes = self.book.commit()
        self.commits.append(msgspec.msgpack.decode(msgspec.msgpack.encode(changes), type=Changes))
        if restart:
            self.ledger = self._new()


@given(LOOKUPS, st.dictionaries(st.integers(0, 40), st.booleans()), st.sampled_from(["one", "two"]))
def test_however_lookups_are_split_over_ledgers_commits_and_restarts_their_counts_are_the_same(
    lookups: list[Lookup], commits: dict[int, bool], ledgers_kept: str
) -> None:
    ledgers = {"ann": Kept(), "bob": Kept()}
    for number, each in enumerate(lookups):
        ledgers[each.user if ledgers_kept == "two" else "ann"].look_up(number, each)
        if number in commits:
            for ledger in ledgers.values():
                ledger.commit(restart=commits[number])
    counts: Counter[tuple[str, int, int, int]] = Counter()
    for ledger in ledgers.values():
        ledger.commit(restart=False)
        for count in (count for changes in ledger.commits for count in changes.lookups):
            assert count.place == number_of(count.sites)
            counts[count.scope, count.hour, count.place, count.first] += count.lookups
    assert counts == in_one_reading(lookups)


def test_a_request_is_remembered_with_its_first_place_by_a_ledger_that_another_version_fed() -> None:
    book = Book()
    book.ledger.requests.restore(0, {b"L%b/%d/%b" % (b"r1", book.ledger.judges["chat"].number, b"ann"): 2})
    book.looked_up(0, request="r1", sites=PIPELINE)
    assert book.committed().redundant_lookups == 1


def test_a_flood_of_places_is_counted_among_the_others() -> None:
    book = Book()
    flood = 3 * COMMIT_ROWS_MAX
    for number in range(flood):
        book.looked_up(0, sites=(f"generated.py:{number}:call",))
        book.looked_up(0, request="r1", sites=PIPELINE)
    counts = book.commit().lookups
    assert len(counts) <= COMMIT_ROWS_MAX + 2
    assert sum(each.lookups for each in counts) == 2 * flood
    others = [each for each in counts if each.place == OTHER]
    assert [(each.sites, each.first) for each in others] == [((), NO_FIRST)]


def test_a_flood_of_firsts_is_counted_among_the_others() -> None:
    places = Places()
    place = places.count(START, PIPELINE)
    for number in range(3 * COMMIT_ROWS_MAX):
        place.lookups += 1
        places.count_redundant(place, 1000 + number)
    counts = list(places.counts("chat"))
    assert len(counts) <= COMMIT_ROWS_MAX + 1
    assert sum(each.lookups for each in counts) == 3 * COMMIT_ROWS_MAX + 1
    assert {each.first for each in counts} > {NO_FIRST, OTHER, 1000}


def test_places_that_were_not_told_apart_are_told_apart_again_after_a_commit() -> None:
    book = Book()
    for number in range(2 * COMMIT_ROWS_MAX):
        book.looked_up(0, sites=(f"generated.py:{number}:call",))
    book.commit()
    book.looked_up(0, sites=PIPELINE)
    assert pairs_of(book.commit()) == numbered((PIPELINE, None, 1))


def test_the_numbers_of_places_are_remembered_within_bounds() -> None:
    places = Places()
    for number in range(2 * NUMBERS_REMEMBERED_MAX):
        places.count(START, (f"generated.py:{number}:call",))
    assert len(places._numbers) <= NUMBERS_REMEMBERED_MAX


@given(st.lists(st.lists(st.text(max_size=5), max_size=4).map(tuple), max_size=10))
def test_different_chains_have_different_numbers_that_fit_the_state(chains: list[Sites]) -> None:
    numbers = {number_of(each) for each in chains}
    assert len(numbers) == len(set(chains))
    assert all(OTHER < number < 2**48 for number in numbers)


def test_what_the_file_system_cannot_decode_has_a_number() -> None:
    assert number_of(("app/\udcff.py:1:f",)) != number_of(("app/\udcfe.py:1:f",))


def test_places_rank_by_redundant_lookups_then_by_lookups_and_the_others_come_last() -> None:
    pairs = {(2, NO_FIRST): 9, (3, 2): 5, (4, NO_FIRST): 1, (4, 2): 2, (4, 3): 3, (OTHER, OTHER): 90, (5, NO_FIRST): 8}
    assert ranked(pairs) == [
        Ranked(4, 6, 5, [(3, 3), (2, 2)]),
        Ranked(3, 5, 5, [(2, 5)]),
        Ranked(2, 9, 0, []),
        Ranked(5, 8, 0, []),
        Ranked(OTHER, 90, 90, [(OTHER, 90)]),
    ]


PAIRS = st.dictionaries(st.tuples(st.integers(OTHER, 400), st.integers(0, 400)), st.integers(1, 1000), max_size=500)


@given(PAIRS)
def test_folding_keeps_the_head_of_the_ranking_and_every_sum(pairs: dict[tuple[int, int], int]) -> None:
    less = folded(pairs)
    assert sum(less.values()) == sum(pairs.values())
    assert sum(each.redundant for each in ranked(less)) == sum(each.redundant for each in ranked(pairs))
    assert len(less) <= PLACES_KEPT * (FIRSTS_KEPT + 2) + 2 <= HOUR_ROWS_MAX
    before = [each[:3] for each in ranked(pairs) if each.place != OTHER]
    assert [each[:3] for each in ranked(less) if each.place != OTHER] == before[:PLACES_KEPT]


@given(PAIRS)
def test_folding_what_was_folded_changes_nothing(pairs: dict[tuple[int, int], int]) -> None:
    assert folded(folded(pairs)) == folded(pairs)


def test_a_lookup_of_another_worker_is_another_request_when_only_a_trace_is_known() -> None:
    book = Book()
    for writer in (WORKER, REMOTE):
        book.looked_up(0, trace=bytes(range(16)), sites=PIPELINE, writer=writer)
    assert pairs_of(book.commit()) == numbered((PIPELINE, None, 2))


def test_a_count_says_all_that_the_state_keeps() -> None:
    book = Book()
    book.looked_up(0, sites=PIPELINE)
    assert book.commit().lookups == [
        LookupCount("chat", START // HOUR_US, number_of(PIPELINE), PIPELINE, NO_FIRST, 1),
    ]
