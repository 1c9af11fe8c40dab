"""An expression is searched for in time that no id decides, and means the same with and without RE2."""

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.core import idpatterns
from session_exporter.core.idpatterns import pattern_fault, search_of

UNKNOWN = "unknown to RE2, which has no look-around, back-references, atomic groups or counts above 1000: "
NOT_IN_RE2 = {
    "^(?=t-)": f"{UNKNOWN}invalid perl operator: (?=",
    "^(?<!t)-": f"{UNKNOWN}invalid perl operator: (?<!",
    r"^(a+)-\1$": rf"{UNKNOWN}invalid escape sequence: \1",
    "^[a-z]++$": f"{UNKNOWN}bad repetition operator: ++",
    "^a{1001}$": f"{UNKNOWN}invalid repetition size: {{1001}}",
}
# What expressions of ids are made of; some of it is broken, alone or beside something else.
PIECES = (
    *(
        "a",
        "K",
        "-",
        "_",
        ".",
        ",",
        "0",
        "é",
        " ",
        "^",
        "$",
        "|",
        "(",
        "(?:",
        "(?i:",
        "(?P<n>",
        ")",
        "*",
        "+",
        "?",
        "*?",
    ),
    *(
        "[a-z]",
        "[^a-z]",
        r"[\w-]",
        "[]a]",
        "[^]a]",
        "[[",
        "[é-ü]",
        r"\d",
        r"\w",
        r"\W",
        r"\s",
        r"\S",
        r"\b",
        r"\A",
        r"\x41",
    ),
    *(
        "{",
        "}",
        "{2}",
        "{1,3}",
        "{2,}",
        "{,2}",
        "{,}",
        r"\.",
        r"\-",
        r"\101",
        "(?i)",
        "(?s)",
        "(?m)",
        "[[:alpha:]]",
        "||",
    ),
)
# Without the two characters beyond ASCII that RE2 takes for a K and an s where case is ignored.
IDS = st.text("aAbKkxz-_.,019é中😀 {}:[]", min_size=1, max_size=6)


@pytest.mark.parametrize("pattern", ["uuid", "unified", "^u-[0-9]+$", ".*x", "^(a+)+$", r"^[\w-]{1,128}$", "é{2}-"])
def test_a_pattern_that_is_quick_on_every_id_has_no_fault(pattern: str) -> None:
    assert pattern_fault(pattern) == ""


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("unifed", "neither a preset (uuid, unified) nor an expression"),
        ("", "neither a preset (uuid, unified) nor an expression"),
        ("^(", "no regular expression: missing ), unterminated subpattern at position 1"),
        ("a{99999999999999}", "no regular expression: the repetition number is too large"),
        ("^[[]", "ambiguous: Possible nested set at position 2"),
        ("^u{,3}$", "ambiguous: {,3} may be a count or text; for a count write {0,3}"),
        *NOT_IN_RE2.items(),
    ],
)
def test_a_pattern_that_is_unfit_for_the_ids_of_strangers_says_why(pattern: str, fault: str) -> None:
    assert pattern_fault(pattern) == fault


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join), st.lists(IDS, max_size=8))
def test_what_has_no_fault_means_to_re2_what_it_means_to_python(pattern: str, ids: list[str]) -> None:
    if pattern not in idpatterns.PRESETS and not pattern_fault(pattern):
        search, expected = search_of(pattern), re.compile(pattern, re.ASCII)
        assert [id_ for id_ in ids if search(id_)] == [id_ for id_ in ids if expected.search(id_)]


@pytest.mark.parametrize("pattern", [r"\d", r"\w", r"[\d]", r"[^\W]"])
def test_classes_mean_ascii(pattern: str) -> None:
    assert not search_of(pattern)("١٢é")


def test_no_more_expressions_are_kept_than_a_bounded_number() -> None:
    for number in range(500):
        assert search_of(f"^{number}-")(f"{number}-")
    assert search_of.cache_info().currsize == search_of.cache_info().maxsize < 500


def test_re2_is_imported_once_an_expression_is_declared_and_not_for_a_preset() -> None:
    program = (
        "import sys; from session_exporter.core.ids import IdFormat\n"
        "for pattern in ('uuid', '^u-'): print(IdFormat(pattern).classify('u-1'), 're2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["invalid", "False", "canonical", "True"]


@pytest.mark.parametrize("pattern", NOT_IN_RE2)
def test_without_re2_an_expression_is_what_it_is_to_python(monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    search_of.cache_clear()
    assert pattern_fault(pattern) == ""
    assert bool(search_of(pattern)("t-1")) == bool(re.search(pattern, "t-1"))
    search_of.cache_clear()
