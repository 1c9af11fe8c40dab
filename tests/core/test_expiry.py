"""When sessions are idle for too long, and what leaves the ledger when there are too many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import IDLE_S, SECOND, Book, at

from session_exporter.core.expiry import IdleQueue
from session_exporter.core.records import Session
from session_exporter.core.scopes import Limits, ScopeRules

MICROSECOND_S = 0.000001


def test_a_session_idle_for_exactly_the_timeout_has_not_expired() -> None:
    book = Book()
    book.created(0, "s1")
    book.advance(IDLE_S)
    totals = book.committed()
    assert (totals.ends["expired"], totals.active_sessions, totals.active_users) == (0, 1, 1)


def test_a_session_idle_for_one_microsecond_more_has_expired() -> None:
    book = Book()
    book.created(0, "s1")
    book.advance(IDLE_S + MICROSECOND_S)
    totals = book.committed()
    assert (totals.ends["expired"], totals.active_sessions, totals.active_users) == (1, 0, 0)


@pytest.mark.parametrize(("idle_s", "expired"), [(IDLE_S, 0), (IDLE_S + MICROSECOND_S, 1)])
def test_an_event_decides_on_the_same_microsecond_as_the_watermark_does(idle_s: float, expired: int) -> None:
    book = Book()
    book.created(0, "s1")
    book.reused(idle_s, "s1")
    totals = book.judged()
    assert (totals.ends["expired"], totals.active_sessions, totals.creates) == (expired, 1, 1)


@pytest.mark.parametrize("kind", ["reused", "looked_up", "observed", "created", "attributed"])
def test_any_activity_keeps_a_session_alive(kind: str) -> None:
    book = Book()
    book.created(0, "s1")
    getattr(book, kind)(IDLE_S, "s1", user="ann")
    book.advance(2 * IDLE_S)
    assert book.judged().ends["expired"] == 0
    book.advance(2 * IDLE_S + MICROSECOND_S)
    assert book.committed().ends["expired"] == 1


def test_a_later_event_revives_an_expired_session() -> None:
    book = Book()
    book.created(0, "s1")
    book.advance(2 * IDLE_S)
    book.reused(2 * IDLE_S, "s1")
    totals = book.judged()
    assert (totals.creates, totals.reuses, totals.adopted) == (1, 1, 0)
    assert (totals.active_sessions, totals.active_users, totals.ends["expired"]) == (1, 1, 1)
    book.advance(4 * IDLE_S)
    assert book.committed().ends["expired"] == 2


def test_an_expired_session_leaves_the_ledger_with_its_user() -> None:
    book = Book()
    book.created(0, "s1")
    book.advance(IDLE_S + 1)
    book.commit()
    people = book.ledger.judges["chat"].people
    assert (people.sessions, people.owners, book.ledger.totals.tracked_sessions) == ({}, {}, 0)


def test_an_ended_session_leaves_the_ledger_and_does_not_expire_as_well() -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(60, "s1")
    book.advance(2 * IDLE_S)
    assert book.ends() == {"completed": 1}
    assert book.ledger.judges["chat"].people.sessions == {}


def test_the_duration_of_an_expired_session_ends_with_its_last_activity() -> None:
    book = Book()
    book.created(0, "s1")
    book.reused(120, "s1")
    book.advance(2 * IDLE_S)
    assert book.committed().durations.sum_s == 120.0


def test_each_scope_has_its_own_timeout() -> None:
    book = Book(scopes={"job": ScopeRules("job", idle_timeout_us=60 * SECOND)})
    book.created(0, "s1")
    book.created(0, "s1", scope="job")
    book.advance(61)
    book.commit()
    assert book.ledger.totals.scopes["job"].ends["expired"] == 1
    assert book.ledger.totals.scopes["chat"].ends["expired"] == 0


def test_the_least_recent_sessions_are_evicted_and_counted_when_there_are_too_many() -> None:
    book = Book(limits=Limits(max_tracked_sessions=3))
    for number in range(5):
        book.created(number * 20, f"s{number}", f"user{number}")
    book.advance(90)
    book.reused(91, "s0")
    book.advance(92)
    book.created(200, "s5", "user5")
    book.judged()
    people = book.ledger.judges["chat"].people
    book.commit()
    assert {session.id for session in people.sessions.values()} == {b"s4", b"s5", b"s0"}
    assert book.ledger.totals.evicted_sessions == 4  # s0 left as well, and came back
    assert book.ledger.totals.tracked_sessions == 3
    assert (people.totals.active_sessions, people.totals.active_users) == (3, 3)


def test_the_least_recent_over_all_scopes_are_evicted() -> None:
    book = Book(limits=Limits(max_tracked_sessions=2))
    book.created(0, "old", scope="default")
    book.created(300, "young")
    book.created(600, "younger", scope="default")
    book.judged()
    book.reused(601, "younger", scope="default")
    held = {session.id for judge in book.ledger.judges.values() for session in judge.people.sessions.values()}
    assert held == {b"young", b"younger"}


def test_an_eviction_is_no_end() -> None:
    book = Book(limits=Limits(max_tracked_sessions=1))
    book.created(0, "s1")
    book.created(300, "s2", "bob")
    book.judged()
    book.reused(301, "s2", "bob")
    assert book.ends() == {}
    assert book.ledger.totals.evicted_sessions == 1


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("gone", ["evicted", "expired"])
def test_a_session_that_left_the_ledger_and_comes_back_is_known(*, gone: str, committed: bool) -> None:
    book = Book(limits=Limits(max_tracked_sessions=1 if gone == "evicted" else 10))
    back_s = 400 if gone == "evicted" else 2 * IDLE_S
    book.created(0, "s1")
    if gone == "evicted":
        book.created(300, "s2", "bob")
        book.judged()
        book.reused(301, "s2", "bob")
    book.advance(back_s)
    assert b"s1" not in book.ledger.judges["chat"].people.sessions
    if committed:
        book.commit()
    book.observed(back_s, "s1")
    book.looked_up(back_s + 1, "s1")
    totals = book.judged()
    assert (totals.creates, totals.adopted) == (2 if gone == "evicted" else 1, 0)
    assert totals.reuses - (gone == "evicted") == 2


def test_the_create_of_an_evicted_session_does_not_count_again() -> None:
    book = Book(limits=Limits(max_tracked_sessions=1))
    book.created(0, "s1")
    book.created(300, "s2", "bob")
    book.judged()
    book.reused(301, "s2", "bob")
    book.commit()
    book.created(400, "s1")
    assert book.judged().creates == 2


def test_a_create_of_an_expired_session_is_a_new_generation() -> None:
    book = Book()
    book.created(0, "s1")
    book.advance(2 * IDLE_S)
    book.commit()
    book.created(2 * IDLE_S, "s1")
    assert book.judged().creates == 2


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[int, str, int]]:
    """(time, "touch" or "look", number of a session), in order of time."""
    steps = draw(
        st.lists(st.tuples(st.integers(0, 500), st.sampled_from(["touch", "touch", "look"]), st.integers(0, 5)))
    )
    return sorted(steps, key=lambda step: step[0])


@given(lives(), st.integers(1, 200))
def test_exactly_the_sessions_idle_for_longer_than_the_timeout_are_due(
    steps: list[tuple[int, str, int]], timeout_us: int
) -> None:
    queue, held = IdleQueue(timeout_us), {}
    for now_us, step, number in steps:
        if step == "touch":
            session = held.get(number)
            if session is None:
                session = held[number] = Session(b"%d" % number, last_us=now_us)
                queue.add(session)
            session.last_us = now_us
            continue
        due = list(queue.due(now_us))
        assert [each.last_us for each in due] == sorted(each.last_us for each in due)
        idle = {number for number, session in held.items() if now_us - session.last_us > timeout_us}
        assert {int(each.id) for each in due} == idle
        for gone in idle:
            del held[gone]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 100_000)), min_size=1), st.integers(1, 50_000))
def test_the_least_recent_leaves_first(touches: list[tuple[int, int]], timeout_us: int) -> None:
    queue, held = IdleQueue(timeout_us), {}
    for number, last_us in touches:
        if number not in held:
            held[number] = Session(b"%d" % number, last_us=last_us)
            queue.add(held[number])
        held[number].last_us = max(held[number].last_us, last_us)
    oldest_us = min(session.last_us for session in held.values())
    bound_us = queue.oldest_us()
    assert bound_us is not None
    assert bound_us <= oldest_us
    order = []
    while (session := queue.least_recent()) is not None:
        order.append(session.last_us)
    assert order == sorted(session.last_us for session in held.values())
    assert queue.oldest_us() is None


def test_times_of_the_ledger_are_microseconds_since_the_epoch() -> None:
    book = Book()
    book.created(0, "s1")
    book.judged()
    (session,) = book.ledger.judges["chat"].people.sessions.values()
    assert session.last_us == at(0)
