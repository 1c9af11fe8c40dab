"""What an update or a delete makes of a mapped table's sessions.

An event needs an id. Rows that end without one (a bulk statement without RETURNING, a cascade of the database) are
reported by nobody: their sessions expire by themselves when they have been idle for long enough.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from session_exporter.course import TOUCHED
from session_exporter.hooks.sqlalchemy.knowledge import ENDED, FOUND
from session_exporter.hooks.sqlalchemy.mapped import MappedTable, Record, Returned
from session_exporter.hooks.sqlalchemy.pinned import PinnedIds, single_values
from session_exporter.hooks.sqlalchemy.readings import StatementReading
from session_exporter.hooks.sqlalchemy.results import OnRow, watch_rows
from session_exporter.hooks.sqlalchemy.work import (
    CREATED,
    LOST,
    NAMED,
    RESTARTED,
    Deed,
    Deeds,
    Execution,
    work_of,
)

Named: TypeAlias = tuple[str, Any]


class Change:
    """An update or a delete of rows of a mapped table.

    Args:
        table: The mapped table.
        reading: What the statement says.
    """

    def __init__(self, table: MappedTable, reading: StatementReading) -> None:
        self.table = table
        self._is_delete = reading.verb == "delete"
        self._pinned = PinnedIds(table, reading.where)
        # What is known of the rows without reading them: what the condition says of them, and what they get.
        self._before = Record(table, single_values(reading.where))
        self._after = Record(table, reading.sets)
        self._returned = Returned(table, reading)

    @property
    def is_telling(self) -> bool:
        """Whether it can end, begin or name a session at all."""
        if not (self._pinned.is_complete or self._returned.has_id):
            return False
        if self.table.mapping.rows == "messages":
            return self._is_delete and self._pinned.is_all
        return self._is_delete or self._after.says_anything

    def __call__(self, execution: Execution) -> None:
        """Note what the statement changed."""
        if not execution.has_rows:
            self._note(execution, execution.rowcount)
        elif self._returned.has_id:
            self._follow(execution)
        else:
            self._count(execution)

    def _note(self, execution: Execution, rowcount: int) -> None:
        """Note it for the ids that the condition names, of which `rowcount` rows were changed."""
        changed = self._changed(self._named(execution), rowcount) if rowcount else []
        if changed:
            noted = Deeds(self.table, execution.connection, work_of(execution.connection))
            for deed in changed:
                noted.add(deed)

    def _named(self, execution: Execution) -> list[Named]:
        """The ids that the condition names, and the parameters it has them of."""
        expanded = getattr(execution.context, "_expanded_parameters", {})
        return [
            (session, values) for values in execution.parameters for session in self._pinned.sessions(values, expanded)
        ]

    def _changed(self, named: list[Named], rowcount: int) -> list[Deed]:
        if rowcount == 0:
            return []
        if 0 < rowcount < len(named):
            named = self._surely(named, rowcount)
        return [deed for session, values in named for deed in self._deeds(session, values, None)]

    def _surely(self, changed: list[Named], rowcount: int) -> list[Named]:
        """Those that this process has seen, when it has seen as many as were changed; else nobody knows which."""
        table = self.table
        seen = [each for each in changed if table.knowledge.state(table.scope, each[0]) == FOUND]
        return seen if len(seen) == rowcount else []

    def _follow(self, execution: Execution) -> None:
        places = self._returned.places(execution)
        if places is None:
            return
        deeds = Deeds(self.table, execution.connection, work_of(execution.connection))
        on_row = partial(self._take, deeds, execution.parameters[0])
        self._watch(execution, places, on_row, partial(self._end, deeds, self._named(execution), sees_ids=True))

    def _take(self, deeds: Deeds, values: Any, row: Any) -> None:
        session = self._returned.record.session(row)
        if session:
            for deed in self._deeds(session, values, row):
                deeds.add(deed)

    def _count(self, execution: Execution) -> None:
        """Note it when the application has fetched the rows, whose number is all that they say."""
        deeds = Deeds(self.table, execution.connection, work_of(execution.connection))
        on_end = partial(self._end, deeds, self._named(execution), sees_ids=False)
        self._watch(execution, (), lambda _: None, on_end)

    def _watch(self, execution: Execution, places: tuple[int, ...], on_row: OnRow, on_end: Callable[..., None]) -> None:
        # Nothing of this may lead to the result: as long as a cycle keeps it, SQLite refuses to commit.
        on_end = partial(on_end, execution.rows_expected)
        watch_rows(execution.result, places, on_row, on_end, on_failure=self.table.reporter.count_failure)

    def _end(
        self,
        deeds: Deeds,
        named: list[Named],
        expected: int,
        count: int,
        exhausted: bool,  # noqa: FBT001 - as `watch_rows` calls it
        *,
        sees_ids: bool,
    ) -> None:
        """Note what the rows have not said, as nobody has fetched one: the statement was executed all the same."""
        if not exhausted and not count:
            count, sees_ids = max(expected, 0), False
        if not sees_ids:
            for deed in self._changed(named, count):
                deeds.add(deed)

    def _deeds(self, session: str, values: Any, row: Any) -> list[Deed]:
        """What happened to one session: several things, when one statement says several."""
        self.table.reporter.note(TOUCHED, self.table.scope, session)
        before, after = self._before, self._after
        user, key = before.user(values), before.key(values)
        if row is not None:
            user = self._returned.record.user(row) if user is None else user
            key = key or self._returned.record.key(row)
        if self._is_delete:
            return [Deed(LOST, session, user, key, reason="deleted")]
        deeds = []
        new_user = after.user(values)
        if new_user:
            user = new_user
            deeds.append(Deed(NAMED, session, new_user, key))
        if after.is_inactive(values):
            return [*deeds, Deed(LOST, session, user, key, reason=after.reason(values))]
        generation = after.generation(values)
        if after.is_active(values) and self._had_ended(session, values):
            deeds.append(Deed(CREATED, session, user, key, generation))
        elif generation:
            deeds.append(Deed(RESTARTED, session, user, key, generation))
        return deeds

    def _had_ended(self, session: str, values: Any) -> bool:
        """Whether the session is known to have ended before: by this process, or because the condition says so."""
        table = self.table
        return table.knowledge.state(table.scope, session) == ENDED or self._before.is_inactive(values)
