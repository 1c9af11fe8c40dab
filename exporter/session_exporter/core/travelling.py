"""Ids between machines: only their digests travel, as texts of a form that no hook writes.

Whoever forwards events and whoever counts them share one key, so that an id has one digest everywhere.
"""

from binascii import Error, a2b_base64, b2a_base64
from typing import Final

from session_exporter.core.pseudonyms import DIGEST_BYTES, Pseudonyms

MARK: Final = "~"
TEXT_CHARS: Final = len(MARK) + DIGEST_BYTES * 4 // 3


def text_of(digest: bytes) -> str:
    """How a digest travels: `~` and 20 characters; `""` for that of no id."""
    return MARK + b2a_base64(digest, newline=False).decode("ascii") if digest else ""


class TravelledNames(Pseudonyms):
    """What `Pseudonyms` is where ids arrive as the texts of their digests; any other text is digested as ever."""

    def digest(self, identifier: str) -> bytes:
        """The digest that a text stands for, else that of the text."""
        # Padding would stand for a shorter digest, which nobody makes.
        if len(identifier) == TEXT_CHARS and identifier.startswith(MARK) and not identifier.endswith("="):
            try:
                return a2b_base64(identifier[len(MARK) :], strict_mode=True)
            except (Error, ValueError):
                return super().digest(identifier)
        return super().digest(identifier)
