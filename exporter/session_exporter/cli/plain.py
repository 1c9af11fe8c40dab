"""Text that is safe to print, on terminals of any kind.

Ids, call sites and names come from applications and their users: a control character in one of them could move the
cursor, set colours, or reverse the reading order of a line. Nothing unprintable reaches a terminal.
"""

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Final

from session_exporter.core.plaintext import inert
from session_exporter.quantities import format_duration

_LINE_CHARS_MAX: Final = 2000
_LINES_MAX: Final = 50
_ASCII_LOCALES: Final = ("C", "POSIX")


@dataclass(frozen=True, slots=True)
class Marks:
    """The few characters of a report that not every terminal can show."""

    healthy: str = "✅"
    warning: str = "⚠️ "
    unknown: str = "❔"
    at_least: str = "≥"
    sparks: str = "▁▂▃▄▅▆▇█"


EMOJI: Final = Marks()
ASCII: Final = Marks(healthy="[ok]", warning="[!!]", unknown="[??]", at_least=">=", sparks="_.:-=+*#")


def inert_lines(message: str) -> str:
    """Make a message inert that may have several lines, such as all mistakes of a configuration."""
    return "\n".join(inert(line, _LINE_CHARS_MAX) for line in message.split("\n")[:_LINES_MAX])


def marks_for(encoding: str | None, environ: Mapping[str, str]) -> Marks:
    """Choose the marks a terminal can show.

    Args:
        encoding: The output stream's encoding.
        environ: The process's environment. Python writes UTF-8 even where the locale is declared to be C (PEP 538,
            PEP 540); somebody who declared it has a reason.

    Returns:
        ASCII when the encoding cannot hold the marks or the locale is explicitly C, emoji otherwise.
    """
    if _declared_ascii(environ):
        return ASCII
    try:
        "".join(astuple(EMOJI)).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return EMOJI


def _declared_ascii(environ: Mapping[str, str]) -> bool:
    if environ.get("LC_ALL"):
        return environ["LC_ALL"] in _ASCII_LOCALES
    # PEP 538: under LANG=C the interpreter itself sets LC_CTYPE=C.UTF-8, so that value says nothing.
    if environ.get("LC_CTYPE", "") in ("", "C.UTF-8", "C.utf8", "UTF-8"):
        return environ.get("LANG", "") in _ASCII_LOCALES
    return environ["LC_CTYPE"] in _ASCII_LOCALES


def encodable(text: str, encoding: str | None) -> str:
    """Replace what `encoding` cannot hold by escapes, so that printing never fails."""
    name = encoding or "ascii"
    try:
        return text.encode(name, "backslashreplace").decode(name)
    except LookupError:
        return text.encode("ascii", "backslashreplace").decode("ascii")


def window_text(seconds: float) -> str:
    """Write a window's length as it can be typed back: `1h`, `1h30m`, `7d`."""
    return format_duration(round(seconds * 1_000_000))


def ratio_text(ratio: float | None) -> str:
    """Write a ratio as a percentage with two places, rounded down: what is below a target never looks like it."""
    if ratio is None or not math.isfinite(ratio):
        return "n/a"
    return f"{math.floor(round(ratio * 10_000, 6)) / 100:.2f}%"


def target_text(target: float) -> str:
    """Write a target ratio as a percentage: `95%`, `99.5%`."""
    return f"{round(target * 100, 4):g}%"


def counted(count: int, noun: str, plural: str = "") -> str:
    """Write a count with its noun: `1 create`, `2 creates`."""
    return f"{count} {noun}" if count == 1 else f"{count} {plural or noun + 's'}"
