"""Statements that are nothing to report, and show all the same that a request has its session."""

from session_exporter.ambient import current, current_request
from session_exporter.course import TOUCHED
from session_exporter.hooks.sqlalchemy.mapped import MappedTable
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
