"""What an incident tells, and that it is the same whenever the same events are judged."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import NEIGHBOUR, REMOTE, WINDOW_S, WORKER, Book, at

from session_exporter.core.incidents import CREATES_SHOWN_MAX, Incident

TRACE = bytes(range(16))
SITES = ("app/handlers.py:41:Handler.run", "app/main.py:7:main")


def race(**options: object) -> Book:
    """Three creates of one user in three places."""
    book = Book(**options)
    book.created(0, "s1", request="r1", trace=TRACE, sites=SITES)
    book.created(0.1162, "s2", request="r1", sites=SITES[:1])
    book.created(1.1162, "s3", request="r2", writer=REMOTE)
    return book


def test_each_duplicate_is_an_incident_of_its_own() -> None:
    book = race()
    book.judged()
    assert [(each.kind, each.scope, each.at_us) for each in book.incidents] == [
        ("rapid_duplicate_create", "chat", at(0.1162)),
        ("rapid_duplicate_create", "chat", at(1.1162)),
    ]


def test_an_incident_tells_cause_user_gap_and_sessions() -> None:
    book = race()
    book.judged()
    first, second = (each.detail for each in book.incidents)
    assert (first["cause"], first["user"], first["gap_ms"], first["sessions"]) == (
        "same_request",
        "ann",
        116.2,
        ["s1", "s2"],
    )
    assert (second["cause"], second["gap_ms"], second["sessions"]) == ("cross_replica", 1000.0, ["s1", "s2", "s3"])


def test_an_incident_lists_every_create_with_its_place_the_duplicate_last() -> None:
    book = race()
    book.judged()
    creates = book.incidents[-1].detail["creates"]
    assert creates[0] == {
        "at_us": at(0),
        "session": "s1",
        "adopted": False,
        "request": "r1",
        "trace": TRACE.hex(),
        "worker": WORKER.id,
        "pid": WORKER.pid,
        "replica": WORKER.replica,
        "call_sites": list(SITES),
    }
    assert [each["worker"] for each in creates] == [WORKER.id, WORKER.id, REMOTE.id]
    assert [each["request"] for each in creates] == ["r1", "r1", "r2"]
    assert creates[-1]["trace"] == ""
    assert creates[-1]["call_sites"] == []


def test_a_create_too_close_to_an_adoption_lists_it() -> None:
    book = Book()
    book.observed(0, "s1", sites=SITES)
    book.created(4, "s2")
    creates = book.incident().detail["creates"]
    assert [(each["session"], each["adopted"]) for each in creates] == [("s1", True), ("s2", False)]
    assert creates[0]["call_sites"] == list(SITES)
    assert book.incident().detail["sessions"] == ["s1", "s2"]


def test_a_burst_is_told_by_its_last_creates() -> None:
    book = Book()
    for number in range(3 * CREATES_SHOWN_MAX):
        book.created(number / 10, f"s{number:02}")
    book.judged()
    creates = book.incidents[-1].detail["creates"]
    assert len(creates) == CREATES_SHOWN_MAX
    assert creates[-1]["session"] == f"s{3 * CREATES_SHOWN_MAX - 1}"


def duplicates_of(book: Book) -> list[Incident]:
    return [each for each in book.incidents if each.kind == "rapid_duplicate_create"]


def test_a_duplicate_that_a_late_create_reveals_is_told() -> None:
    book = Book()
    book.created(0, "s1")
    book.advance(12)
    book.created(16, "s3")
    book.judged()
    assert duplicates_of(book) == []
    book.created(8, "s2", writer=NEIGHBOUR)
    book.judged()
    assert [each.detail["sessions"] for each in duplicates_of(book)] == [["s1", "s2"], ["s1", "s2", "s3"]]


def test_a_reported_loss_is_an_incident() -> None:
    book = Book()
    book.context_lost(5, "s1", "s2", request="r1", trace=TRACE, sites=SITES)
    incident = book.incident()
    assert (incident.kind, incident.at_us, incident.scope) == ("context_loss", at(5), "chat")
    assert incident.detail == {
        "reason": "reported",
        "user": "ann",
        "expected": "s1",
        "actual": "s2",
        "request": "r1",
        "trace": TRACE.hex(),
        "worker": WORKER.id,
        "pid": WORKER.pid,
        "replica": WORKER.replica,
        "call_sites": list(SITES),
    }
    assert book.judged().losses["reported"] == 1


@pytest.mark.parametrize(("expected", "actual"), [("", "s2"), ("s1", ""), ("a greeting, not a task", "None")])
def test_what_was_expected_and_what_came_may_be_any_text(expected: str, actual: str) -> None:
    book = Book()
    book.context_lost(5, expected, actual)
    detail = book.incident().detail
    assert (detail["expected"], detail["actual"]) == (expected, actual)


def test_ids_in_incidents_are_pseudonyms() -> None:
    book = race(show_ids=False)
    book.context_lost(2, "s1", "s2", request="r1")
    book.judged()
    told = json.dumps([each.detail for each in book.incidents])
    for plain in ("ann", "s1", "s2", "s3", "r1", "r2"):
        assert f'"{plain}"' not in told
    label = book.names.label("u", book.names["ann"])
    assert {each.detail["user"] for each in book.incidents} == {label}
    assert label.startswith("u:")
    create = book.incidents[-1].detail["creates"][0]
    assert create["session"] == book.names.label("s", book.names["s1"])
    assert create["request"] == book.names.label("r", book.names["r1"])


def test_incidents_of_two_duplicates_have_two_ids() -> None:
    book = race()
    book.created(1.1162, "s4", "bob")
    book.created(1.1162, "s5", "bob")
    book.context_lost(1.1162, "s4", "s5")
    book.judged()
    assert len({each.id for each in book.incidents}) == len(book.incidents) == 4


def test_the_id_of_an_incident_says_its_kind() -> None:
    book = race()
    book.context_lost(2, "s1", "s2")
    book.judged()
    assert {(each.kind, each.id[:2]) for each in book.incidents} == {
        ("rapid_duplicate_create", "d-"),
        ("context_loss", "l-"),
    }


@given(st.permutations(range(4)), st.sampled_from([-1, 0]))
def test_the_same_events_give_the_same_incidents_in_any_order_within_the_lateness(
    order: list[int], watermark_s: int
) -> None:
    calls = [(0, "s1", WORKER), (0.4, "s2", REMOTE), (0.8, "s3", NEIGHBOUR), (WINDOW_S + 0.5, "s4", WORKER)]
    sorted_book, book = Book(show_ids=False), Book(show_ids=False)
    for at_s, session, writer in calls:
        sorted_book.created(at_s, session, writer=writer)
    for number in order:
        at_s, session, writer = calls[number]
        book.created(at_s, session, writer=writer)
        book.advance(watermark_s)
    sorted_book.judged()
    book.judged()
    assert book.incidents == sorted_book.incidents
    assert len(book.incidents) == 3
