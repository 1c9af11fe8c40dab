"""Statements that are nothing to report, and show all the same that a request has its session, or may have ended it."""

from session_exporter.ambient import current, current_request
from session_exporter.course import SWEPT, TOUCHED
from session_exporter.hooks.sqlalchemy.mapped import MappedTable, Record
from session_exporter.hooks.sqlalchemy.pinned import PinnedIds
from session_exporter.hooks.sqlalchemy.readings import StatementReading
from session_exporter.hooks.sqlalchemy.work import Execution


class Touch:
    """An update of columns that no mapping is about, or the load of more columns of a row that was found before.

    Args:
        table: The mapped table.
        reading: What the statement says.
    """

    def __init__(self, table: MappedTable, reading: StatementReading) -> None:
        self.table = table
        self._pinned = PinnedIds(table, reading.where)
        self._changes = reading.verb == "update"

    @property
    def is_telling(self) -> bool:
        """Whether it names its sessions. Of messages there may be none without anything being wrong."""
        return self._pinned.is_complete and self.table.mapping.rows == "sessions"

    def __call__(self, execution: Execution) -> None:
        """Have the request know of it, if there is one."""
        request = None if current.get() is None else current_request()
        if request is None or request.is_settled:
            return
        if self._changes and not execution.has_rows and execution.rowcount == 0:
            return
        table, expanded = self.table, getattr(execution.context, "_expanded_parameters", {})
        for values in execution.parameters:
            for session in self._pinned.sessions(values, expanded):
                table.reporter.note(TOUCHED, table.scope, session)


class Sweep:
    """An update or a delete that ends sessions without saying which, such as all of a user.

    Args:
        table: The mapped table.
        reading: What the statement says.
    """

    def __init__(self, table: MappedTable, reading: StatementReading) -> None:
        self.table = table
        self._names_them = PinnedIds(table, reading.where).is_complete
        self._after = Record(table, reading.sets)
        self._is_delete = reading.verb == "delete"

    @property
    def is_telling(self) -> bool:
        """Whether it can end a session."""
        ends = self._is_delete or self._after.says_anything
        return ends and not self._names_them and self.table.mapping.rows == "sessions"

    def __call__(self, execution: Execution) -> None:
        """Have the request know that its session may be one of them."""
        request = None if current.get() is None else current_request()
        if request is None or request.is_settled or (not execution.has_rows and execution.rowcount == 0):
            return
        if (expected := request.find_session()) and (
            self._is_delete or any(self._after.is_inactive(values) for values in execution.parameters)
        ):
            self.table.reporter.note(SWEPT, self.table.scope, expected)
