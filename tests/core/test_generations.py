"""What counts as a create, an adoption or an end of one session id, whoever reports it how often."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import IDLE_S, LATENESS_S, NEIGHBOUR, WINDOW_S, Book, at

from session_exporter.core.generations import END, MARKS_MAX, Mark, add_create, add_end
from session_exporter.core.scopes import END_REASONS


def test_a_create_that_two_hooks_report_counts_once() -> None:
    book = Book()
    book.created(0, "s1")
    book.created(0.003, "s1", writer=NEIGHBOUR)
    assert book.judged().creates == 1
    assert book.duplicates() == {}


def test_a_create_that_is_reported_again_much_later_counts_once() -> None:
    book = Book()
    book.created(0, "s1")
    book.advance(600)
    book.created(600, "s1")
    assert book.judged().creates == 1


def test_an_id_that_ended_and_is_created_again_counts_twice() -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(20, "s1")
    book.created(40, "s1")
    totals = book.judged()
    assert (totals.creates, totals.ends["completed"]) == (2, 1)
    assert totals.active_sessions == 1


def test_a_session_created_again_soon_after_its_end_is_a_rapid_duplicate() -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(3, "s1")
    book.created(6, "s1")
    assert book.duplicates() == {"same_worker": 1}


def test_the_same_id_in_two_scopes_is_two_sessions() -> None:
    book = Book()
    book.created(0, "s1")
    book.created(0, "s1", scope="default")
    assert book.judged().creates == 1
    assert book.ledger.totals.scopes["default"].creates == 1


@pytest.mark.parametrize(("age_s", "creates"), [(0.001, 1), (WINDOW_S - 0.000001, 1), (WINDOW_S, 0), (3600, 0)])
def test_a_sighting_is_a_create_when_its_result_is_younger_than_the_window(age_s: float, creates: int) -> None:
    book = Book()
    book.observed(0, "s1", age_s=age_s)
    totals = book.judged()
    assert (totals.creates, totals.adopted, totals.reuses) == (creates, 1 - creates, 0)


def test_a_sighting_of_a_young_session_that_was_created_already_is_a_reuse() -> None:
    book = Book()
    book.created(0, "s1", request="r1")
    book.observed(3, "s1", age_s=3, request="r2")
    totals = book.judged()
    assert (totals.creates, totals.adopted, totals.reuses) == (1, 0, 1)


def test_the_sighting_of_a_session_by_the_request_that_created_it_is_neither_create_nor_reuse() -> None:
    book = Book()
    book.created(0, "s1", request="r1")
    book.observed(0.01, "s1", age_s=0.01, request="r1")
    totals = book.judged()
    assert (totals.creates, totals.adopted, totals.reuses) == (1, 0, 0)


def test_the_sighting_of_an_unknown_session_is_an_adoption() -> None:
    book = Book()
    book.observed(0, "s1")
    totals = book.judged()
    assert (totals.creates, totals.adopted, totals.reuses, totals.lookups) == (0, 1, 0, 1)
    assert totals.active_sessions == 1


def test_the_second_sighting_of_an_adopted_session_is_a_reuse() -> None:
    book = Book()
    book.observed(0, "s1")
    book.observed(5, "s1")
    totals = book.judged()
    assert (totals.adopted, totals.reuses) == (1, 1)


def test_an_unknown_session_of_a_user_who_has_another_one_was_created() -> None:
    book = Book(sessions_per_user="one")
    book.observed(0, "s1")
    book.observed(60, "s2")
    totals = book.judged()
    assert (totals.adopted, totals.creates, totals.duplicate_creates) == (1, 1, 0)


def test_an_unknown_session_of_a_user_who_has_another_one_is_adopted_where_many_are_allowed() -> None:
    book = Book(sessions_per_user="many")
    book.observed(0, "s1")
    book.observed(60, "s2")
    totals = book.judged()
    assert (totals.adopted, totals.creates) == (2, 0)


@pytest.mark.parametrize("gone", ["ended", "expired", "of another key", "of another user"])
def test_an_unknown_session_is_adopted_when_its_user_has_no_other_one_now(gone: str) -> None:
    book = Book(sessions_per_user="one")
    user, key = ("bob" if gone == "of another user" else "ann"), ("phone" if gone == "of another key" else "")
    book.created(0, "s1", user, key=key)
    if gone == "ended":
        book.ended(30, "s1")
    book.observed(IDLE_S + 1 if gone == "expired" else 60, "s2")
    totals = book.judged()
    assert (totals.adopted, totals.creates) == (1, 1)


def test_an_unknown_session_is_adopted_when_its_user_has_just_deleted_the_other_one() -> None:
    book = Book(sessions_per_user="one")
    book.created(0, "s1")
    book.ended(30, "s1", "deleted")
    book.observed(30 + LATENESS_S / 2, "s2")
    totals = book.judged()
    assert (totals.adopted, totals.creates, totals.ends["deleted"]) == (1, 1, 1)


def test_a_sighting_that_a_create_explains_in_time_is_a_create_and_no_adoption() -> None:
    book = Book()
    book.observed(0, "s1")
    book.created(LATENESS_S - 0.5, "s1", writer=NEIGHBOUR)
    totals = book.judged()
    assert (totals.creates, totals.adopted, totals.reuses) == (1, 0, 0)


def test_a_sighting_stands_where_it_was_when_a_create_explains_it() -> None:
    book = Book()
    book.created(0, "s1", request="r1")
    book.ended(0.5, "s1")
    book.observed(9.5, "s2", request="r2")
    book.created(10.5, "s2", request="r2")
    totals = book.judged()
    assert (totals.creates, totals.adopted) == (2, 0)
    assert book.duplicates() == {"same_worker": 1}


@pytest.mark.parametrize("gap_s", [0.001, 1, LATENESS_S])
def test_a_deletion_and_an_insert_of_one_id_within_the_lateness_is_neither_end_nor_create(gap_s: float) -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(100, "s1", "deleted")
    book.created(100 + gap_s, "s1")
    totals = book.judged()
    assert (totals.creates, totals.ends["deleted"], totals.duplicate_creates) == (1, 0, 0)
    assert totals.active_sessions == 1


def test_a_deletion_and_an_insert_of_one_transaction_have_one_time_and_are_neither_end_nor_create() -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(100, "s1", "deleted")
    book.created(100, "s1")
    totals = book.judged()
    assert (totals.creates, totals.ends["deleted"]) == (1, 0)
    assert totals.active_sessions == 1


def test_a_deletion_and_an_insert_further_apart_than_the_lateness_are_an_end_and_a_create() -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(100, "s1", "deleted")
    book.created(100 + LATENESS_S + 0.000001, "s1")
    totals = book.judged()
    assert (totals.creates, totals.ends["deleted"]) == (2, 1)


def test_only_a_deletion_can_turn_out_to_be_a_rewrite() -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(100, "s1", "completed")
    book.created(101, "s1")
    totals = book.judged()
    assert (totals.creates, totals.ends["completed"]) == (2, 1)


def test_the_window_of_a_create_whose_user_becomes_known_late_runs_at_the_later_of_both() -> None:
    book = Book()
    book.created(0, "s1", "")
    book.attributed(9, "s1", "ann")
    book.created(12, "s2", "ann")
    assert book.duplicates() == {"same_worker": 1}

    book = Book()
    book.created(0, "s1", "")
    book.created(3, "s2", "ann")
    book.attributed(3 + WINDOW_S, "s1", "ann")
    assert book.duplicates() == {}


def test_a_create_whose_user_becomes_known_late_is_a_duplicate_with_its_own_evidence() -> None:
    book = Book()
    book.created(0, "s1", "ann", request="r1")
    book.created(1, "s2", "", request="r1", sites=("app.py:1:make",))
    book.attributed(2, "s2", "ann", request="r2")
    assert book.duplicates() == {"same_request": 1}
    assert book.incident().detail["creates"][-1]["call_sites"] == ["app.py:1:make"]


def test_a_session_that_has_a_user_keeps_it() -> None:
    book = Book()
    book.created(0, "s1", "ann")
    book.attributed(1, "s1", "bob")
    book.created(2, "s2", "bob")
    assert book.duplicates() == {}
    assert book.judged().active_users == 2


@pytest.mark.parametrize("reason", END_REASONS)
def test_each_declared_reason_counts_as_itself(reason: str) -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(60, "s1", reason)
    assert book.ends() == {reason: 1}


@pytest.mark.parametrize("reason", ["", "logout", "Completed", "x" * 200])
def test_a_reason_outside_of_the_set_counts_as_other(reason: str) -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(60, "s1", reason)
    assert book.ends() == {"other": 1}


def test_an_end_counts_once_per_generation() -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(60, "s1", "completed")
    book.ended(61, "s1", "user_request")
    book.ended(400, "s1", "deleted")
    assert book.ends() == {"completed": 1}
    book.created(500, "s1")
    book.ended(600, "s1", "user_request")
    assert book.ends() == {"completed": 1, "user_request": 1}


def test_the_end_of_a_session_that_was_never_seen_counts() -> None:
    book = Book()
    book.ended(0, "s1")
    totals = book.judged()
    assert totals.ends["completed"] == 1
    assert (totals.creates, totals.active_sessions) == (0, 0)


def test_the_duration_of_a_generation_is_observed_once() -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(60, "s1")
    book.ended(90, "s1")
    durations = book.judged().durations
    assert (sum(durations.counts), durations.sum_s) == (1, 60.0)


def test_the_interval_between_two_creates_of_a_user_is_observed() -> None:
    book = Book()
    book.created(0, "s1")
    book.created(25, "s2")
    intervals = book.judged().intervals
    assert (sum(intervals.counts), intervals.sum_s) == (1, 25.0)


def test_an_id_that_is_created_anew_all_the_time_is_remembered_in_bounded_space_and_counted_exactly() -> None:
    book = Book()
    for turn in range(2 * MARKS_MAX):
        book.created(turn * 60, "s1")
        book.ended(turn * 60 + 30, "s1")
    totals = book.judged()
    assert (totals.creates, totals.ends["completed"]) == (2 * MARKS_MAX, 2 * MARKS_MAX)
    (session,) = book.ledger.judges["chat"].people.sessions.values()
    assert len(session.marks or ()) <= MARKS_MAX


turns = st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=30, unique_by=lambda turn: turn[0])


def counted_in(history: list[tuple[int, bool]]) -> tuple[int, int]:
    """Creates and ends of a complete history: of each run of the same kind one."""
    kinds = [is_create for _, is_create in sorted(history)]
    firsts = [kind for index, kind in enumerate(kinds) if index == 0 or kinds[index - 1] != kind]
    return firsts.count(True), firsts.count(False)


@given(turns, st.data())
def test_creates_and_ends_of_an_id_do_not_depend_on_the_order_of_arrival(
    history: list[tuple[int, bool]], data: st.DataObject
) -> None:
    marks: list[Mark] = []
    arrived: list[tuple[int, bool]] = []
    creates = ends = 0
    for at_s, is_create in data.draw(st.permutations(history)):
        added = add_create(marks, at(at_s)) if is_create else add_end(marks, at(at_s), 0)
        creates += len(added.births)
        ends += len(added.ends)
        arrived.append((at_s, is_create))
        assert (creates, ends) == counted_in(arrived)
        assert marks == sorted(marks)
    assert all(kind < END + len(END_REASONS) for _, kind, _ in marks)
