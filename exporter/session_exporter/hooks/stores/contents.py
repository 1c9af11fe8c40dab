"""What a session's value says: whose it is, and whether it is empty."""

import json
from collections.abc import Mapping
from typing import Any, Final

from session_exporter.identity import IdError, canonical_id

# A larger value is not read: that would take longer than the command.
VALUE_BYTES_MAX: Final = 262_144

_EMPTY: Final = frozenset({b"", b"{}", b"[]", b'""', b"null"})
_EMPTY_BYTES_MAX: Final = 16  # with white space around it


def is_empty(value: object) -> bool:
    """Whether it is an empty text or the JSON of nothing."""
    raw = _raw(value)
    return raw is not None and len(raw) <= _EMPTY_BYTES_MAX and raw.strip() in _EMPTY


def user_in(value: object, path: tuple[str, ...]) -> str:
    """The user's id at a path into a JSON value, or into the fields of a hash; `""` when it is not there.

    Args:
        value: As written or read; the fields of a hash by name, the value of each plain or JSON.
        path: Keys, outermost first.
    """
    if not path or value is None:
        return ""
    if isinstance(value, Mapping):
        field = value.get(path[0])
        found = field if len(path) == 1 else _at(_decoded(field), path[1:])
    else:
        found = _at(_decoded(value), path)
    try:
        return canonical_id(found, "user")
    except IdError:  # a value that is nobody's id
        return ""


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _decoded(value: object) -> Any:
    raw = _raw(value)
    if raw is None or len(raw) > VALUE_BYTES_MAX:
        return None
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):  # pickled, signed, or plain
        return None


def _raw(value: object) -> bytes | None:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else None
