"""Values of columns as the texts that events carry: users, reasons, generations, and what JSON holds."""

import json
from collections.abc import Mapping
from enum import Enum
from typing import Final
from uuid import UUID

from session_exporter.core.scopes import END_REASONS
from session_exporter.identity import SHORT_CHARS, canonical_id

_REASONS: Final = frozenset(END_REASONS)
_WORDS_IN_PATH_MAX: Final = 16
_UUID_CHARS: Final = (32, 36)
# What serves as an id as it is, and what serves as none.
_USUAL: Final = (str, int, UUID, bytes, float, Mapping, list, tuple, set)


def end_reason(value: object) -> str:
    """The end reason that a value names; `""` when it names none."""
    if isinstance(value, Enum):
        return end_reason(value.name) or ("" if isinstance(value.value, Enum) else end_reason(value.value))
    reason = value.lower() if isinstance(value, str) else ""
    return reason if reason in _REASONS else ""


def plain_text(value: object) -> str:
    """A value of any type as text, `""` for NULL."""
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, str | int | UUID | bytes):
        return canonical_id(str(value).lower() if isinstance(value, bool) else value)
    return canonical_id(str(value))


def user_text(value: object) -> str:
    """A user's id as text, `""` for NULL."""
    if type(value) is str and len(value) <= SHORT_CHARS and value.isascii():
        return value
    return canonical_id(id_value(value), "user")


def uuid_text(text: str) -> str:
    """The one text of a UUID, which some databases keep with hyphens and some without; others as they are."""
    if len(text) not in _UUID_CHARS:
        return text
    try:
        return str(UUID(text))
    except ValueError:
        return text


def id_value(value: object) -> object:
    """What the text of an id is made of: a value of another class than ids usually have stands for its own text.

    Columns may be of types that the application, or a library of ids, has made: ULID and the like. A value whose class
    says nothing of its text is left as it is, for nobody knows what it is called elsewhere.
    """
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, _USUAL):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    return str(value) if type(value).__str__ is not object.__str__ else value


def inside(value: object, path: str) -> object:
    """What a JSON value has at a path of keys joined by dots; None when it has nothing there."""
    if isinstance(value, str | bytes | bytearray | memoryview):
        try:
            value = json.loads(bytes(value) if isinstance(value, memoryview) else value)
        except ValueError:
            return None
    for word in path.split(".", _WORDS_IN_PATH_MAX):
        if isinstance(value, Mapping):
            value = value.get(word)
        elif isinstance(value, list | tuple) and word.isdigit() and int(word) < len(value):
            value = value[int(word)]
        else:
            return None
    return value
