"""The cause of an incident and what to change, from evidence alone."""

import re
from typing import Any

import pytest
from tales import document_of
from tales_of_all import TALES

from session_exporter.core.explanations import Explanation, explain
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
