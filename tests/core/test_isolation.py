"""One session that is used by several users."""

import pytest
from ledgers import IDLE_S, Book

from session_exporter.core.isolation import OTHERS_MAX


def shared(book: Book) -> int:
    return book.judged().violations["session_of_two_users"]


@pytest.mark.parametrize("use", ["created", "reused", "looked_up", "observed", "attributed"])
def test_a_session_that_two_users_use_is_a_violation_whatever_the_use(use: str) -> None:
    book = Book()
    book.created(0, "s1", "ann")
    getattr(book, use)(60, "s1", user="bob")
    assert shared(book) == 1


def test_a_violation_tells_both_users_and_who_did_it() -> None:
    book = Book()
    book.created(0, "s1", "ann")
    book.looked_up(60, "s1", user="bob", request="r2", sites=("app.py:1:chat",))
    detail = book.incident().detail
    assert {name: detail[name] for name in ("violation", "user", "other_user", "session", "request", "call_sites")} == {
        "violation": "session_of_two_users",
        "user": "bob",
        "other_user": "ann",
        "session": "s1",
        "request": "r2",
        "call_sites": ["app.py:1:chat"],
    }


def test_each_further_user_counts_once_however_often_they_use_the_session() -> None:
    book = Book()
    for at_s, user in enumerate(["ann", "bob", "ann", "bob", "eve", "bob", "eve", "ann"]):
        book.reused(at_s, "s1", user)
    assert shared(book) == 2


def test_it_does_not_matter_who_came_first() -> None:
    book = Book()
    book.created(0, "s1", "ann")
    book.judged()
    book.reused(60, "s1", "bob")
    book.commit()
    book.reused(30, "s1", "bob")
    book.reused(20, "s1", "ann")
    assert shared(book) == 1


def test_who_ends_the_session_of_another_does_not_use_it() -> None:
    book = Book()
    book.created(0, "s1", "ann")
    book.ended(60, "s1", "escalated", user="admin")
    assert shared(book) == 0


def test_a_user_who_is_not_known_is_no_other_user() -> None:
    book = Book()
    book.created(0, "s1", "")
    book.reused(1, "s1", "")
    book.attributed(2, "s1", "ann")
    book.reused(3, "s1", "")
    book.looked_up(4, "s1", user="")
    assert shared(book) == 0


def test_another_device_is_no_other_user() -> None:
    book = Book()
    book.created(0, "s1", "ann", key="phone")
    book.reused(1, "s1", "ann", key="laptop")
    book.reused(2, "s1", "ann")
    assert shared(book) == 0


def test_the_session_of_a_device_can_be_used_by_another_user() -> None:
    book = Book()
    book.created(0, "s1", "ann", key="phone")
    book.reused(1, "s1", "bob", key="phone")
    assert shared(book) == 1


@pytest.mark.parametrize("user", ["system", "service:billing", "0", "-"])
def test_system_users_are_users_like_any_other(user: str) -> None:
    book = Book()
    book.created(0, "s1", user)
    book.reused(1, "s1", user)
    assert shared(book) == 0
    book.reused(2, "s1", "ann")
    assert shared(book) == 1


def test_the_same_id_in_two_scopes_is_no_shared_session() -> None:
    book = Book()
    book.created(0, "s1", "ann")
    book.created(0, "s1", "bob", scope="default")
    assert shared(book) == 0


def test_a_session_that_had_expired_has_the_user_who_comes_back_to_it() -> None:
    book = Book()
    book.created(0, "s1", "ann")
    book.reused(IDLE_S + 1, "s1", "bob")
    book.reused(IDLE_S + 2, "s1", "bob")
    assert shared(book) == 0


def test_an_id_that_is_created_again_for_another_user_is_a_session_of_two_users() -> None:
    book = Book()
    book.created(0, "s1", "ann")
    book.ended(30, "s1")
    book.created(60, "s1", "bob")
    assert shared(book) == 1


def test_so_many_users_of_one_session_are_told_apart() -> None:
    book = Book()
    for number in range(3 * OTHERS_MAX):
        book.reused(number, "s1", f"user{number}")
    assert shared(book) == OTHERS_MAX
    (session,) = book.ledger.judges["chat"].people.sessions.values()
    assert session.past is not None
    assert len(session.past.others) == OTHERS_MAX
