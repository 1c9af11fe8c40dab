"""What the application asked for when it read a mapped table, and what it got."""

from typing import Any

from session_exporter.ambient import call_of
from session_exporter.hooks.sqlalchemy import settlement
from session_exporter.hooks.sqlalchemy.knowledge import ENDED, FOUND, MISSED
from session_exporter.hooks.sqlalchemy.mapped import MappedTable, Record, Returned
from session_exporter.hooks.sqlalchemy.pinned import PinnedIds, single_values
from session_exporter.hooks.sqlalchemy.readings import Reading
from session_exporter.hooks.sqlalchemy.results import watch_rows
from session_exporter.hooks.sqlalchemy.work import IDS_MAX, Execution, Work, work_of


class Lookup:
    """A query that asks for the session with an id, or for the session of a user.

    Args:
        table: The mapped table.
        reading: What the query says.
    """

    def __init__(self, table: MappedTable, reading: Reading) -> None:
        self.table = table
        self.pinned = PinnedIds(table, reading.where)
        self.asked = Record(table, single_values(reading.where))
        self.returned = Returned(table, reading)
        self._user_is_pinned = bool(table.columns.user) and table.columns.user in reading.where.pins
        self._has_columns = bool(reading.outputs) or reading.has_star
        # Of messages, the first row says as much as all of them.
        self.counts_only = table.mapping.rows == "messages" and self.pinned.is_complete
        # A further condition may be what was not met: the session may be there all the same.
        self.misses_surely = self.pinned.is_all

    @property
    def is_telling(self) -> bool:
        """Whether it is such a query."""
        if not self._has_columns:
            return False
        return self.pinned.is_complete or (self._user_is_pinned and self.returned.has_id)

    def __call__(self, execution: Execution) -> None:
        """Watch what the application fetches."""
        values, expanded = execution.parameters[0], getattr(execution.context, "_expanded_parameters", {})
        asked = self.pinned.sessions(values, expanded)
        if self.pinned.is_complete and len(asked) != 1:
            return  # several, or none that it could find
        user = self.asked.user(values)
        if not asked and not user:
            return
        places = () if self.counts_only else execution.places(self.returned.outputs)
        if places is None:
            return
        seen = _Seen(self, execution, asked[0] if asked else "", user)
        watch_rows(execution.result, places, seen.on_row, seen.on_end, on_failure=self.table.reporter.count_failure)


class _Seen:
    """What one execution of it finds."""

    __slots__ = ("_asked", "_call", "_connection", "_found", "_inactive", "_key", "_lookup", "_user", "_where", "_work")

    def __init__(self, lookup: Lookup, execution: Execution, asked: str, user: str | None) -> None:
        self._lookup = lookup
        self._asked = asked
        self._user = user
        self._key = lookup.asked.key(execution.parameters[0])
        self._connection = execution.connection
        self._call = call_of(lookup.table.scope)
        self._work: Work = work_of(execution.connection)
        self._where = lookup.table.reporter.surroundings()
        self._found: dict[str, Any] = {}
        self._inactive: set[str] = set()

    def on_row(self, row: Any) -> None:
        """Note which session a row is about."""
        if len(self._found) > 1:
            return  # a listing
        record = self._lookup.returned.record
        session = record.session(row) if record.has_id else self._asked
        if record.is_inactive(row):
            if len(self._inactive) <= 1:
                self._inactive.add(session)
        elif session:
            self._found.setdefault(session, row)

    def on_end(self, count: int, exhausted: bool) -> None:  # noqa: FBT001 - as `watch_rows` calls it
        """Report what was found."""
        if self._lookup.counts_only and count:
            self._found[self._asked] = ()
        table = self._lookup.table
        for session in self._inactive:
            table.knowledge.note(table.scope, session, ENDED)
        if len(self._found) == 1:
            self._hit(*next(iter(self._found.items())))
        elif not self._found and (exhausted or count):
            self._miss(count)

    def _miss(self, count: int) -> None:
        lookup, table = self._lookup, self._lookup.table
        if self._asked and not count and lookup.misses_surely:
            table.knowledge.note(table.scope, self._asked, MISSED)
        if self._call is None and (lookup.counts_only is False or lookup.misses_surely):
            table.reporter.looked_up(None, scope=table.scope, user=self._user, key=self._key, where=self._where)

    def _hit(self, session: str, row: Any) -> None:
        table, work, record = self._lookup.table, self._work, self._lookup.returned.record
        name = (table.scope, session)
        if self._call is not None:
            self._call.found.add(session)
        is_made = name in work.made
        again = is_made or name in work.found
        if len(work.found) < IDS_MAX:
            work.found.add(name)
        if not is_made:
            table.knowledge.note(table.scope, session, FOUND)
        if self._call is not None:
            return
        user = record.user(row) if row else None
        about = (session, self._user if user is None else user, (record.key(row) if row else "") or self._key)
        if is_made:
            # Not before it is certain that there is such a session.
            settlement.defer(self._connection, lambda at_us: self._report(*about, at_us, again=True), lambda: None)
        else:
            self._report(*about, 0, again=again)

    def _report(self, session: str, user: str | None, key: str, at_us: int, *, again: bool) -> None:
        table = self._lookup.table
        table.reporter.looked_up(
            session, scope=table.scope, user=user, key=key, where=self._where, at_us=at_us, again=again
        )
