"""Each id is checked once against the format of its scope, and the ids of a request against each other."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import Book, nonzero

from session_exporter.core import events as wire
from session_exporter.core.checkpoint import restore, take_changes
from session_exporter.core.ids import ContextIds, IdFormat, generate_context_ids
from session_exporter.core.incidents import INCIDENT_KINDS
from session_exporter.core.scopes import ID_KINDS, ScopeRules
from session_exporter.core.tally import SAMPLES_PER_SHAPE, SHAPES_MAX, Verdict

SESSIONS = IdFormat("^s-[0-9]+$", legacy="^old-")
USERS = IdFormat("^u-[0-9]+$")
DIGITS = IdFormat("^[0-9]+$")
THREAD_TABLE = IdFormat("unified")


def generation(counter: int) -> ContextIds:
    """Thread, run and request id that are the same in every run."""
    hexadecimal = f"{counter:08x}"
    return ContextIds(
        f"thread_chat_1757362890388_{counter}_{hexadecimal}",
        f"run_1757362890388_{counter}_{hexadecimal}",
        f"req_1757362890388_{counter}_{hexadecimal}",
    )


def declaring(**formats: IdFormat) -> Book:
    return Book(id_formats=formats)


def checked(book: Book, scope: str = "chat") -> dict[str, int]:
    return nonzero(book.judged(scope).ids_checked)


def identified(book: Book, at_s: float, thread: str = "", run: str = "", request: str = "", **more: Any) -> None:
    book.tell(wire.Identified, at_s, thread=thread, run=run, request=request, **more)


# Which ids are checked.


def test_the_session_of_each_event_is_canonical_legacy_or_invalid() -> None:
    book = declaring(session=SESSIONS)
    book.created(0, "s-1")
    book.looked_up(1, "old-1")
    book.observed(2, "x")
    book.ended(3, "y")
    book.reused(4, "s-4")
    assert checked(book) == {"session/canonical": 2, "session/legacy": 1, "session/invalid": 2}


def test_users_and_requests_are_checked_where_they_are_declared() -> None:
    book = declaring(user=USERS, request=DIGITS)
    book.created(0, "s", "u-1", request="7")
    book.looked_up(1, "", "ann", request="r7")
    assert checked(book) == {
        "user/canonical": 1,
        "user/invalid": 1,
        "request/canonical": 1,
        "request/invalid": 1,
    }


def test_threads_and_runs_are_those_of_requests() -> None:
    book = declaring(thread=IdFormat("unified", legacy="^t-", kind="thread"), run=IdFormat("unified", kind="run"))
    ids = generation(1)
    identified(book, 0, ids.thread_id, ids.run_id, "r1")
    identified(book, 1, "t-9", ids.thread_id, "r2")
    assert checked(book) == {"thread/canonical": 1, "thread/legacy": 1, "run/canonical": 1, "run/invalid": 1}


def test_what_is_not_known_is_not_checked() -> None:
    book = declaring(session=SESSIONS, user=USERS, thread=DIGITS, run=DIGITS, request=DIGITS)
    book.looked_up(0, "", "")
    identified(book, 1, user="")
    assert checked(book) == {}


def test_nothing_is_checked_without_a_format() -> None:
    book = Book(scopes={"other_kind": ScopeRules("other_kind", id_formats={"session": SESSIONS})})
    book.created(0, "x", request="r1")
    identified(book, 1, "t", "r", "r1")
    assert (checked(book), book.incidents, book.ledger.requests.changed) == ({}, [], {})


def test_each_scope_has_formats_of_its_own() -> None:
    book = Book(
        scopes={"thread": ScopeRules("thread", id_formats={"session": THREAD_TABLE})}, id_formats={"session": SESSIONS}
    )
    for scope in ("chat", "thread"):
        book.created(0, generation(1).thread_id, scope=scope)
    assert checked(book) == {"session/invalid": 1}
    assert checked(book, "thread") == {"session/canonical": 1}


def test_the_name_of_an_undeclared_scope_is_no_part_of_an_id() -> None:
    book = Book(scopes={"other": ScopeRules("other", id_formats={"session": SESSIONS})})
    book.created(0, "s-1", scope="nobody_declared_this")
    assert checked(book, "other") == {"session/canonical": 1}


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (wire.Unmet, {"session": "cookie", "actual": "s-1"}),
        (wire.LookedUp, {"asked": "cookie"}),
        (wire.ContextLost, {"expected": "cookie", "actual": "anything"}),
        (wire.Violated, {"session": "use of a database session", "kind": "db_session_crossed_tasks"}),
        (wire.DbSession, {"session": "use of a database session"}),
    ],
)
def test_what_a_stranger_expects_and_what_is_no_session_is_not_checked(kind: type, more: dict[str, Any]) -> None:
    book = declaring(session=SESSIONS)
    book.ledger.apply([kind(0, "chat", user="ann", **more)], wire.Writer("w"))
    assert checked(book) == {}


# Once.


def test_an_id_is_checked_once_however_often_it_is_seen() -> None:
    book = declaring(session=SESSIONS, user=USERS, request=DIGITS)
    for at_s in range(20):
        book.looked_up(at_s, "x", "ann", request="r1")
        book.reused(at_s, "x", "ann", request="r1")
        book.advance(at_s)
    assert checked(book) == {"session/invalid": 1, "user/invalid": 1, "request/invalid": 1}


def test_an_id_of_two_kinds_is_checked_as_both() -> None:
    book = declaring(session=DIGITS, user=DIGITS, thread=DIGITS, request=DIGITS)
    book.created(0, "7", "7", request="7")
    identified(book, 1, "7", "", "7", user="7")
    assert checked(book) == {f"{kind}/canonical": 1 for kind in ("session", "user", "thread", "request")}


def test_a_session_that_is_tracked_needs_no_memory() -> None:
    book = declaring(session=SESSIONS, user=USERS)
    book.created(0, "x", "ann", key="phone")
    book.advance(60)
    for at_s in (400, 800, 1200):  # longer than anything is remembered of requests
        book.looked_up(at_s, "x", "ann", key="phone")
        book.advance(at_s)
    assert checked(book) == {"session/invalid": 1, "user/invalid": 1}


# Evidence.


def test_an_invalid_id_is_told_by_its_shape_and_its_pseudonym() -> None:
    book = Book(show_ids=False, id_formats={"session": IdFormat("uuid", legacy="^old-")})
    book.created(0, "secret-17", "ann", request="r1", sites=("app.py:7:make",))
    incident = book.incident()
    names = book.names
    assert (incident.kind, incident.at_us, incident.scope) == ("invalid_id", 1_800_000_000_000_000, "chat")
    assert incident.detail == {
        "id_kind": "session",
        "shape": "text(9)",
        "declared": "uuid",
        "sample": names.label("s", names["secret-17"]),
        "user": names.label("u", names["ann"]),
        "session": names.label("s", names["secret-17"]),
        "request": names.label("r", names["r1"]),
        "trace": "",
        "worker": "w0",
        "pid": 10,
        "replica": "pod-a",
        "call_sites": ["app.py:7:make"],
    }
    assert (incident.users, incident.sessions) == ((names["ann"],), (names["secret-17"],))


@pytest.mark.parametrize(
    ("kind", "label"),
    [("session", "s:"), ("user", "u:"), ("thread", "t:"), ("run", "run:"), ("request", "r:")],
)
def test_the_pseudonym_tells_the_kind_of_id(kind: str, label: str) -> None:
    book = Book(show_ids=False, id_formats={kind: DIGITS})
    identified(book, 0, "a thread", "a run", "a request", session="a session", user="a user")
    assert book.incident().detail["sample"].startswith(label)


def test_the_first_samples_of_each_shape_are_kept_and_all_are_counted() -> None:
    book = declaring(session=SESSIONS)
    for number in range(20):
        book.looked_up(number * 60, f"x{number:02}")
        book.looked_up(number * 60, f"long{number:02}", "bob")
        book.looked_up(number * 60, f"old-{number}", "eve")
    totals = book.judged()
    assert totals.id_shapes == {
        "session/invalid/text(3)": 20,
        "session/invalid/text(6)": 20,
        "session/legacy/text(5)": 10,
        "session/legacy/text(6)": 10,
    }
    shapes = Counter(incident.detail["shape"] for incident in book.incidents)
    assert shapes == {"text(3)": SAMPLES_PER_SHAPE, "text(6)": SAMPLES_PER_SHAPE}


def test_shapes_are_bounded_and_the_rest_is_counted_together() -> None:
    book = declaring(session=SESSIONS, user=USERS)
    for length in range(1, 200):
        book.looked_up(length * 60, "x" * length, "u-1")
    book.looked_up(0, "s-1", "ann")
    shapes = book.judged().id_shapes
    assert len(shapes) == SHAPES_MAX + 2
    assert shapes["session/invalid/other"] == 199 - SHAPES_MAX
    assert shapes["user/invalid/text(3)"] == 1
    assert len(book.incidents) == SHAPES_MAX + SAMPLES_PER_SHAPE + 1


def test_the_same_id_in_two_scopes_makes_two_incidents() -> None:
    book = Book(scopes={"job": ScopeRules("job", id_formats={"thread": DIGITS})}, id_formats={"thread": DIGITS})
    for scope in ("chat", "job"):
        identified(book, 0, "t", request="r1", scope=scope)
    book.judged()
    assert len({incident.id for incident in book.incidents}) == 2
    assert {incident.kind for incident in book.incidents} < set(INCIDENT_KINDS)


def test_every_invalid_id_is_told_to_whoever_listens() -> None:
    told: list[Verdict] = []
    book = Book(listener=told.append, id_formats={"user": USERS})
    book.looked_up(0, "", "ann")
    assert told[0] == Verdict(1_800_000_000_000_000, "chat", "invalid_id", b"", b"ann", "user")


# Ids of one request.


@pytest.mark.parametrize(
    ("thread", "run", "request_id", "mismatches"),
    [
        (generation(1).thread_id, generation(1).run_id, generation(1).request_id, 0),
        (generation(1).thread_id, generation(2).run_id, generation(1).request_id, 1),
        (generation(1).thread_id, generation(2).run_id, generation(3).request_id, 1),
        (generation(1).thread_id, "", generation(2).request_id, 1),
        (generation(1).thread_id, generation(2).run_id, "", 1),
        (generation(1).thread_id, generation(2).run_id, "anything", 1),
        (generation(1).thread_id, "another format", "anything", 0),
        ("", generation(1).run_id, "", 0),
        # Ids of another kind tell nothing.
        (generation(1).run_id, generation(2).thread_id, "", 0),
    ],
)
def test_ids_that_were_not_generated_together_do_not_match(
    thread: str, run: str, request_id: str, mismatches: int
) -> None:
    book = Book()
    identified(book, 0, thread, run, request_id)
    identified(book, 1, thread, run, request_id)
    assert book.judged().id_mismatches == mismatches


def test_a_request_does_not_match_once_in_every_scope() -> None:
    book = Book(scopes={"job": ScopeRules("job")})
    for scope in ("chat", "job", "chat"):
        identified(book, 0, generation(1).thread_id, generation(2).run_id, "r1", scope=scope)
        identified(book, 0, generation(1).thread_id, generation(3).run_id, "r1", scope=scope)
    assert [book.judged(scope).id_mismatches for scope in ("chat", "job")] == [1, 1]


def test_ids_of_one_generation_match_whoever_generated_them() -> None:
    book = Book()
    identified(book, 0, *generate_context_ids("ann"))
    assert book.judged().id_mismatches == 0


# After a restart.


def restarted(book: Book) -> Book:
    """A new ledger, given what a commit of the other one stored."""
    changes = take_changes(book.ledger)
    rules = book.ledger.judges["chat"].rules
    after = Book(totals=changes.totals, id_formats=rules.id_formats)
    restore(
        after.ledger, changes.owners, changes.sessions, changes.waiting, [(changes.waiting.epoch, changes.requests)]
    )
    return after


def test_what_was_checked_before_a_restart_is_not_checked_again() -> None:
    book = declaring(session=SESSIONS, user=USERS, thread=DIGITS)
    book.created(0, "x", "ann")
    identified(book, 1, "t", generation(1).run_id, generation(2).request_id)
    after = restarted(book)
    after.looked_up(2, "x", "ann")
    identified(after, 3, "t", generation(1).run_id, generation(2).request_id)
    totals = after.judged()
    assert nonzero(totals.ids_checked) == {"session/invalid": 1, "user/invalid": 1, "thread/invalid": 1}
    assert (totals.id_mismatches, after.incidents) == (1, [])


def test_evidence_does_not_start_again_after_a_restart() -> None:
    book = declaring(session=SESSIONS)
    for number in range(SAMPLES_PER_SHAPE - 1):
        book.looked_up(number * 60, f"x{number}")
    book.judged()
    after = restarted(book)
    for number in range(5, 9):
        after.looked_up(number * 60, f"x{number}")
    assert after.judged().id_shapes == {"session/invalid/text(2)": SAMPLES_PER_SHAPE + 3}
    assert len(after.incidents) == 1


# The oracle: what a set of all ids ever seen tells.

IDS = st.sampled_from(["", "1", "22", "s-1", "s-2", "u-1", "old-1", "x", "ann", *generation(1), *generation(2)])
FORMATS = st.dictionaries(
    st.sampled_from(ID_KINDS),
    st.sampled_from([SESSIONS, USERS, DIGITS, THREAD_TABLE, IdFormat("uuid", legacy="^s-")]),
)
EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from([wire.Created, wire.Reused, wire.LookedUp, wire.Observed, wire.Identified]),
            "at_s": st.integers(0, 200),
            "scope": st.sampled_from(["chat", "job"]),
            **dict.fromkeys(("session", "user", "key", "thread", "run", "request"), IDS),
            "then_s": st.integers(0, 250),
        }
        # Nothing but its session is looked at of the reuse of a session that is tracked.
    ).map(lambda event: {**event, "request": ""} if event["kind"] is wire.Reused else event),
    max_size=30,
)


def expected_checks(events: list[dict[str, Any]], scope: str, formats: dict[str, IdFormat]) -> dict[str, int]:
    seen = {
        (kind, event[kind])
        for event in events
        for kind in formats
        if event["scope"] == scope and event[kind]
        if kind not in {"thread", "run"} or event["kind"] is wire.Identified
    }
    return Counter(f"{kind}/{formats[kind].classify(id_)}" for kind, id_ in seen)


def expected_mismatches(events: list[dict[str, Any]], scope: str) -> int:
    found = set()
    for event in events:
        if event["kind"] is wire.Identified and event["scope"] == scope:
            right = {"thread": "thread_", "run": "run_", "request": "req_"}
            unified = [event[kind] for kind, start in right.items() if event[kind].startswith(start)]
            if len({id_.split("_")[-2] for id_ in unified}) > 1:
                found.add(event["request"] or (event["thread"], event["run"]))
    return len(found)


@given(events=EVENTS, chat=FORMATS, job=FORMATS, show_ids=st.booleans())
def test_checks_are_those_of_the_oracle(
    events: list[dict[str, Any]], chat: dict[str, IdFormat], job: dict[str, IdFormat], *, show_ids: bool
) -> None:
    book = Book(show_ids=show_ids, scopes={"job": ScopeRules("job", id_formats=job)}, id_formats=chat)
    for event in events:
        fields = {name: event[name] for name in ("session", "user", "key", "request", "scope")}
        if event["kind"] is wire.Identified:
            fields |= {"thread": event["thread"], "run": event["run"]}
        book.tell(event["kind"], event["at_s"], **fields)
        book.advance(event["then_s"])
    for scope, formats in {"chat": chat, "job": job}.items():
        totals = book.judged(scope)
        assert nonzero(totals.ids_checked) == expected_checks(events, scope, formats)
        assert totals.id_mismatches == expected_mismatches(events, scope)
