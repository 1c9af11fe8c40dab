"""Text that is safe to show, wherever it came from.

Ids, call sites and names come from applications and their users: a control character in one of them could move the
cursor, set colours, or reverse the reading order of a line. Nothing unprintable is shown.
"""

from typing import Final

FIELD_CHARS_MAX: Final = 256


def inert(text: str, chars_max: int = FIELD_CHARS_MAX) -> str:
    r"""Make what is unprintable visible (`\x1b`, `\u202e`) and cut what is longer than any honest field."""
    cut = text if len(text) <= chars_max else text[: chars_max - 3] + "..."
    if cut.isprintable():
        return cut
    return "".join(char if char.isprintable() else _escaped(char) for char in cut)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
