"""The sliding window: which creates come too close to another of their user, and why."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import NEIGHBOUR, REMOTE, SECOND, WINDOW_S, WORKER, Book, at

from session_exporter.core.duplicates import ANCHORS_MAX, anchors_of, forget_evidence, place, upgrade
from session_exporter.core.events import Writer
from session_exporter.core.records import Anchor, Evidence, Owner
from session_exporter.core.scopes import ScopeRules

RULES = ScopeRules()
MANY = ScopeRules(sessions_per_user="many")


def created_at(*times_s: float, **rules: Any) -> Book:
    book = Book(**rules)
    for number, at_s in enumerate(times_s):
        book.created(at_s, f"s{number}")
    return book


@pytest.mark.parametrize(("gap_s", "duplicates"), [(0, 1), (9.999999, 1), (10, 0), (10.000001, 0)])
def test_a_create_is_a_duplicate_when_it_comes_strictly_less_than_the_window_after_another(
    gap_s: float, duplicates: int
) -> None:
    assert created_at(0, gap_s).judged().duplicate_creates == duplicates


def test_three_creates_inside_the_window_are_two_duplicates() -> None:
    assert created_at(0, 0.4, 0.9).judged().duplicate_creates == 2


def test_pairs_chain_beyond_the_window() -> None:
    assert created_at(0, 6, 12).judged().duplicate_creates == 2


def test_the_window_is_that_of_the_scope() -> None:
    assert created_at(0, 3, duplicate_window_us=2 * SECOND).judged().duplicate_creates == 0
    assert created_at(0, 3, duplicate_window_us=4 * SECOND).judged().duplicate_creates == 1


def test_creates_of_two_users_are_no_duplicates() -> None:
    book = Book()
    book.created(0, "s1", "ann")
    book.created(1, "s2", "bob")
    assert book.duplicates() == {}


def test_creates_without_a_user_are_no_duplicates() -> None:
    book = Book()
    book.created(0, "s1", "")
    book.created(1, "s2", "")
    assert book.judged().creates == 2
    assert book.duplicates() == {}


def test_keys_have_timelines_of_their_own() -> None:
    book = Book()
    book.created(0, "s1", key="phone")
    book.created(1, "s2", key="laptop")
    book.created(2, "s3")
    assert book.duplicates() == {}
    book.created(3, "s4", key="phone")
    assert book.duplicates() == {"same_worker": 1}


def test_the_same_user_in_two_scopes_has_two_timelines() -> None:
    book = Book(scopes={"thread": ScopeRules("thread")})
    book.created(0, "s1")
    book.created(1, "s2", scope="thread")
    assert book.duplicates() == {}
    assert book.ledger.totals.scopes["thread"].duplicate_creates == 0


@pytest.mark.parametrize(
    ("late_s", "following_s", "added"),
    [
        (5, 8, 1),  # [P,X] + [X,N] - [P,N] = 1 + 1 - 1
        (8, 16, 2),  # 1 + 1 - 0
        (8, 30, 1),  # 1 + 0 - 0
        (25, 30, 1),  # 0 + 1 - 0
        (15, 30, 0),
    ],
)
def test_a_late_create_adds_what_it_changes_between_its_neighbours(
    late_s: float, following_s: float, added: int
) -> None:
    book = created_at(0, following_s)
    before = book.judged().duplicate_creates
    book.advance(60)
    book.created(late_s, "late")
    assert book.judged().duplicate_creates - before == added
    assert book.ledger.totals.late_events == 1


def test_an_adoption_anchors_the_window_and_is_no_duplicate_itself() -> None:
    book = Book(sessions_per_user="one")
    book.observed(0, "s1")
    book.created(4, "s2")
    totals = book.judged()
    assert (totals.adopted, totals.creates, totals.duplicate_creates) == (1, 1, 1)

    book = Book(sessions_per_user="many")  # where an unknown session of a user with another is adopted
    book.created(0, "s1", request="r")
    book.observed(4, "s2", request="r")
    totals = book.judged()
    assert (totals.adopted, totals.creates, totals.duplicate_creates) == (1, 1, 0)


def test_many_sessions_per_user_make_duplicates_of_one_request_only() -> None:
    book = Book(sessions_per_user="many")
    book.created(0, "s1", request="r1")
    book.created(1, "s2", request="r2")
    book.created(2, "s3")
    book.created(3, "s4")
    assert book.duplicates() == {}
    book.created(4, "s5", request="r1")
    assert book.duplicates() == {"same_request": 1}


def test_many_sessions_per_user_keep_the_window_too() -> None:
    book = Book(sessions_per_user="many")
    book.created(0, "s1", request="r1")
    book.created(WINDOW_S, "s2", request="r1")
    assert book.duplicates() == {}


@pytest.mark.parametrize(
    ("writer", "request_id", "cause"),
    [
        (WORKER, "r1", "same_request"),
        (NEIGHBOUR, "r1", "same_request"),
        (WORKER, "r2", "same_worker"),
        (WORKER, "", "same_worker"),
        (NEIGHBOUR, "r2", "cross_worker"),
        (REMOTE, "r2", "cross_replica"),
        (REMOTE, "", "cross_replica"),
    ],
)
def test_the_cause_is_the_first_that_holds(writer: Writer, request_id: str, cause: str) -> None:
    book = Book()
    book.created(0, "s1", request="r1")
    book.created(1, "s2", request=request_id, writer=writer)
    assert book.duplicates() == {cause: 1}


def test_each_pair_has_a_cause_of_its_own_over_two_replicas() -> None:
    book = Book()
    book.created(0, "s1", writer=WORKER)
    book.created(1, "s2", writer=REMOTE)
    book.created(2, "s3", writer=REMOTE)
    book.created(3, "s4", writer=NEIGHBOUR)
    assert book.duplicates() == {"cross_replica": 2, "same_worker": 1}


def test_ties_of_time_are_ordered_by_session_id() -> None:
    for first, second in [("a", "b"), ("b", "a")]:
        book = Book()
        book.created(0, first)
        book.created(0, second, writer=NEIGHBOUR)
        assert book.duplicates() == {"cross_worker": 1}
        assert book.incident().detail["sessions"] == ["a", "b"]


def test_totals_stay_exact_when_the_evidence_of_old_creates_is_forgotten() -> None:
    book = created_at(0, 12, 20)
    book.advance(600)
    (owner,) = book.ledger.judges["chat"].people.owners.values()
    assert all(anchor.evidence is None for anchor in anchors_of(owner))
    book.created(6, "late")  # [0,6] + [6,12] - 0
    assert book.judged().duplicate_creates == 1 + 2


def test_evidence_is_kept_for_a_create_that_is_late_by_less_than_the_lateness() -> None:
    book = created_at(0)
    book.advance(WINDOW_S + 1.9)
    book.created(9.9, "s2", writer=REMOTE)
    assert book.duplicates() == {"cross_replica": 1}


def test_a_pair_whose_evidence_is_gone_counts_as_cross_worker() -> None:
    book = created_at(0)
    book.advance(600)
    book.created(1, "late")
    assert book.duplicates() == {"cross_worker": 1}


def test_a_user_who_creates_all_the_time_is_remembered_in_bounded_space_and_counted_exactly() -> None:
    book = created_at(*range(3 * ANCHORS_MAX))
    assert book.judged().duplicate_creates == 3 * ANCHORS_MAX - 1
    (owner,) = book.ledger.judges["chat"].people.owners.values()
    assert len(anchors_of(owner)) <= ANCHORS_MAX


def test_a_single_create_rests_without_a_list_of_anchors() -> None:
    owner = Owner(b"ann", b"ann")
    place(owner, Anchor(at(0), b"s1", evidence=Evidence(worker="w")), RULES)
    forget_evidence(owner, at(0) + 1, RULES)
    assert owner.anchors is None
    assert anchors_of(owner) == (Anchor(at(0), b"s1"),)


def test_many_sessions_per_user_remember_requests_when_the_evidence_is_gone() -> None:
    owner = Owner(b"ann", b"ann")
    place(owner, Anchor(at(0), b"s1", request=b"r1", evidence=Evidence(request=b"r1")), MANY)
    forget_evidence(owner, at(600), MANY)
    late = Anchor(at(1), b"s2", request=b"r1", evidence=Evidence(request=b"r1"))
    assert len(place(owner, late, MANY).duplicates) == 1


def test_an_adoption_that_becomes_a_create_is_a_duplicate_of_what_was_before_it() -> None:
    owner = Owner(b"ann", b"ann")
    place(owner, Anchor(at(0), b"s1"), RULES)
    assert place(owner, Anchor(at(5), b"s2", is_create=False), RULES).duplicates == []
    assert len(place(owner, Anchor(at(9), b"s3"), RULES).duplicates) == 1
    upgraded = upgrade(owner, at(5), Anchor(at(6), b"s2"), RULES)
    assert [(each.previous.session, each.create.session) for each in upgraded.duplicates] == [(b"s1", b"s2")]


anchors = st.lists(
    st.builds(
        Anchor,
        at_us=st.integers(0, 60).map(at),
        session=st.integers(0, 10_000).map(lambda number: b"%d" % number),
        is_create=st.sampled_from([True, True, False]),
        request=st.sampled_from([b"", b"r1", b"r2"]),
    ),
    max_size=20,
    unique_by=lambda anchor: anchor.session,
)


def found_in(timeline: list[Anchor], rules: ScopeRules) -> int:
    """The duplicates of a complete timeline, looked for in the plainest way."""
    ordered = sorted(timeline, key=lambda each: (each.at_us, each.session))
    found = 0
    for index, anchor in enumerate(ordered):
        before = ordered[:index]
        if rules.sessions_per_user == "many":
            before = [each for each in before if anchor.request and each.request == anchor.request]
        found += bool(before) and anchor.is_create and anchor.at_us - before[-1].at_us < rules.duplicate_window_us
    return found


@given(anchors, st.sampled_from([RULES, MANY]), st.data())
def test_the_number_of_duplicates_does_not_depend_on_the_order_of_arrival(
    timeline: list[Anchor], rules: ScopeRules, data: st.DataObject
) -> None:
    owner, arrived, counted = Owner(b"ann", b"ann"), [], 0
    for anchor in data.draw(st.permutations(timeline)):
        placed = place(owner, anchor, rules)
        arrived.append(anchor)
        counted += len(placed.duplicates)
        assert counted == found_in(arrived, rules)
        if data.draw(st.booleans()):
            forget_evidence(owner, at(600), rules)
