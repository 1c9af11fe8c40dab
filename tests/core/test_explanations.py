"""The cause of an incident and what to change, from evidence alone."""

import re
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tales import document_of
from tales_of_all import TALES

from session_exporter.core.explanations import Explanation, explain
from session_exporter.core.incidents import INCIDENT_KINDS
from session_exporter.core.scopes import CAUSES, LOSS_REASONS, VIOLATIONS
from session_exporter.core.stories.advice import ADVICE

DOCUMENTS = {name: document_of(name) for name in TALES}


def explained(name: str, **changed: Any) -> Explanation:
    document = {**DOCUMENTS[name], **changed}
    return explain(document["kind"], document)


def advised(name: str) -> str:
    return " ".join(explained(name).advice)


@pytest.mark.parametrize("name", ADVICE)
def test_every_advice_is_given_in_a_golden_story(name: str) -> None:
    pattern = re.sub(r"\\\{\w+\\\}", ".*", re.escape(ADVICE[name]))
    given_by = [tale for tale in TALES if any(re.fullmatch(pattern, each) for each in explained(tale).advice)]
    assert given_by


@pytest.mark.parametrize("name", TALES)
def test_a_cause_is_one_sentence_and_every_advice_is_complete(name: str) -> None:
    explanation = explained(name)
    assert re.fullmatch(r"[A-Z0-9].*[^.]\.", explanation.cause) or explanation.cause.startswith("s:")
    assert not re.search(r"\. [A-Z]", explanation.cause)
    assert explanation.advice
    for sentence in (explanation.cause, *explanation.advice):
        assert not re.search(r"[{}]|  | ,|None|no known|a session (at|and|was)", sentence)


@pytest.mark.parametrize("name", TALES)
def test_the_detail_of_an_incident_explains_it_as_well_as_its_document(name: str) -> None:
    document = DOCUMENTS[name]
    detail = {key: value for key, value in document.items() if key not in ("id", "kind", "explanation")}
    assert explain(document["kind"], detail) == explained(name)


# What evidence there is, and what there is not.


def test_a_lookup_that_came_too_early_is_told_from_one_that_did_not_see() -> None:
    assert "found none, since it came 13.4 ms before" in explained("two_workers").cause
    assert "although s:03c2fa944b48 had been there for 76.6 ms, by the clocks of two hosts" in (
        explained("two_hosts_of_which_one_reads_a_replica").cause
    )


def test_who_called_is_named_where_everybody_calls_the_same_function() -> None:
    cause = explained("three_sessions_of_one_request").cause
    for caller in ("app/pipeline.py:31:Pipeline.run", "app/handlers.py:58:MessageHandler.handle"):
        assert caller in cause
    assert "app/sessions.py:47" not in cause


def test_the_first_of_a_request_is_told_to_pass_its_session_on() -> None:
    assert "Pass session_id on from app/pipeline.py:31:Pipeline.run to app/handlers.py:58" in (
        advised("three_sessions_of_one_request")
    )


@pytest.mark.parametrize("side", [0, -1], ids=["before", "after"])
def test_a_create_of_the_database_is_told_beside_one_of_the_application(side: int) -> None:
    creates = [dict(each) for each in DOCUMENTS["two_workers_without_lookups"]["creates"]]
    creates[side] |= {"worker": "watch", "call_sites": []}
    cause = explained("two_workers_without_lookups", creates=creates, timeline=[]).cause
    order = ("s:03c2fa944b48", "s:4d43e5afba42")
    assert cause.startswith(f"{order[side]} was created in the database, where no hook of the application saw it")
    assert f"200.0 ms {'before' if side == 0 else 'after'} {order[side + 1]} was created at app/" in cause


def test_a_request_that_is_known_on_one_side_only_decides_nothing() -> None:
    creates = [dict(each) for each in DOCUMENTS["two_requests_of_one_worker"]["creates"]]
    creates[0]["request"] = ""
    explanation = explained("two_requests_of_one_worker", creates=creates, timeline=[])
    assert "the request of one of them is not known" in explanation.cause
    assert not explanation.decided


def test_a_create_whose_place_nobody_remembers_decides_nothing() -> None:
    creates = [dict(each) for each in DOCUMENTS["two_workers"]["creates"]]
    creates[0] |= {"worker": "", "pid": 0, "replica": ""}
    explanation = explained("two_workers", creates=creates, timeline=[])
    assert "where one of them was created is not known any more" in explanation.cause
    assert not explanation.decided


def test_an_error_of_another_request_explains_no_second_create() -> None:
    error = {
        "at_us": DOCUMENTS["two_workers"]["timeline"][-1]["at"],
        "kind": "db_session",
        "label": "x",
        "request": "r",
    }
    assert explained("two_workers", db_error=error) == explained("two_workers")


def test_a_lookup_that_found_another_session_is_told_as_one() -> None:
    document = DOCUMENTS["two_workers"]
    timeline = [{**each, "session": "s:0123456789ab"} if not each["session"] else each for each in document["timeline"]]
    explanation = explained("two_workers", timeline=timeline)
    assert re.search(r"the lookup before (\S+) found s:0123456789ab, and not s:\w+\.$", explanation.cause)


def test_a_lookup_of_the_first_request_alone_says_nothing_of_the_second() -> None:
    second = DOCUMENTS["two_workers"]["creates"][-1]["request"]
    timeline = [
        each
        for each in DOCUMENTS["two_workers"]["timeline"]
        if (each["kind"], each["request"]) != ("looked_up", second)
    ]
    assert "no lookup was seen before" in explained("two_workers", timeline=timeline).cause


def test_a_session_created_in_the_database_beside_a_live_one_is_told() -> None:
    document = DOCUMENTS["an_active_session_is_replaced_and_not_ended"]
    explanation = explain("context_loss", {**document, "worker": "watch"})
    assert "was created in the database, unseen by any hook, and s:03c2fa944b48 was not ended" in explanation.cause


@pytest.mark.parametrize(
    ("kind", "detail"),
    [
        *(("rapid_duplicate_create", {"cause": cause}) for cause in (*CAUSES, "new", "")),
        *(("context_loss", {"reason": reason}) for reason in (*LOSS_REASONS, "new", "")),
        *(("isolation_violation", {"violation": kind}) for kind in (*VIOLATIONS, "new", "")),
        ("invalid_id", {}),
        ("new", {}),
    ],
)
def test_whatever_is_known_by_name_alone_is_explained(kind: str, detail: dict[str, str]) -> None:
    explanation = explain(kind, detail)
    assert explanation.cause.endswith(".")
    assert explanation.advice


@pytest.mark.parametrize("cause", [*CAUSES, "new"])
def test_creates_without_evidence_are_explained(cause: str) -> None:
    creates = [{"at_us": 1_000_000, "session": "s:1"}, {"at_us": 1_250_000, "session": "s:2"}]
    explanation = explain("rapid_duplicate_create", {"cause": cause, "creates": creates})
    assert "s:1" in explanation.cause
    assert "250.0 ms" in explanation.cause or cause == "same_request"


def test_words_and_numbers_of_the_wire_mean_the_same() -> None:
    document = DOCUMENTS["a_request_of_two_scopes_uses_another_session"]
    numbers = {"result": 0, "upsert": 1, "row": 2, "other_used": 0, "missed_by_user": 1, "missed_by_id": 2}
    timeline = [
        {**each, "note": {name: numbers.get(str(word), word) for name, word in each["note"].items()}}
        for each in document["timeline"]
    ]
    assert explain("context_loss", {**document, "timeline": timeline}) == explain("context_loss", document)


def test_every_kind_of_incident_has_a_tale() -> None:
    assert {document["kind"] for document in DOCUMENTS.values()} > set(INCIDENT_KINDS)
    assert {document.get("cause") for document in DOCUMENTS.values()} >= set(CAUSES)
    assert {document.get("reason") for document in DOCUMENTS.values()} >= set(LOSS_REASONS)
    assert {document.get("violation") for document in DOCUMENTS.values()} >= set(VIOLATIONS)


def some_of(names: Iterable[Any]) -> st.SearchStrategy[set[Any]]:
    """Any of these, in any number."""
    each = sorted(names)
    return st.sets(st.sampled_from(each)) if each else st.just(set())


@given(st.sampled_from(sorted(TALES)), st.data())
def test_no_part_of_the_evidence_is_needed_for_an_explanation(name: str, data: st.DataObject) -> None:
    document = DOCUMENTS[name]
    kept = {key: document[key] for key in data.draw(some_of(document))}
    for listing in {"timeline", "creates"} & set(kept):
        steps = data.draw(some_of(range(len(kept[listing]))))
        kept[listing] = [
            {key: kept[listing][step][key] for key in data.draw(some_of(kept[listing][step]))} for step in steps
        ]
    explanation = explain(document["kind"], kept)
    assert explanation.cause.endswith(".")
    assert explanation.advice
