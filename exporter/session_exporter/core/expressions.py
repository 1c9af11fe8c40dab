"""Whether a regular expression is quick on every text, however hostile.

The `re` module tries one way after another, and nothing can interrupt it. An expression is quick when there are few
ways: at most 2 ** `WAYS_BITS_MAX` on a text of 256 characters, each as long as the text at most. Where the next
character decides how to go on, there is one way only. Where it does not, a repetition has as many as the text has
characters, and a repetition of such a choice has too many to count.
"""

import re
from importlib import import_module
from math import ceil, log2
from typing import Any, Final, NamedTuple

from session_exporter.core.events import ID_BYTES_MAX

# Two repetitions of whatever length: mostly a fraction of a millisecond, some tens of milliseconds at the very worst.
WAYS_BITS_MAX: Final = 16

_OTHERS: Final = 128  # stands for every character that is not ASCII
_CHARACTERS: Final = frozenset(range(_OTHERS + 1))
_CLASSES: Final = {
    "DIGIT": frozenset(b"0123456789"),
    "SPACE": frozenset(b" \t\n\r\f\v"),
    "WORD": frozenset(code for code in range(_OTHERS) if chr(code).isalnum() or chr(code) == "_"),
}
_REPETITIONS: Final = frozenset({"MAX_REPEAT", "MIN_REPEAT"})
_ASSERTIONS: Final = frozenset({"ASSERT", "ASSERT_NOT"})
_ENCLOSED: Final = _ASSERTIONS | {"ATOMIC_GROUP", "POSSESSIVE_REPEAT"}
_BEGINNINGS: Final = frozenset({"AT_BEGINNING", "AT_BEGINNING_STRING"})


class _SlowError(Exception):
    """The text says what makes the expression slow."""


class _Part(NamedTuple):
    """What is known of a part of an expression.

    Attributes:
        first: With which characters it can begin.
        may_be_empty: Whether it can match nothing.
        bits: Ways in which it can match, as a power of two.
    """

    first: frozenset[int]
    may_be_empty: bool
    bits: int


_NOTHING: Final = _Part(frozenset(), may_be_empty=True, bits=0)


def slowness(pattern: str) -> str:
    """Say what makes an expression slow on some texts; `""` when it is quick on all.

    Args:
        pattern: An expression that compiles.
    """
    parsed = import_module("re._parser").parse(pattern, re.ASCII)
    try:
        bits = _sequence(list(parsed), frozenset(), looped=False).bits
    except _SlowError as slow:
        return str(slow)
    bits += 0 if _is_anchored(list(parsed)) else _bits(ID_BYTES_MAX)
    return "" if bits <= WAYS_BITS_MAX else "its repetitions match the same characters as what follows them"


def _sequence(items: list[Any], follow: frozenset[int], *, looped: bool) -> _Part:
    """Look at a sequence from its end; `follow` can come after it, and `looped` says that it is itself repeated."""
    found = _NOTHING
    for op, argument in reversed(items):
        after = found.first | follow if found.may_be_empty else found.first
        part = _part(str(op), argument, after, looped=looped)
        first = part.first | found.first if part.may_be_empty else part.first
        found = _Part(first, part.may_be_empty and found.may_be_empty, part.bits + found.bits)
    return found


def _part(op: str, argument: Any, follow: frozenset[int], *, looped: bool) -> _Part:
    if op in _REPETITIONS:
        return _repetition(argument, follow, looped=looped)
    if op == "BRANCH":
        return _branch(argument[1], follow, looped=looped)
    if op == "SUBPATTERN":
        return _sequence(list(argument[3]), follow, looped=looped)
    if op in _ENCLOSED:
        return _enclosed(op, argument, looped=looped)
    if op.startswith("GROUPREF"):
        raise _SlowError("it refers to what a group has matched")
    return _NOTHING if op in {"AT", "FAILURE"} else _Part(_characters(op, argument), may_be_empty=False, bits=0)


def _enclosed(op: str, argument: Any, *, looped: bool) -> _Part:
    """What is left for good once it has matched: its own ways are tried again only where it is repeated."""
    body = argument if op == "ATOMIC_GROUP" else argument[-1]
    part = _sequence(list(body), frozenset(), looped=False)
    bits = part.bits
    if bits and (looped or op == "POSSESSIVE_REPEAT"):
        bits += _bits(ID_BYTES_MAX)
    if op in _ASSERTIONS:
        return _NOTHING._replace(bits=bits)
    may_be_empty = part.may_be_empty or (op == "POSSESSIVE_REPEAT" and not argument[0])
    return _Part(part.first, may_be_empty, bits)


def _repetition(argument: Any, follow: frozenset[int], *, looped: bool) -> _Part:
    least, most, body = int(argument[0]), min(int(argument[1]), ID_BYTES_MAX), list(argument[2])
    begin = _sequence(body, follow, looped=True).first if most > 1 else frozenset()
    part = _sequence(body, follow | begin, looped=looped or most > 1)
    bits = part.bits
    if least < most and part.first & follow:
        bits += _choice(most - least + 1, looped=looped)
    return _Part(part.first, part.may_be_empty or not least, bits)


def _branch(alternatives: list[Any], follow: frozenset[int], *, looped: bool) -> _Part:
    parts = [_sequence(list(each), follow, looped=looped) for each in alternatives]
    firsts = [part.first | follow if part.may_be_empty else part.first for part in parts]
    seen = [frozenset[int]().union(*firsts[:place]) for place in range(len(firsts))]
    bits = sum(part.bits for part in parts)
    if any(first & before for first, before in zip(firsts, seen, strict=True)):
        bits += _choice(len(parts), looped=looped)
    first = frozenset[int]().union(*(part.first for part in parts))
    return _Part(first, any(part.may_be_empty for part in parts), bits)


def _choice(ways: int, *, looped: bool) -> int:
    if looped:
        raise _SlowError("a repetition repeats what can match the same characters in several ways")
    return _bits(ways)


def _bits(ways: int) -> int:
    return ceil(log2(min(ways, ID_BYTES_MAX)))


def _characters(op: str, argument: Any) -> frozenset[int]:
    """The characters that one item matches, in either case: an expression may say that it ignores case."""
    if op == "LITERAL":
        return _either_case(argument, argument)
    if op == "IN":
        found = frozenset[int]().union(*(_characters(str(each), value) for each, value in argument))
        return _CHARACTERS - _strictly(argument) if str(argument[0][0]) == "NEGATE" else found
    if op == "RANGE":
        return _either_case(*argument)
    if op == "CATEGORY":
        name = str(argument).removeprefix("CATEGORY_")
        return _CHARACTERS - _CLASSES[name.removeprefix("NOT_")] if name.startswith("NOT_") else _CLASSES[name]
    return _CHARACTERS  # ANY, NOT_LITERAL, NEGATE


def _strictly(members: list[Any]) -> frozenset[int]:
    """The ASCII characters that a set names as they are."""
    found: set[int] = set()
    for op, argument in members:
        if str(op) == "LITERAL":
            found.add(argument)
        elif str(op) == "RANGE":
            found.update(range(argument[0], min(argument[1], _OTHERS - 1) + 1))
        elif str(op) == "CATEGORY":
            found |= _characters("CATEGORY", argument)
    return frozenset(found) - {_OTHERS}


def _either_case(low: int, high: int) -> frozenset[int]:
    codes = set(range(low, min(high, _OTHERS - 1) + 1))
    codes |= {ord(turned) for code in codes for turned in (chr(code).lower(), chr(code).upper())}
    return frozenset(codes | {_OTHERS} if high >= _OTHERS else codes)


def _is_anchored(items: list[Any]) -> bool:
    """Whether an expression can match at the beginning only, so that no other place is tried."""
    if not items:
        return False
    op, argument = items[0]
    if str(op) == "SUBPATTERN":
        return _is_anchored(list(argument[3]))
    if str(op) == "BRANCH":
        return all(_is_anchored(list(each)) for each in argument[1])
    return str(op) == "AT" and str(argument) in _BEGINNINGS
