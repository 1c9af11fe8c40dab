"""Logins and the like: a session is found, another is made, and the first is ended."""

from typing import Any

import pytest
from ledgers import LATENESS_S, NEIGHBOUR, SECOND, WINDOW_S, Book, nonzero

from session_exporter.core.scopes import END_REASONS

MICROSECOND_S = 0.000001


def rotation(book: Book) -> tuple[int, int, dict[str, int], dict[str, int]]:
    totals = book.judged()
    return totals.creates, totals.rotations, nonzero(totals.duplicates), nonzero(totals.losses)


def login(book: Book, at_s: float, ended_after_s: float | None, reason: str = "deleted", **more: Any) -> None:
    """A request finds its session, makes another, and ends the first."""
    book.looked_up(at_s - 0.1, "s1", request="login")
    book.created(at_s, "s2", request="login", expected="s1", **more)
    if ended_after_s is not None:
        book.ended(at_s + ended_after_s, "s1", reason, request="login")


@pytest.mark.parametrize("ended_after_s", [-MICROSECOND_S, 0, 0.05, LATENESS_S])
@pytest.mark.parametrize("reason", sorted({*END_REASONS} - {"expired"}))
def test_a_login_that_makes_a_session_and_ends_the_one_it_had_found_is_a_rotation(
    ended_after_s: float, reason: str
) -> None:
    for since_create_s in (60, 1):  # within the window as well
        book = Book()
        book.created(60 - since_create_s, "s1")
        login(book, 60, ended_after_s, reason)
        assert rotation(book) == (2, 1, {}, {})


def test_a_rotation_is_counted_when_it_is_certain() -> None:
    book = Book()
    book.created(0, "s1")
    login(book, 60, 0.05, "completed")
    book.advance(60 + LATENESS_S)
    assert book.committed().rotations == 0
    book.advance(60 + LATENESS_S + MICROSECOND_S)
    assert (book.committed().creates, book.committed().rotations) == (2, 1)


@pytest.mark.parametrize("ended_after_s", [None, LATENESS_S + MICROSECOND_S])
def test_a_create_beside_the_session_that_was_found_is_no_rotation(ended_after_s: float | None) -> None:
    book = Book()
    book.created(0, "s1")
    login(book, 60, ended_after_s)
    assert rotation(book) == (2, 0, {}, {"replaced": 1})


def test_a_create_within_the_window_after_the_session_that_was_found_is_a_duplicate_unless_that_ends() -> None:
    book = Book()
    book.created(59, "s1")
    login(book, 60, None)
    assert rotation(book) == (2, 0, {"same_worker": 1}, {})


def test_a_session_that_was_found_and_had_expired_is_not_rotated() -> None:
    book = Book()
    book.created(0, "s1")
    login(book, 60, 0.05, "expired")
    assert rotation(book) == (2, 0, {}, {})


def test_an_expected_session_that_was_deleted_and_made_again_is_not_rotated() -> None:
    book = Book()
    book.created(0, "s1")
    login(book, 60, -0.01)
    book.created(60.5, "s1")
    assert rotation(book) == (2, 0, {}, {"replaced": 1})


@pytest.mark.parametrize(
    ("ended_before_s", "rotations"),
    [(MICROSECOND_S, 1), (5, 1), (WINDOW_S, 0), (-0.05, 1), (-LATENESS_S, 1), (-LATENESS_S - MICROSECOND_S, 0)],
)
def test_a_create_around_the_end_of_the_last_session_as_rotated_is_a_rotation(
    ended_before_s: float, rotations: int
) -> None:
    book = Book()
    book.created(0, "s1")
    book.created(60, "s2")
    book.ended(60 - ended_before_s, "s1", "rotated")
    assert rotation(book) == (2, rotations, {}, {} if rotations else {"replaced": 1})


def test_a_rotation_within_the_window_that_only_its_reason_tells_is_no_duplicate_when_the_end_came_first() -> None:
    book = Book()
    book.created(55, "s1")
    book.ended(59.9, "s1", "rotated")
    book.created(60, "s2")
    assert rotation(book) == (2, 1, {}, {})


def test_a_create_soon_after_a_rotation_is_a_duplicate_of_it() -> None:
    book = Book()
    book.created(0, "s1")
    login(book, 60, 0.05)
    book.created(61, "s3", writer=NEIGHBOUR)
    assert rotation(book) == (3, 1, {"cross_worker": 1}, {})


def test_a_create_while_it_is_not_certain_yet_whether_the_one_before_is_a_rotation_is_a_duplicate_of_it() -> None:
    for ended_after_s, rotations, lost in ((1.5, 1, {}), (None, 0, {"replaced": 1})):
        book = Book()
        book.created(0, "s1")
        login(book, 60, ended_after_s)
        book.created(60.5, "s3", writer=NEIGHBOUR)
        assert rotation(book) == (3, rotations, {"cross_worker": 1}, lost)


def test_two_requests_that_rotate_one_session_are_two_rotations() -> None:
    book = Book()
    book.created(0, "s1")
    login(book, 60, 0.2)
    book.created(60.1, "s3", request="other", expected="s1")
    assert rotation(book) == (3, 2, {}, {})


def test_a_session_is_rotated_where_a_user_may_have_many_as_well() -> None:
    book = Book(sessions_per_user="many")
    book.created(59, "s1", request="login")
    login(book, 60, 0.05)
    assert rotation(book) == (2, 1, {}, {})


@pytest.mark.parametrize(("known_after_s", "ended_after_s"), [(1, 0.05), (1, 1.5), (30, 1.5), (None, 0.05)])
def test_the_session_of_a_visitor_is_rotated_at_the_login_that_tells_who_it_is(
    known_after_s: float | None, ended_after_s: float
) -> None:
    book = Book()
    book.created(50, "s1", "")
    login(book, 60, ended_after_s, user="")
    if known_after_s is not None:
        book.attributed(60 + known_after_s, "s2", "ann")
        book.created(62 + known_after_s, "s3", "ann")
    creates, rotations, duplicates, lost = rotation(book)
    assert (rotations, lost) == (1, {})
    assert (creates, sum(duplicates.values())) == ((2, 0) if known_after_s is None else (3, 1))


def test_a_create_whose_user_becomes_known_before_it_is_certain_that_it_is_no_rotation_is_judged_as_any_other() -> None:
    book = Book()
    book.created(0, "s1")
    login(book, 60, None, user="")
    book.attributed(61, "s2", "ann")
    assert rotation(book) == (2, 0, {}, {"replaced": 1})


def test_a_young_result_that_took_the_place_of_an_expected_session_is_a_rotation() -> None:
    book = Book()
    book.created(55, "s1")
    book.looked_up(59.9, "s1", request="login")
    book.observed(60, "s2", age_s=0.01, request="login", expected="s1")
    book.ended(60.1, "s1", "deleted", request="login")
    assert rotation(book) == (2, 1, {}, {})


def test_a_sighting_that_its_create_explains_can_be_a_rotation() -> None:
    book = Book()
    book.created(55, "s1")
    book.ended(59.9, "s1", "deleted", request="login")
    book.observed(60, "s2", request="login", expected="s1")
    book.created(60.2, "s2", request="login", expected="s1")
    totals = book.judged()
    assert (totals.adopted, *rotation(book)) == (0, 2, 1, {}, {})


def test_a_session_that_is_created_anew_under_its_own_id_is_expected_of_nobody() -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(30, "s1", "completed")
    book.created(60, "s1", expected="s1")
    assert rotation(book) == (2, 0, {}, {})


def test_the_evidence_of_a_rotation_is_at_hand_when_the_next_create_comes_too_close() -> None:
    book = Book(duplicate_window_us=20 * SECOND)
    book.created(0, "s1")
    login(book, 60, 0.05, sites=("auth.py:7:login",))
    book.created(75, "s3")
    told = book.incident().detail["creates"]
    assert [each["call_sites"] for each in told] == [["auth.py:7:login"], []]
