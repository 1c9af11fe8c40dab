"""Whether a session that was seen came into existence just then."""

import pytest
from ledgers import LATENESS_S, WINDOW_S, Book

from session_exporter.core.events import RESULT, ROW, UPSERT


def counted(book: Book) -> tuple[int, int, int]:
    totals = book.judged()
    return totals.creates, totals.adopted, totals.reuses


def test_a_young_result_right_after_a_deletion_is_a_rewrite() -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(60, "s1", "deleted")
    book.observed(60.5, "s1", age_s=0.2)
    assert counted(book) == (1, 0, 0)
    assert (book.ends(), book.judged().active_sessions) == ({}, 1)


def test_a_young_result_that_is_older_than_the_deletion_is_what_was_deleted() -> None:
    book = Book()
    book.created(59, "s1")
    book.ended(60, "s1", "deleted")
    book.observed(60.5, "s1", age_s=1.5)
    assert (counted(book), book.ends()) == ((1, 0, 1), {"deleted": 1})


def test_a_young_result_later_after_a_deletion_is_a_create() -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(60, "s1", "deleted")
    book.observed(60 + LATENESS_S + 1, "s1", age_s=0.5)
    assert (counted(book), book.ends()) == ((2, 0, 0), {"deleted": 1})


def test_a_result_that_was_created_before_the_session_ended_is_a_reuse() -> None:
    book = Book()
    book.reused(0, "s1")
    book.ended(5, "s1")
    book.observed(6, "s1", age_s=3)
    assert counted(book) == (0, 0, 2)


@pytest.mark.parametrize("reason", ["completed", "deleted", "user_request"])
@pytest.mark.parametrize("use_arrives_first", [False, True])
def test_a_session_that_has_ended_is_no_current_one_even_if_it_is_looked_at_again(
    reason: str, *, use_arrives_first: bool
) -> None:
    book = Book()
    book.created(0, "s1")
    book.advance(5)
    if use_arrives_first:
        book.looked_up(30.5, "s1")
    book.ended(30, "s1", reason)
    if not use_arrives_first:
        book.looked_up(30.5, "s1")
    book.observed(31, "s2")
    assert counted(book) == (1, 1, 1)
    assert book.judged().active_sessions == 1


def test_an_adopted_session_of_unknown_user_stands_where_its_user_becomes_known() -> None:
    book = Book()
    book.observed(0, "s1", user="", sites=("app.py:1:find",))
    book.attributed(20, "s1", "ann")
    book.created(20 + WINDOW_S - 1, "s2")
    assert book.duplicates() == {"same_worker": 1}
    first, second = book.incident().detail["creates"]
    assert (first["adopted"], first["call_sites"], second["adopted"]) == (True, ["app.py:1:find"], False)


@pytest.mark.parametrize("origin", [UPSERT, ROW])
def test_a_statement_that_writes_a_session_that_only_expired_goes_on_with_it(origin: int) -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(10, "s1", "expired")
    book.observed(60, "s1", origin=origin)
    assert counted(book) == (1, 0, int(origin == UPSERT))


@pytest.mark.parametrize("origin", [UPSERT, ROW])
def test_a_statement_that_writes_another_generation_makes_another_session(origin: int) -> None:
    book = Book()
    book.created(0, "s1", generation="task-1")
    book.observed(60, "s1", origin=origin, generation="task-2")
    assert counted(book) == (2, 0, 0)


def test_a_result_does_not_say_which_generation_it_is_of() -> None:
    book = Book()
    book.created(0, "s1", generation="task-1")
    book.observed(60, "s1", origin=RESULT)
    assert counted(book) == (1, 0, 1)
