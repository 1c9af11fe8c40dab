r"""Patterns of id formats: which ones may be declared, and how an id is searched for one.

Strangers choose the ids that the sidecar classifies. RE2 takes time in proportion to an id, whatever the expression;
`re` tries one way after another, and nothing can interrupt it. So the sidecar needs RE2. An application needs no more
than `re`: it reads the same configuration and classifies nothing, but for the ids of its own tests. Every expression
has to be one of both, so that what the sidecar accepts no application refuses.
"""

import re
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

PRESETS: Final = ("uuid", "unified")

# A bare word is a misspelt preset ("unifed") and not an expression; it would make every id invalid.
_BARE_WORD: Final = re.compile(r"\A[A-Za-z0-9]*\Z")
# Python counts from 0, and RE2 takes it for text.
_COUNT_WITHOUT_LEAST: Final = re.compile(r"\{,[0-9]*\}")
_NOT_IN_RE2: Final = "unknown to RE2, which has no look-around, back-references, atomic groups or counts above 1000"
# As many as RE2's bindings keep themselves; and how much one may take with all that it builds, which is mostly some kB.
_KEPT_MAX: Final = 128
_MEMORY_BYTES_MAX: Final = 1 << 20


def pattern_fault(pattern: str) -> str:
    """Say what makes a pattern unfit for ids that strangers choose; `""` when nothing does.

    An expression that RE2 does not know has no fault where RE2 is not installed.
    """
    if pattern in PRESETS:
        return ""
    if _BARE_WORD.match(pattern):
        return f"neither a preset ({', '.join(PRESETS)}) nor an expression"
    return _fault_for_re(pattern) or _fault_for_re2(pattern)


@lru_cache(_KEPT_MAX)
def search_of(pattern: str) -> Callable[[str], object]:
    r"""Give what searches an id for an expression; `\d` and `\w` mean ASCII.

    Args:
        pattern: An expression without a fault.

    Returns:
        A function of an id that can be encoded; None when the expression is not found.
    """
    if (linear := _linear(pattern)) is None:
        return re.compile(pattern, re.ASCII).search
    search: Callable[[bytes], object] = linear.search
    return lambda id_: search(id_.encode())  # given text, it would also count the characters before what it finds


def _fault_for_re(pattern: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            re.compile(pattern, re.ASCII)
    except FutureWarning as warning:
        return f"ambiguous: {warning}"
    except (re.error, ValueError, OverflowError, RecursionError) as error:
        return f"no regular expression: {error}"
    count = _COUNT_WITHOUT_LEAST.search(pattern)
    return f"ambiguous: {count[0]} may be a count or text; for a count write {{0{count[0][1:]}" if count else ""


def _fault_for_re2(pattern: str) -> str:
    try:
        _linear(pattern)
    except ValueError as error:
        return f"{_NOT_IN_RE2}: {error}"
    return ""


def _linear(pattern: str) -> Any:
    """The expression as RE2 compiles it; None where RE2 is not installed.

    Raises:
        ValueError: RE2 does not know something of it.
    """
    try:
        import re2  # noqa: PLC0415 - of the sidecar's extra, and few configurations declare an expression
    except ImportError:
        return None
    options = re2.Options()
    options.log_errors = False  # to stderr; what is wrong is raised as well
    options.never_capture = True  # whether it is found is all that counts
    options.max_mem = _MEMORY_BYTES_MAX
    # `never_nl` and `dot_nl` make no difference: an id with a newline is invalid before anything is searched for.
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise ValueError(str(error.args[0], "utf-8", "replace")) from error
