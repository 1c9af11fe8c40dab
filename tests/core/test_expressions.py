"""An expression that is taken for quick is quick: counted in steps, on texts made to be slow."""

import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.core.expressions import slowness

QUICK = [
    r"^u-[0-9]+$",
    r"^t-",
    r"-[0-9]+$",
    r"^thread_[a-z_]+_[0-9]{13}_[0-9]+_[0-9a-f]{8}$",
    r"^[\w-]+@[\w.-]+\.[a-z]+$",
    r"^(chat|call|voice)-\d+$",
    r"^[a-z]+(_[a-z]+)*_\d{13}$",
    r"^(?:[0-9a-f]{4}-){3}[0-9a-f]{4}$",
    r"^(a|ab)*$",
    r"^([a-z]++_)+$",
    r"^(?>a+)+$",
    r"^(?!t-)[a-z-]+$",
    r"(?i)^[0-9A-F]{8}$",
    r"^(?:one|two)$|^three-[^-]+-\S$",
    r".*x",
    r"^.*.*x$",
]
SLOW = [
    r"^(a+)+$",
    r"^(a*)*$",
    r"(a|a)*b",
    r"^(\w+\s?)*$",
    r"^(a?){100}$",
    r"^(?:.*a){12}$",
    r"^(([a-z])+.)+[A-Z]([a-z])+$",
    r"(?i)^([a-z]+[A-Z])*$",
    r"^(a|[^b]c)*$",
    r"^(\Wx|\Sy)*$",
    r"^((?=(a+b?)+c).a)*$",
    r"^(a{2,3}){9}$",
    r"^(é+[^a])*$",
]


@pytest.mark.parametrize("pattern", QUICK)
def test_what_ids_look_like_is_quick(pattern: str) -> None:
    assert slowness(pattern) == ""


@pytest.mark.parametrize("pattern", SLOW)
def test_a_repetition_of_what_can_match_in_several_ways_is_slow(pattern: str) -> None:
    assert slowness(pattern) == "a repetition repeats what can match the same characters in several ways"


@pytest.mark.parametrize("pattern", [r"^.*.*.*x", r".*.*x$", "a?" * 20 + "a" * 20, r"^(?>.*a+)++.*x"])
def test_repetitions_that_compete_for_the_same_characters_are_slow(pattern: str) -> None:
    assert slowness(pattern) == "its repetitions match the same characters as what follows them"


@pytest.mark.parametrize("pattern", [r"^(a+)-\1$", r"^(a)?b(?(1)c|d)$"])
def test_a_reference_to_a_group_is_slow(pattern: str) -> None:
    assert slowness(pattern) == "it refers to what a group has matched"


# The oracle: try one way after another, as the `re` module does, and count.

STEPS_MAX = 1 << 20
PATTERNS = st.recursive(
    st.sampled_from(["a", "b", "[ab]", "[^a]", ".", r"\W", "-", "a+", "[ab]*", ".+", r"\w+", "b{1,9}", "a?"]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "*+"])).map(lambda p: f"(?:{p[0]}){p[1]}"),
        inner.map(lambda part: f"(?>{part})"),
        inner.map(lambda part: f"(?={part})"),
    ),
    max_leaves=8,
)
TEXTS = ["a" * 40, "a" * 40 + "!", "ab" * 20 + "!", "-" * 40 + "é", "a-b" * 13 + "!", "b" * 39 + "a!"]


class Counted:
    """All ways in which an expression matches a text, and the steps to find that there is no more."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.steps = 0

    def ways(self, items: list[Any], at: int) -> Iterator[int]:
        self.steps += 1
        assert self.steps < STEPS_MAX, "an expression that was taken for quick is slow"
        if not items:
            yield at
            return
        for end in self.item(*items[0], at):
            yield from self.ways(items[1:], end)

    def item(self, op: Any, argument: Any, at: int) -> Iterator[int]:
        match str(op):
            case "MAX_REPEAT":
                yield from self.repeated(*argument, at, 0)
            case "POSSESSIVE_REPEAT":
                least, most, body = argument
                yield from self.possessed(int(least), int(most), list(body), at)
            case "BRANCH":
                for alternative in argument[1]:
                    yield from self.ways(list(alternative), at)
            case "SUBPATTERN":
                yield from self.ways(list(argument[3]), at)
            case "ATOMIC_GROUP":
                yield from self.first(list(argument), at)
            case "ASSERT":
                yield from (at for _ in self.first(list(argument[1]), at))
            case "AT":
                yield from [at] if at == (0 if "BEGINNING" in str(argument) else len(self.text)) else []
            case _:
                if at < len(self.text) and is_one_of(self.text[at], op, argument):
                    yield at + 1

    def first(self, items: list[Any], at: int) -> Iterator[int]:
        for end in self.ways(items, at):
            yield end
            return

    def repeated(self, least: Any, most: Any, body: Any, at: int, done: int) -> Iterator[int]:
        if done < int(most):
            for end in self.ways(list(body), at):
                if end > at or done < least:
                    yield from self.repeated(least, most, body, end, done + 1)
        if done >= least:
            yield at

    def possessed(self, least: int, most: int, body: list[Any], at: int) -> Iterator[int]:
        done = 0
        while done < most and (end := next(self.first(body, at), None)) is not None and (end > at or done < least):
            at, done = end, done + 1
        yield from [at] if done >= least else []


def is_one_of(char: str, op: Any, argument: Any) -> bool:
    match str(op):
        case "LITERAL" | "NOT_LITERAL":
            return (ord(char) == argument) == (str(op) == "LITERAL")
        case "CATEGORY":
            return (char.isascii() and char.isalnum()) == (str(argument) == "CATEGORY_WORD")
        case "IN":
            negated = str(argument[0][0]) == "NEGATE"
            return any(is_one_of(char, *each) for each in argument[negated:]) != negated
        case "RANGE":
            return argument[0] <= ord(char) <= argument[1]
        case other:
            assert other == "ANY"
            return True


@given(PATTERNS)
def test_what_is_taken_for_quick_takes_few_steps_on_hostile_texts(inner: str) -> None:
    pattern = f"^(?:{inner})$"
    if not slowness(pattern):
        parsed = list(import_module("re._parser").parse(pattern, re.ASCII))
        for text in TEXTS:
            assert any(Counted(text).ways(parsed, 0)) == bool(re.search(pattern, text, re.ASCII))
