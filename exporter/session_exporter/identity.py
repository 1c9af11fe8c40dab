"""Ids as applications give them, made into the texts that events carry."""

from typing import Final

from session_exporter.core.events import ID_BYTES_MAX
from session_exporter.core.idtext import canonical_id as _canonical_id
from session_exporter.errors import SessionExporterError

# UTF-8 takes at most four bytes per character: a text this short never needs to be measured.
SHORT_CHARS: Final = ID_BYTES_MAX // 4


class IdError(SessionExporterError, TypeError):
    """The application gave something that is no id; the message names argument and type, never the value."""


def canonical_id(value: object, name: str = "id") -> str:
    r"""Make an id into the one text that stands for it in every event.

    Args:
        value: A text (taken as it is), UUID or int (as text), bytes (as UTF-8, else in hexadecimal), or None (`""`).
        name: What the caller calls this argument; for the message.

    Returns:
        At most 256 bytes of UTF-8; a longer id is replaced by `blake2b:` and its digest in hexadecimal. Lone
        surrogates, which UTF-8 cannot hold, are written as `\udc80`.

    Raises:
        IdError: Anything else. A bool, float or container has a text as well, but that would be nobody's id.
    """
    if type(value) is str and len(value) <= SHORT_CHARS and value.isascii():
        return value
    try:
        return _canonical_id(_text(value) if isinstance(value, bytes) else value)
    except TypeError:
        raise IdError(f"{name} must be a str, UUID, int or bytes, not {type(value).__name__}") from None


def required_id(value: object, name: str) -> str:
    """Do what `canonical_id` does, and raise IdError when there is no id at all."""
    text = canonical_id(value, name)
    if not text:
        raise IdError(f"{name} must not be empty")
    return text


def _text(value: bytes) -> str:
    """Raw ids, such as a UUID in a BINARY(16) column, are best recognised in hexadecimal."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.hex()
