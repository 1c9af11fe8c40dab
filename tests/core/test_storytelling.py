"""The story of an incident, word for word, and of documents that are no incidents at all.

`UPDATE_GOLDEN=1 pytest tests/core/test_storytelling.py` writes the stories down as they are now.
"""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tales import document_of
from tales_of_all import TALES

from session_exporter.core.stories.aliases import Aliases
from session_exporter.core.storytelling import COLUMNS, tell_story

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", TALES)
def test_a_story_is_told_word_for_word(name: str) -> None:
    text = tell_story(document_of(name)) + "\n"
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_every_golden_story_has_its_tale() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(TALES)


@pytest.mark.parametrize("name", TALES)
def test_a_story_fits_a_terminal_and_marks_its_own_moment_once(name: str) -> None:
    lines = tell_story(document_of(name)).splitlines()
    assert max(map(len, lines)) <= COLUMNS
    assert len([line for line in lines if line.startswith("  > ")]) == 1


@pytest.mark.parametrize("name", TALES)
def test_the_explanation_of_the_interface_has_ids_where_the_story_has_short_names(name: str) -> None:
    document = document_of(name)
    cause = document["explanation"]["cause"]
    assert not set(re.findall(r"\w+", cause)) & {"A", "B", "C", "r1", "r2", "r3", "w1", "w2", "u1", "u2"}
    assert document["explanation"]["decided"] == ("(the evidence does not decide)" not in tell_story(document))


@pytest.mark.parametrize("name", TALES)
def test_a_narrow_terminal_breaks_nothing_but_call_sites(name: str) -> None:
    wide, narrow = (tell_story(document_of(name), columns=columns) for columns in (COLUMNS, 60))
    assert all(len(line) <= 60 or ".py:" in line for line in narrow.partition("\n\nTimeline")[0].splitlines()[1:])
    assert sorted(narrow.split()) == sorted(wide.split())


# Documents of another version, of another program, or of somebody who means harm.


def test_an_incident_of_an_older_version_is_told_from_what_it_says() -> None:
    document = document_of("two_workers")
    del document["timeline"], document["explanation"]
    text = tell_story(document)
    assert "Two workers, w1 and w2, created A and B 116.2 ms apart" in text
    assert "created B  r2  w2" in text
    assert "Other events were not kept." in text


def test_a_document_without_anything_is_told() -> None:
    assert tell_story({}).splitlines()[0] == "?: incident, at an unknown time"


def test_nothing_in_a_document_reaches_the_terminal_as_it_is() -> None:
    evil = "\x1b[2J\u202e\r\nroot"
    text = tell_story(poisoned(document_of("three_sessions_of_one_request"), evil))
    assert text.isprintable() or all(char.isprintable() or char == "\n" for char in text)
    assert "\\x1b[2J\\u202e\\r\\nroot" in text


def poisoned(value: Any, evil: str) -> Any:
    match value:
        case dict():
            return {
                name: each if name in ("kind", "at", "cause") else poisoned(each, evil) for name, each in value.items()
            }
        case list():
            return [poisoned(each, evil) for each in value]
        case str():
            return f"{value}{evil}"
    return value


def test_a_timeline_without_end_is_told_by_its_last_events() -> None:
    step = {"at": "2027-01-15T08:00:00Z", "kind": "reused", "session": "s:1"}
    assert len(tell_story({"timeline": [step] * 100_000}).splitlines()) < 600


def test_sessions_are_called_a_to_z_and_then_like_columns_of_a_spreadsheet() -> None:
    aliases = Aliases()
    names = [aliases.session(f"s{number}") for number in range(703)]
    assert [names[index] for index in (0, 25, 26, 27, 51, 52, 701, 702)] == [
        "A", "Z", "AA", "AB", "AZ", "BA", "ZZ", "AAA"
    ]  # fmt: skip


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def fields(*samples: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Documents with some of the fields of the samples, each either as there or any JSON."""
    found: dict[str, list[Any]] = {}
    for sample in samples:
        for name, value in sample.items():
            found.setdefault(name, []).append(value)
    return st.fixed_dictionaries({}, optional={name: st.sampled_from(values) | JSON for name, values in found.items()})


DOCUMENTS = [document_of(name) for name in TALES]
STEPS = [step for document in DOCUMENTS for step in document["timeline"]]


@settings(max_examples=200)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "document": fields(*DOCUMENTS),
            "timeline": st.lists(fields(*STEPS) | JSON, max_size=6),
            "creates": st.lists(fields(*(each for one in DOCUMENTS for each in one.get("creates", ()))), max_size=4),
        },
    )
)
def test_any_document_whatsoever_gives_a_text(drawn: dict[str, Any]) -> None:
    text = tell_story({**drawn.pop("document", {}), **drawn})
    assert text
    assert all(char.isprintable() or char == "\n" for char in text)
