"""The ledger as a whole: scopes, live sessions and users, the watermark, exemplars, what was lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import LATENESS_S, NEIGHBOUR, REMOTE, SECOND, START, WORKER, Book, at, nonzero

from session_exporter.core import events as wire
from session_exporter.core.ledger import Ledger
from session_exporter.core.minutes import MINUTE_US
from session_exporter.core.scopes import DEFAULT_SCOPE, OTHER_SCOPE, ScopeRules
from session_exporter.core.totals import Exemplar, LedgerTotals, ScopeTotals

TRACE = bytes(range(16))


def test_the_default_and_the_other_scope_are_always_there() -> None:
    assert set(Book().ledger.totals.scopes) == {"chat", DEFAULT_SCOPE, OTHER_SCOPE}


def test_an_undeclared_scope_is_counted_as_other() -> None:
    book = Book()
    book.created(0, "s1", scope="what_is_this")
    book.reused(1, "s1", scope="what_is_this")
    book.looked_up(2, scope="x" * 200)
    book.context_lost(3, "a", "b", scope="")
    other = book.judged(OTHER_SCOPE)
    assert (other.creates, other.reuses, other.lookups, other.losses["reported"]) == (1, 1, 1, 1)
    assert set(book.ledger.totals.scopes) == {"chat", DEFAULT_SCOPE, OTHER_SCOPE}


def test_active_sessions_are_those_that_have_not_ended() -> None:
    book = Book()
    for number in range(3):
        book.created(number * 20, f"s{number}", f"user{number}")
    book.ended(70, "s1")
    totals = book.judged()
    assert (totals.active_sessions, totals.active_users) == (2, 2)


def test_a_user_with_several_keys_is_one_active_user() -> None:
    book = Book()
    book.created(0, "s1", key="phone")
    book.created(20, "s2", key="laptop")
    book.created(40, "s3")
    totals = book.judged()
    assert (totals.active_sessions, totals.active_users) == (3, 1)
    for number, at_s in enumerate([60, 80, 100]):
        assert book.judged().active_users == 1
        book.ended(at_s, f"s{number + 1}")
    assert (book.judged().active_sessions, book.judged().active_users) == (0, 0)


def test_sessions_without_a_user_are_active_and_no_user_is() -> None:
    book = Book()
    book.created(0, "s1", "")
    book.reused(1, "s2", "")
    totals = book.judged()
    assert (totals.active_sessions, totals.active_users) == (2, 0)
    book.attributed(2, "s1", "ann")
    book.attributed(3, "s2", "ann")
    totals = book.judged()
    assert (totals.active_sessions, totals.active_users) == (2, 1)


keyed = st.tuples(
    st.sampled_from(["ann", "bob"]), st.sampled_from(["", "phone", "laptop"]), st.sampled_from(["make", "make", "end"])
)


@given(st.lists(keyed, max_size=25))
def test_active_users_are_those_with_a_live_session_under_any_key(steps: list[tuple[str, str, str]]) -> None:
    book, live = Book(), set()
    for step, (user, key, what) in enumerate(steps):
        session = f"{user}-{key}"
        if what == "make":
            book.created(step, session, user, key=key)
            live.add((user, session))
        else:
            book.ended(step, session, user=user, key=key)
            live.discard((user, session))
        totals = book.judged()
        assert (totals.active_sessions, totals.active_users) == (len(live), len({user for user, _ in live}))


def test_an_event_that_arrives_behind_the_watermark_is_counted_as_late_and_judged() -> None:
    book = Book()
    book.advance(10)
    book.created(9.999999, "s1")
    assert (book.committed().creates, book.ledger.totals.late_events) == (1, 1)
    book.created(10, "s2", "bob")
    assert (book.judged().creates, book.ledger.totals.late_events) == (2, 1)


@pytest.mark.parametrize("kind", ["created", "observed", "ended", "attributed"])
def test_what_depends_on_order_counts_as_late(kind: str) -> None:
    book = Book()
    book.advance(10)
    getattr(book, kind)(5, "s1", user="ann")
    assert book.ledger.totals.late_events == 1


def test_an_event_waits_until_the_watermark_has_passed_it() -> None:
    book = Book()
    book.created(5, "s1")
    book.advance(5)
    assert book.committed().creates == 0
    book.advance(5.000001)
    assert book.committed().creates == 1


def test_the_watermark_never_goes_back() -> None:
    book = Book()
    book.advance(100)
    book.advance(50)
    assert book.ledger.watermark_us == at(100)
    book.created(60, "s1")
    assert book.ledger.totals.late_events == 1
    book.judged()
    assert book.ledger.watermark_us >= at(100)


def test_finishing_judges_all_that_waits() -> None:
    book = Book()
    book.created(0, "s1")
    book.created(5, "s2")
    book.observed(50, "s3", "bob")
    book.ended(600, "s1", "deleted")
    totals = book.judged()
    assert (totals.creates, totals.adopted, totals.duplicate_creates) == (2, 1, 1)
    assert totals.ends["deleted"] == 1
    assert book.commit().waiting.reports == []


def test_reuses_lookups_and_losses_count_when_they_arrive() -> None:
    book = Book()
    book.reused(5, "s1")
    book.looked_up(6, "s1", request="r1")
    book.context_lost(7, "a", "b")
    totals = book.committed()
    assert (totals.reuses, totals.lookups, totals.losses["reported"]) == (2, 1, 1)


def test_received_events_are_counted_by_kind() -> None:
    book = Book()
    book.created(0, "s1")
    book.created(0, "s1")
    book.reused(1, "s1")
    book.looked_up(2, "s1")
    book.observed(3, "s1")
    book.ended(4, "s1")
    book.attributed(5, "s1", "ann")
    book.context_lost(6, "a", "b")
    assert book.ledger.totals.events == {
        "created": 2,
        "reused": 1,
        "looked_up": 1,
        "observed": 1,
        "ended": 1,
        "attributed": 1,
        "context_lost": 1,
        "conflicted": 0,
        "create_failed": 0,
        "violated": 0,
        "db_session": 0,
        "unmet": 0,
        "identified": 0,
        "unknown": 0,
    }


def test_exemplars_name_trace_user_and_time_of_the_newest_of_their_kind() -> None:
    book = Book()
    book.created(0, "s1", trace=bytes(16))
    book.created(1, "s2", trace=TRACE, writer=REMOTE)
    book.context_lost(2, "s1", "s2", trace=TRACE)
    assert book.judged().exemplars == {
        "creates": Exemplar(TRACE.hex(), "ann", at(1)),
        "duplicates:cross_replica": Exemplar(TRACE.hex(), "ann", at(1)),
        "losses:reported": Exemplar(TRACE.hex(), "ann", at(2)),
    }


def test_users_in_exemplars_are_pseudonyms() -> None:
    book = Book(show_ids=False)
    book.created(0, "s1", key="phone", trace=TRACE)
    label = book.names.label("u", book.names["ann"])
    assert book.judged().exemplars["creates"].user == label


def test_minutes_hold_what_happened_in_them() -> None:
    book = Book()
    book.created(0, "s1")
    book.created(5, "s2")
    book.reused(61, "s2")
    book.context_lost(62, "a", "b")
    book.ended(125, "s2")
    book.ledger.finish()
    minutes = {number - START // MINUTE_US: minute for _, number, minute in book.commit().minutes}
    assert {number: (minute.reuses, nonzero(minute.counts)) for number, minute in minutes.items()} == {
        0: (0, {"creates": 2, "duplicates:same_worker": 1}),
        1: (1, {"losses:reported": 1}),
        2: (0, {"ends:completed": 1}),
    }


def test_counts_that_start_anew_keep_what_is_known_of_sessions() -> None:
    book = Book()
    book.created(0, "s1")
    book.created(1, "s2")
    book.reused(2, "s1")
    book.ledger.finish()
    book.ledger.forget_counts(at(60))
    totals = book.committed()
    assert (totals.born_us, totals.creates, totals.reuses, totals.duplicate_creates) == (at(60), 0, 0, 0)
    assert (totals.active_sessions, totals.active_users) == (2, 1)
    assert (book.incidents, sum(book.ledger.totals.events.values())) == ([], 0)
    book.created(90, "s1")
    book.observed(90, "s2")
    totals = book.judged()
    assert (totals.creates, totals.adopted, totals.reuses) == (0, 0, 1)


def test_counts_that_start_anew_have_no_exemplars() -> None:
    book = Book()
    book.created(0, "s1")
    book.ledger.finish()
    book.ledger.forget_counts(at(60))
    assert book.committed().exemplars == {}


def test_counting_goes_on_from_the_counts_that_are_handed_in() -> None:
    kept = LedgerTotals(scopes={"chat": ScopeTotals(born_us=7, creates=3, reuses=5, active_sessions=9)})
    book = Book()
    ledger = Ledger(
        {"chat": ScopeRules("chat")},
        names=book.names,
        known=book.memory,
        born_us=at(0),
        totals=kept,
        numbers={"chat": 9},
    )
    assert (kept.scopes["chat"].born_us, kept.scopes["chat"].active_sessions) == (7, 0)
    assert kept.scopes[DEFAULT_SCOPE].born_us == at(0)
    assert ledger.judges["chat"].number == 9
    assert len({judge.number for judge in ledger.judges.values()}) == 3


def test_a_session_reported_in_one_batch_by_many_writers_counts_once() -> None:
    book = Book()
    batch = [wire.Created(at(0), "chat", "s1", "ann"), wire.Created(at(0), "chat", "s2", "bob")]
    for writer in (WORKER, NEIGHBOUR, REMOTE):
        book.ledger.apply(batch, writer)
    assert book.judged().creates == 2


@given(st.permutations(range(6)), st.lists(st.sampled_from([WORKER, NEIGHBOUR, REMOTE]), min_size=6, max_size=6))
def test_totals_do_not_depend_on_who_reports_a_create_or_when(order: list[int], writers: list[wire.Writer]) -> None:
    book = Book()
    for number in order:
        book.created(number * 4, f"s{number}", writer=writers[number])
        book.advance(number * 4 + 3 * LATENESS_S)
    totals = book.judged()
    assert (totals.creates, totals.duplicate_creates, totals.active_sessions) == (6, 5, 6)
    assert totals.intervals.bounds_s.count(10 * SECOND / SECOND) == 1
