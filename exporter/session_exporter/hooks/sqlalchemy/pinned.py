"""The sessions that a condition names by their ids."""

from collections.abc import Mapping
from typing import Any

from session_exporter.hooks.sqlalchemy.mapped import MappedTable, Record
from session_exporter.hooks.sqlalchemy.readings import UNKNOWN, Pin, Source, Where
from session_exporter.mappings import is_value_among


class PinnedIds:
    """Reads ids from the parameters of a statement whose condition names them.

    Args:
        table: The mapped table.
        where: The condition.

    Attributes:
        is_complete: All columns of the id are named.
        is_all: Nothing but columns of the id, the user and the key is named.
    """

    __slots__ = ("_pins", "_record", "_table", "is_all", "is_complete")

    def __init__(self, table: MappedTable, where: Where) -> None:
        columns = table.columns
        self._table = table
        # As nearly always: one value for each column.
        self._record = Record(table, single_values(where))
        self._pins = tuple(where.pins[name] for name in columns.id if name in where.pins)
        self.is_complete = len(self._pins) == len(columns.id)
        identity = {*columns.id, *columns.key, columns.user}
        self.is_all = self.is_complete and where.is_only_pins and where.pins.keys() <= identity

    def sessions(self, values: Any, expanded: Mapping[str, Any]) -> list[str]:
        """The ids that the condition names, each once; empty when it names none for certain."""
        if self._record.has_id:
            only = self._record.session(values)
            return [only] if only else []
        columns = [pinned_values(pin, values, expanded) for pin in self._pins]
        table = self._table
        if not self.is_complete or any(not each or UNKNOWN in each for each in columns):
            return []
        if len(columns) == 1:
            ids = [table.joined_id((table.id_text(value),)) for value in columns[0]]
            return list(dict.fromkeys(session for session in ids if session))
        if any(len(each) > 1 for each in columns):
            return []  # which of them belong together is not worth the while
        session = table.joined_id([table.id_text(each[0]) for each in columns])
        return [session] if session else []


class PinnedUser:
    """Tells whether a condition asks for the session of a user, whichever it is.

    Args:
        table: The mapped table.
        where: The condition.

    Attributes:
        is_named: The user's column is named.
    """

    __slots__ = ("_active", "_is_plain", "is_named")

    def __init__(self, table: MappedTable, where: Where) -> None:
        columns = table.columns
        self.is_named = bool(columns.user) and columns.user in where.pins
        self._is_plain = where.is_only_pins and where.pins.keys() <= {columns.user, *columns.key, *columns.active}
        self._active = tuple((where.pins[name], texts) for name, texts in columns.active.items() if name in where.pins)

    def is_all_asked(self, values: Any, expanded: Mapping[str, Any]) -> bool:
        """Whether every active session of the user meets the condition, so that there is none when no row does."""
        return self._is_plain and all(
            _is_among(texts, pinned_values(pin, values, expanded)) for pin, texts in self._active
        )


def _is_among(texts: frozenset[str], found: list[object]) -> bool:
    known = [value for value in found if value is not UNKNOWN]
    return all(any(is_value_among(value, frozenset((text,))) for value in known) for text in texts)


def pinned_values(pin: Pin, values: Any, expanded: Mapping[str, Any]) -> list[object]:
    """The values that a column may have; empty when that is not known."""
    if not pin.expanding:
        return [source(values) for source in pin.sources]
    # What a list parameter was expanded to goes by other names.
    listed = values.get(pin.expanding)
    if isinstance(listed, list | tuple | set | frozenset):
        return list(listed)
    return [values[name] for name in expanded.get(pin.expanding, ()) if name in values]


def single_values(where: Where) -> dict[str, Source]:
    """By column, what it is equal to, where that is one value."""
    return {name: pin.sources[0] for name, pin in where.pins.items() if len(pin.sources) == 1}
