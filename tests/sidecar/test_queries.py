"""Query parameters and the scrape timeout: what is read, and what is said of the rest."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from session_exporter.core.incidents import INCIDENT_KINDS
from session_exporter.core.scopes import CAUSES
from session_exporter.errors import QueryError
from session_exporter.sidecar import queries


def kind(query: dict[str, str]) -> str | None:
    return queries.word(query, "kind", INCIDENT_KINDS)


@pytest.mark.parametrize(
    ("read", "query", "expected"),
    [
        (queries.since_s, {}, 3600.0),
        (queries.since_s, {"since": "1s"}, 1.0),
        (queries.since_s, {"since": "1h30m"}, 5400.0),
        (queries.since_s, {"since": "31d"}, 2_678_400.0),
        (queries.scope, {}, None),
        (queries.scope, {"scope": "conversation"}, "conversation"),
        (queries.limit, {}, 100),
        (queries.limit, {"limit": "1"}, 1),
        (queries.limit, {"limit": "1000"}, 1000),
        (kind, {}, None),
        (kind, {"kind": "context_loss"}, "context_loss"),
        (kind, {"kind": "invalid_id"}, "invalid_id"),
    ],
)
def test_a_parameter_has_its_value_or_its_default(
    read: Callable[[dict[str, str]], object], query: dict[str, str], expected: object
) -> None:
    assert read(query) == expected


@pytest.mark.parametrize(
    ("read", "name", "text", "wanted"),
    [
        *(
            (queries.since_s, "since", text, "1s to 31d")
            for text in ("", "3600", "999ms", "31d1us", "-1h", "1h 2m", "٣s")
        ),
        *((queries.scope, "scope", text, "name of a scope") for text in ("", "s" * 257)),
        *(
            (queries.limit, "limit", text, "1 to 1000")
            for text in ("", "0", "1001", "-1", "1.5", "1_0", "٣", "9" * 5000)
        ),
        *((kind, "kind", text, "rapid_duplicate_create, context_loss") for text in ("", "other", "Context_Loss")),
    ],
)
def test_a_wrong_parameter_is_named_with_its_value_and_what_was_expected(
    read: Callable[[dict[str, str]], object], name: str, text: str, wanted: str
) -> None:
    with pytest.raises(QueryError) as refused:
        read({name: text})
    message = str(refused.value)
    assert message.startswith(f"{name}: {ascii(text)[:20].rstrip(chr(39))}")
    assert wanted in message
    assert len(message) < 250


def test_a_misspelt_or_repeated_parameter_is_refused() -> None:
    with pytest.raises(QueryError, match="unknown parameter 'sicne': expected since, scope"):
        queries.only(MultiDict({"sicne": "1h"}), ("since", "scope"))
    with pytest.raises(QueryError, match="since: given more than once"):
        queries.only(MultiDict([("since", "1h"), ("since", "2h")]), ("since", "scope"))


@given(st.text())
def test_every_text_is_read_or_refused_in_one_printable_line(text: str) -> None:
    refused = []
    for read, name in ((queries.since_s, "since"), (queries.scope, "scope"), (queries.limit, "limit"), (kind, "kind")):
        try:
            read({name: text})
        except QueryError as error:
            refused.append(str(error))
    assert all(message.isprintable() for message in refused)


@given(st.one_of(st.none(), st.text(), st.floats().map(str)))
def test_the_scrape_timeout_is_always_within_its_bounds(header: str | None) -> None:
    assert 0.1 <= queries.scrape_timeout_s(header) <= 120.0


def test_causes_are_asked_for_by_their_label_values() -> None:
    assert [queries.word({"cause": cause}, "cause", CAUSES) for cause in CAUSES] == list(CAUSES)
