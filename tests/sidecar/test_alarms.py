"""The log lines that people grep for, word by word."""

import logging

import pytest
from ledgers import Book

from session_exporter.core import events as wire
from session_exporter.core.alarms import alarm_line
from session_exporter.core.ids import IdFormat
from session_exporter.core.incidents import INCIDENT_KINDS, Incident
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.sidecar import alarms

LOGGER = "session_exporter.alarms"


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, LOGGER)
    return caplog


def announce(book: Book) -> None:
    rules = book.ledger.judges["chat"].rules
    book.judged()
    for incident in book.incidents:
        alarms.log(incident, rules.duplicate_window_us)


def test_a_rapid_duplicate_is_a_warning_with_user_number_and_window(logged: pytest.LogCaptureFixture) -> None:
    book = Book(show_ids=False)
    for number in range(3):
        book.created(number / 2, f"s{number}")
    announce(book)
    user = book.names.label("u", book.names["ann"])
    assert logged.record_tuples == [
        (LOGGER, logging.WARNING, f"METRIC ALERT: User {user} created 2 sessions in 10s"),
        (LOGGER, logging.WARNING, f"METRIC ALERT: User {user} created 3 sessions in 10s"),
    ]


@pytest.mark.parametrize(("window_us", "shown"), [(10_000_000, "10s"), (1_500_000, "1.5s"), (60_000_000, "60s")])
def test_the_window_is_that_of_the_scope(logged: pytest.LogCaptureFixture, window_us: int, shown: str) -> None:
    book = Book(duplicate_window_us=window_us)
    book.created(0, "s1")
    book.created(1, "s2")
    announce(book)
    assert logged.messages == [f"METRIC ALERT: User ann created 2 sessions in {shown}"]


def test_a_chain_longer_than_the_window_counts_what_lies_inside_of_it(logged: pytest.LogCaptureFixture) -> None:
    book = Book()
    for number in range(4):
        book.created(number * 6, f"s{number}")
    announce(book)
    assert logged.messages == ["METRIC ALERT: User ann created 2 sessions in 10s"] * 3


def test_a_session_that_was_only_adopted_was_not_created(logged: pytest.LogCaptureFixture) -> None:
    book = Book()
    book.observed(0, "s1")
    book.created(2, "s2")
    book.created(4, "s3")
    announce(book)
    assert logged.messages[-1] == "METRIC ALERT: User ann created 2 sessions in 10s"


def test_a_context_loss_is_an_error_with_what_was_expected_and_what_came(logged: pytest.LogCaptureFixture) -> None:
    book = Book(show_ids=False)
    book.context_lost(0, "s1", "s2")
    announce(book)
    user = book.names.label("u", book.names["ann"])
    expected, actual = (book.names.label("s", book.names[session]) for session in ("s1", "s2"))
    line = f"METRIC ALERT: Context loss for user {user}: expected {expected}, got {actual}"
    assert logged.record_tuples == [(LOGGER, logging.ERROR, line)]


def test_an_invalid_id_is_a_warning_with_its_shape_and_what_was_declared(logged: pytest.LogCaptureFixture) -> None:
    book = Book(show_ids=False, id_formats={"thread": IdFormat("unified", legacy="^t-", kind="thread")})
    for thread in ("a thread", "t-tolerated"):
        book.tell(wire.Identified, 0, thread=thread)
    announce(book)
    user, sample = book.names.label("u", book.names["ann"]), book.names.label("t", book.names["a thread"])
    line = f"METRIC ALERT: Invalid thread id {sample} of user {user}: text(8), expected unified"
    assert logged.record_tuples == [(LOGGER, logging.WARNING, line)]
    [record] = logged.records
    assert (record.id_kind, record.shape, record.scope) == ("thread", "text(8)", "chat")


@pytest.mark.parametrize("kind", INCIDENT_KINDS)
def test_no_kind_of_incident_goes_without_a_line(kind: str) -> None:
    words = ("user", "expected", "actual", "reason", "cause", "violation", "id_kind", "sample", "shape", "declared")
    words = (*words, "active_rows")
    incident = Incident("x-1", kind, 0, "chat", {**dict.fromkeys(words, "word"), "creates": []})
    line = alarm_line(incident, 10_000_000)
    assert line is not None
    assert (line.template % line.arguments).startswith("METRIC ALERT: ")


def test_a_line_leads_to_its_incident(logged: pytest.LogCaptureFixture) -> None:
    book = Book()
    book.created(0, "s1")
    book.created(1, "s2")
    book.context_lost(2, "s1", "s2")
    announce(book)
    told = [(record.incident, record.scope) for record in logged.records]
    assert told == [(incident.id, "chat") for incident in book.incidents]
    by_level = {record.levelno: record for record in logged.records}
    assert by_level[logging.WARNING].cause == "same_worker"
    assert by_level[logging.ERROR].reason == "reported"


def test_no_plain_id_is_logged(logged: pytest.LogCaptureFixture) -> None:
    book = Book(show_ids=False)
    secrets = ["plain-user", "plain-one", "plain-two", "plain-request", "plain-key"]
    user, one, two, request, key = secrets
    book.created(0, one, user, request=request, key=key)
    book.created(1, two, user, request=request, key=key)
    book.context_lost(2, one, two, user, request=request)
    announce(book)
    assert len(logged.records) == 2
    assert not [each for each in secrets for record in logged.records if each in str(vars(record))]


def test_each_reuse_is_told_at_level_debug_and_at_no_other(logged: pytest.LogCaptureFixture) -> None:
    names = Pseudonyms(b"k" * 32)
    listener = alarms.reuse_listener(names)
    assert listener is not None
    book = Book(show_ids=False, listener=listener)
    book.created(0, "s1")
    book.reused(1, "s1")
    book.looked_up(2, "s1")
    user = book.names.label("u", book.names["ann"])
    line = f"METRIC: Session reused for user {user}"
    assert logged.record_tuples == [(LOGGER, logging.DEBUG, line)] * 2
    logged.set_level(logging.INFO, LOGGER)
    assert alarms.reuse_listener(names) is None
