"""Where creates stand on the timelines of their users, and whose evidence tells of them."""

import pytest
from ledgers import NEIGHBOUR, REMOTE, SECOND, WINDOW_S, WORKER, Book, at

from session_exporter.core import events as wire
from session_exporter.core.duplicates import anchors_of
from session_exporter.core.records import Owner
from session_exporter.core.timelines import EVIDENCE_MAX

DATABASE = wire.Writer(wire.WATCH)


def only_owner(book: Book) -> Owner:
    (owner,) = book.ledger.judges["chat"].people.owners.values()
    return owner


def test_a_create_that_a_second_report_gives_its_user_stands_there_from_then_on() -> None:
    book = Book()
    book.created(0, "s1", "")
    book.created(4, "s1", "ann", writer=NEIGHBOUR)
    book.created(4 + WINDOW_S - 1, "s2", "ann")
    assert (book.judged().creates, book.duplicates()) == (2, {"same_worker": 1})


def test_a_rewrite_that_tells_the_user_of_a_create_gives_it_its_place() -> None:
    book = Book()
    book.created(0, "s1", "")
    book.ended(1, "s1", "deleted")
    book.created(1.5, "s1", "ann")
    book.created(5, "s2", "ann")
    assert (book.judged().creates, book.duplicates()) == (2, {"same_worker": 1})


def test_a_sighting_of_unknown_user_that_a_create_explains_stands_where_its_user_became_known() -> None:
    book = Book()
    book.observed(0, "s1", user="")
    book.created(1.5, "s1", "ann")
    book.created(1.5 + WINDOW_S - 0.1, "s2")
    assert (book.judged().adopted, book.duplicates()) == (0, {"same_worker": 1})


@pytest.mark.parametrize("first", [WORKER, DATABASE])
def test_a_create_that_a_worker_and_the_database_told_was_observed(first: wire.Writer) -> None:
    second = DATABASE if first is WORKER else WORKER
    book = Book()
    book.created(0, "s1", writer=first)
    book.created(0.5, "s1", writer=second)
    book.created(3, "s2", writer=NEIGHBOUR)
    assert book.duplicates() == {"cross_worker": 1}
    assert [told["worker"] for told in book.incident().detail["creates"]] == [WORKER.id, NEIGHBOUR.id]


@pytest.mark.parametrize("unseen", [0, 1])
def test_a_create_that_only_the_database_told_is_unobserved(unseen: int) -> None:
    book = Book()
    for number in range(2):
        book.created(number, f"s{number}", writer=DATABASE if number == unseen else REMOTE)
    assert book.duplicates() == {"unobserved": 1}


def test_a_create_whose_user_is_not_known_yet_takes_the_evidence_of_a_worker_too() -> None:
    book = Book()
    book.created(0, "s1", "", writer=DATABASE)
    book.created(0.5, "s1", "", writer=WORKER)
    book.attributed(1, "s1", "ann")
    book.created(2, "s2", writer=WORKER)
    assert book.duplicates() == {"same_worker": 1}


def test_the_end_of_one_generation_does_not_lend_its_evidence_to_the_next() -> None:
    book = Book()
    book.created(0, "s1", writer=DATABASE)
    book.ended(20, "s1", "other", writer=DATABASE)
    book.created(25, "s1", writer=WORKER)
    book.created(26, "s1", writer=DATABASE)
    first, second = anchors_of(only_owner_after(book))
    assert first.evidence is not None
    assert second.evidence is not None
    assert (first.evidence.worker, second.evidence.worker) == (DATABASE.id, WORKER.id)


def only_owner_after(book: Book) -> Owner:
    book.judged()
    return only_owner(book)


def test_a_user_who_was_only_seen_at_work_rests_without_a_list_of_anchors() -> None:
    book = Book()
    book.reused(0, "s1")
    owner = only_owner_after(book)
    assert (owner.anchors, owner.anchor_session, owner.anchor_us) == (None, b"s1", 0)
    (anchor,) = anchors_of(owner)
    assert (anchor.session, anchor.is_met, anchor.is_create) == (b"s1", True, False)


def test_a_session_that_was_only_used_is_forgotten_once_a_create_has_come_after_it() -> None:
    book = Book()
    book.reused(0, "s1")
    book.created(60, "s2")
    book.advance(600)
    owner = only_owner(book)
    assert (owner.anchors, owner.anchor_session, owner.anchor_us) == (None, b"s2", at(60))


def test_a_session_that_was_only_used_is_nothing_that_a_create_is_too_close_to() -> None:
    book = Book()
    book.reused(0, "s1")
    book.created(1, "s2")
    assert book.duplicates() == {}


def test_of_many_users_at_once_the_oldest_evidence_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("session_exporter.core.timelines.EVIDENCE_MAX", 10)
    assert EVIDENCE_MAX > 10
    book = Book(duplicate_window_us=1000 * SECOND)
    for number in range(30):
        book.created(number, f"s{number}", f"user{number}")
    book.advance(40)
    timelines = book.ledger.judges["chat"].timelines
    assert len(timelines.with_evidence) == 10
    book.created(41, "late", "user0")
    book.created(41, "later", "user29")
    assert book.duplicates() == {"cross_worker": 1, "same_worker": 1}
