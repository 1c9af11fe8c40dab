"""The text of an id: one for every type that applications use, bounded, and never a placeholder."""

import re
from typing import Final
from uuid import UUID

from session_exporter.core.events import ID_BYTES_MAX

# What programs write where an id is missing; compared in lower case.
PLACEHOLDERS: Final = frozenset(
    {"none", "null", "nil", "undefined", "nan", "n/a", "unknown", "placeholder", "todo", "tbd", "[object object]"}
    | {"00000000-0000-0000-0000-000000000000"}
)
_UNFILLED_TEMPLATE: Final = re.compile(r"\A(?:\$?\{+ ?[A-Za-z_.]+ ?\}+|<[A-Za-z_ ]+>|%\([A-Za-z_]+\)s)\Z")
_TEMPLATE_STARTS: Final = frozenset("${<%")

_SHOWN_CHARS: Final = 64


def canonical_id(value: object) -> str:
    """Give the text of an id.

    Args:
        value: Text, an int, a UUID, bytes (UTF-8, or else in hexadecimal), or None for "not known", which is `""`.

    Returns:
        At most 256 bytes of UTF-8; what is longer is replaced by `blake2b:` and 32 hexadecimal digits.

    Raises:
        TypeError: The value is nothing that serves as an id; a bool is none.
    """
    # First what nearly every id is: it makes no difference but in time.
    text = value if type(value) is str else _id_text(value)
    if len(text) <= ID_BYTES_MAX and text.isascii():
        return text
    encoded = text.encode("utf-8", "backslashreplace")
    if len(encoded) > ID_BYTES_MAX:
        from hashlib import blake2b  # noqa: PLC0415 - it loads OpenSSL, and few ids are as long as this

        return f"blake2b:{blake2b(encoded, digest_size=16).hexdigest()}"
    return encoded.decode()


def required_id(name: str, value: object) -> str:
    """Give the text of an id that has to be one.

    Args:
        name: What the id is called, for the message.
        value: As for `canonical_id`.

    Raises:
        ValueError: It is empty, blank, or a placeholder such as `None` or `undefined`.
        TypeError: As for `canonical_id`.
    """
    text = canonical_id(value)
    word = text.strip().lower()
    if not word:
        raise ValueError(f"{name} must not be empty, got {shown(value)}")
    if word in PLACEHOLDERS or (word[0] in _TEMPLATE_STARTS and _UNFILLED_TEMPLATE.match(word)):
        raise ValueError(f"{name} must be an id, got the placeholder {shown(text)}")
    return text


def shown(value: object) -> str:
    """What a message shows of a value that may be hostile: escaped, and at most some 64 characters of it."""
    if not isinstance(value, str | bytes | int | None):
        return f"a {type(value).__name__}"
    if isinstance(value, int) and value.bit_length() > _SHOWN_CHARS:
        return f"an int of {value.bit_length()} bits"
    if isinstance(value, str | bytes) and len(value) > _SHOWN_CHARS:
        return f"{value[:_SHOWN_CHARS]!r}… ({len(value)} characters)"
    return repr(value)


def _id_text(value: object) -> str:
    match value:
        case str():
            return str.__str__(value)  # a text enumeration gives its value, not its name
        case None:
            return ""
        case bytes():
            return _text_of_bytes(value)
        case bool():
            pass
        case int():
            return int.__repr__(value)
        case UUID():
            return str(value)
    raise TypeError(f"an id must be text, bytes, an int or a UUID, got {shown(value)} ({type(value).__name__})")


def _text_of_bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()  # a UUID in a BINARY(16) column
