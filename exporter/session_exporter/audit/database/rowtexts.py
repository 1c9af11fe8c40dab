"""Ids of a table as texts: the same that hooks and the watch make of them."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from session_exporter.audit.database.subject import Subject
from session_exporter.columntexts import id_value, plain_text, uuid_text
from session_exporter.core.idtext import canonical_id

# What ORMs make of a UUID where a database has no type for it.
_UUID_CHARS = 32


class RowTexts:
    """Makes texts of what a table has."""

    def __init__(self, subject: Subject) -> None:
        self._prefix = subject.mapping.id_prefix
        self._has_uuids = [_is_uuid(column) for column in subject.ids]
        self._is_uuid_user = subject.user is not None and _is_uuid(subject.user)

    def session(self, values: Sequence[Any]) -> str:
        """A session's id."""
        texts = (_text(value, is_uuid=has) for value, has in zip(values, self._has_uuids, strict=True))
        return "/".join(texts).removeprefix(self._prefix)

    def user(self, value: Any) -> str:
        """A user's id."""
        return _text(value, is_uuid=self._is_uuid_user)

    def key(self, values: Sequence[Any]) -> str:
        """A device, app or thread; `""` for none."""
        return "/".join(map(plain_text, values))


def _is_uuid(column: Any) -> bool:
    return isinstance(column.type, sa.CHAR) and column.type.length == _UUID_CHARS


def _text(value: Any, *, is_uuid: bool) -> str:
    given = id_value(value)
    text = canonical_id(given if isinstance(given, str | int | bytes | None) else str(given))
    return uuid_text(text) if is_uuid else text
