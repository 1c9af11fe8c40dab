"""What a request expected and did not get: missing, switched or stale."""

from typing import Any

import pytest
from ledgers import IDLE_S, Book, at, nonzero

from session_exporter.core import events as wire
from session_exporter.core.events import MISSED_BY_ID, MISSED_BY_USER, OTHER_USED
from session_exporter.core.scopes import END_REASONS, Limits

MICROSECOND_S = 0.000001


def unmet(
    book: Book, at_s: float, session: str, user: str = "ann", *, since_s: float | None = None, **more: Any
) -> None:
    """A request is over that never got the session it expected; it had begun a tenth of a second before."""
    since_us = at(at_s - 0.1 if since_s is None else since_s)
    about = {"missed": MISSED_BY_ID, "request": f"r{at_s}", **more}
    book.tell(wire.Unmet, at_s, session, user, since_us=since_us, **about)


def losses(book: Book) -> dict[str, int]:
    return nonzero(book.judged().losses)


def stale(book: Book) -> int:
    return book.judged().stale_expected


@pytest.mark.parametrize(
    ("missed", "reason"), [(MISSED_BY_ID, "missing"), (MISSED_BY_USER, "missing"), (OTHER_USED, "switched")]
)
def test_a_request_that_does_without_a_session_that_is_live_for_its_user_has_lost_it(missed: int, reason: str) -> None:
    book = Book()
    book.created(0, "s1")
    unmet(book, 60, "s1", missed=missed, actual="s2", sites=("app.py:1:chat",))
    assert (losses(book), stale(book)) == ({reason: 1}, 0)
    detail = book.incident().detail
    assert {name: detail[name] for name in ("reason", "user", "expected", "actual", "call_sites")} == {
        "reason": reason,
        "user": "ann",
        "expected": "s1",
        "actual": "s2",
        "call_sites": ["app.py:1:chat"],
    }


def test_a_client_that_retries_a_dead_id_five_times_has_lost_one_context() -> None:
    book = Book()
    book.created(0, "s1")
    for retry in range(5):
        unmet(book, 60 + retry, "s1", missed=OTHER_USED if retry % 2 else MISSED_BY_ID)
    assert (losses(book), stale(book)) == ({"missing": 1}, 0)


def test_a_session_that_was_created_again_after_its_end_can_be_lost_once_more() -> None:
    book = Book()
    book.created(0, "s1")
    unmet(book, 10, "s1")
    book.ended(20, "s1")
    book.created(60, "s1")
    unmet(book, 70, "s1")
    assert losses(book) == {"missing": 2}


def test_a_session_that_had_expired_and_came_back_can_be_lost_once_more() -> None:
    book = Book()
    book.created(0, "s1")
    unmet(book, 10, "s1")
    book.reused(IDLE_S + 1, "s1")
    unmet(book, IDLE_S + 10, "s1")
    assert losses(book) == {"missing": 2}


def test_the_loss_of_a_session_is_remembered_over_a_commit() -> None:
    book = Book()
    book.created(0, "s1")
    unmet(book, 10, "s1")
    assert losses(book) == {"missing": 1}
    unmet(book, 20, "s1")
    assert losses(book) == {"missing": 1}


def test_an_id_that_was_never_known_is_a_stale_expectation() -> None:
    book = Book()
    unmet(book, 60, "s1")
    assert (losses(book), stale(book)) == ({}, 1)


def test_strangers_with_random_cookies_lose_nothing() -> None:
    book = Book()
    book.created(0, "s1")
    for number in range(100):
        unmet(book, 1 + number, f"random-{number}", "")
    assert (losses(book), stale(book), book.incidents) == ({}, 100, [])


@pytest.mark.parametrize("known", [False, True])
def test_a_request_of_several_scopes_expects_nothing_of_a_scope_that_never_knew_the_id(*, known: bool) -> None:
    book = Book()
    if known:
        book.created(-2 * IDLE_S, "s1")
        book.advance(0)
        book.commit()
    unmet(book, 60, "s1", shared=True)
    assert (losses(book), stale(book)) == ({}, int(known))


def test_a_live_session_is_lost_by_a_request_of_several_scopes_too() -> None:
    book = Book()
    book.created(0, "s1")
    unmet(book, 60, "s1", shared=True)
    assert losses(book) == {"missing": 1}


@pytest.mark.parametrize(("idle_s", "lost"), [(IDLE_S, 1), (IDLE_S + MICROSECOND_S, 0)])
def test_a_session_that_was_idle_for_longer_than_the_timeout_is_a_stale_expectation(idle_s: float, lost: int) -> None:
    book = Book()
    book.created(0, "s1")
    unmet(book, idle_s, "s1")
    assert (sum(losses(book).values()), stale(book)) == (lost, 1 - lost)


@pytest.mark.parametrize("reason", END_REASONS)
def test_a_session_that_has_ended_is_a_stale_expectation_whatever_the_reason(reason: str) -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(30, "s1", reason)
    book.looked_up(31, "s1")  # whoever looks at it afterwards
    unmet(book, 31.5, "s1")
    assert (losses(book), stale(book)) == ({}, 1)


def test_the_session_of_somebody_else_is_a_stale_expectation() -> None:
    book = Book()
    book.created(0, "s1", "bob")
    unmet(book, 60, "s1", "ann")
    assert (losses(book), stale(book)) == ({}, 1)


@pytest.mark.parametrize(("owner", "user"), [("", "ann"), ("ann", ""), ("", "")])
def test_a_session_is_lost_when_nobody_knows_that_it_is_somebody_elses(owner: str, user: str) -> None:
    book = Book()
    book.created(0, "s1", owner)
    unmet(book, 60, "s1", user)
    assert losses(book) == {"missing": 1}


def test_a_session_is_lost_on_any_device_of_its_user() -> None:
    book = Book()
    book.created(0, "s1", key="phone")
    unmet(book, 60, "s1", key="laptop")
    assert losses(book) == {"missing": 1}


def test_a_store_that_adopts_the_id_of_an_unknown_cookie_loses_nothing() -> None:
    book = Book()
    book.looked_up(60, asked="s1", request="r1")
    book.created(60.01, "s1", request="r1")
    unmet(book, 60.1, "s1", since_s=60, actual="s1", request="r1")
    assert (losses(book), stale(book), book.judged().creates) == ({}, 1, 1)


def test_a_session_that_came_to_be_after_the_request_had_begun_to_do_without_it_is_not_lost() -> None:
    book = Book()
    book.observed(60, "s1")
    unmet(book, 61, "s1", since_s=60)
    assert losses(book) == {}
    unmet(book, 62, "s1", since_s=60 + MICROSECOND_S)
    assert losses(book) == {"missing": 1}


def test_a_session_that_was_only_ever_used_has_been_there_all_along() -> None:
    book = Book()
    book.reused(60, "s1")
    unmet(book, 61, "s1", since_s=59)
    assert losses(book) == {"missing": 1}


def test_an_evicted_session_is_a_stale_expectation() -> None:
    book = Book(limits=Limits(max_tracked_sessions=1))
    book.created(0, "s1")
    book.created(300, "s2", "bob")
    book.judged()
    book.reused(301, "s2", "bob")
    unmet(book, 302, "s1")
    assert (losses(book), stale(book)) == ({}, 1)


@pytest.mark.parametrize("user", ["system", "service:billing", "0", "None"])
def test_system_users_lose_their_sessions_as_others_do(user: str) -> None:
    book = Book()
    book.created(0, "s1", user)
    book.created(60, "s2", user)
    unmet(book, 90, "s2", user)
    assert losses(book) == {"replaced": 1, "missing": 1}


def test_the_installation_beside_a_running_application_invents_nothing() -> None:
    book = Book()
    for number in range(50):
        user, session = f"user{number}", f"s{number}"
        how = [book.reused, book.looked_up, book.observed, book.attributed][number % 4]
        how(number, session, user=user)
        book.reused(number + 0.5, session, user)
        book.observed(number + 60, session, user)
    totals = book.judged()
    assert (totals.creates, totals.duplicate_creates, losses(book), book.incidents) == (0, 0, {}, [])
