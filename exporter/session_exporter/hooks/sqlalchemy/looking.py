"""What the application asked for when it read a mapped table, and what it got."""

from typing import Any

from session_exporter import course
from session_exporter.hooks.sqlalchemy import settlement
from session_exporter.hooks.sqlalchemy.knowledge import ENDED, FOUND, MISSED
from session_exporter.hooks.sqlalchemy.mapped import MappedTable, Record, Returned
from session_exporter.hooks.sqlalchemy.pinned import PinnedIds, PinnedUser, single_values
from session_exporter.hooks.sqlalchemy.readings import StatementReading
from session_exporter.hooks.sqlalchemy.results import watch_rows
from session_exporter.hooks.sqlalchemy.work import IDS_MAX, OWN_FRAMES, Execution, Work, work_of
from session_exporter.surroundings import NOWHERE
from session_exporter.wrapped_calls import call_of


class Lookup:
    """A query that asks for the session with an id, or for the session of a user.

    Args:
        table: The mapped table.
        reading: What the query says.
    """

    def __init__(self, table: MappedTable, reading: StatementReading) -> None:
        self.table = table
        self.pinned = PinnedIds(table, reading.where)
        self.asked = Record(table, single_values(reading.where))
        self.returned = Returned(table, reading)
        self.owner = PinnedUser(table, reading.where)
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
        return self.pinned.is_complete or (self.owner.is_named and self.returned.has_id)

    def __call__(self, execution: Execution) -> None:
        """Watch what the application fetches."""
        values, expanded = execution.parameters[0], getattr(execution.context, "_expanded_parameters", {})
        asked = self.pinned.sessions(values, expanded)
        if self.pinned.is_complete and len(asked) != 1:
            return  # several, or none that it could find
        user = self.asked.user(values)
        if not asked and not user:
            return
        places = () if self.counts_only else self.returned.places(execution)
        if places is None:
            return
        found = _Finding(self, execution, asked[0] if asked else "", user)
        watch_rows(execution.result, places, found.on_row, found.on_end, on_failure=self.table.reporter.count_failure)


class _Finding:
    """What one execution of it finds."""

    __slots__ = (
        "_asked",
        "_call",
        "_connection",
        "_expanded",
        "_inactive",
        "_lookup",
        "_row",
        "_session",
        "_user",
        "_values",
        "_where",
        "_work",
        "several",
    )

    def __init__(self, lookup: Lookup, execution: Execution, asked: str, user: str | None) -> None:
        table = lookup.table
        self._lookup = lookup
        self._asked = asked
        self._user = user
        self._values = execution.parameters[0]
        self._expanded = getattr(execution.context, "_expanded_parameters", {})
        self._connection = execution.connection
        self._call = call_of(table.scope)
        self._work: Work = work_of(execution.connection)
        self._where = NOWHERE if self._call is not None else table.reporter.surroundings(OWN_FRAMES)
        self._session = ""
        self._row: Any = None
        self._inactive = ""
        self.several = False

    def on_row(self, row: Any) -> None:
        """Note which session a row is about."""
        if self.several:
            return
        record = self._lookup.returned.record
        session = record.session(row) if record.has_id else self._asked
        if record.is_inactive(row):
            self._inactive = session
        elif not self._session:
            self._session, self._row = session, row
        elif session and session != self._session:
            self.several = True

    def on_end(self, count: int, exhausted: bool) -> None:  # noqa: FBT001 - as `watch_rows` calls it
        """Report what was found."""
        if self._lookup.counts_only and count:
            self._session = self._asked
        table = self._lookup.table
        if self._inactive:
            table.knowledge.note(table.scope, self._inactive, ENDED)
        # Who asks for the active session of a user has asked for one, also where a race has made two.
        if self.several and not self._lookup.asked.is_active(self._values):
            return  # a listing
        if self._session:
            self._hit(self._session)
        elif exhausted or count:
            self._miss(count)

    def _miss(self, count: int) -> None:
        lookup, table = self._lookup, self._lookup.table
        if self._asked and not count and lookup.misses_surely:
            table.knowledge.note(table.scope, self._asked, MISSED)
        # Of messages that meet a further condition there may be none, and the session is there all the same.
        if not lookup.misses_surely and lookup.counts_only:
            return
        # Of a user who has a session there may be none of another kind: a closed one, or one on the next page.
        surely = bool(self._asked) or lookup.owner.is_all_asked(self._values, self._expanded)
        if self._call is None:
            user, key, asked, where = self._user, lookup.asked.key(self._values), self._asked, self._where
            table.reporter.looked_up(
                None, scope=table.scope, user=user, key=key, where=where, asked=asked, surely=surely
            )
        elif surely:
            table.reporter.note(course.MISSED, table.scope, self._asked, self._user or "")

    def _hit(self, session: str) -> None:
        table, work = self._lookup.table, self._work
        name = (table.scope, session)
        is_made = name in work.made
        if not is_made:
            table.knowledge.note(table.scope, session, FOUND)
        if self._call is not None:
            self._call.found.add(session)
            if not is_made:
                table.reporter.note(course.TOUCHED, table.scope, session)
        elif is_made:
            # Not before it is certain that there is such a session.
            settlement.defer(self._connection, lambda at_us: self._report(session, at_us, again=True), lambda: None)
        else:
            # A transaction may serve several requests, each of which may use the session again.
            self._report(session, 0, again=name in work.found and not (self._where.request or self._where.trace))
        if len(work.found) < IDS_MAX:
            work.found.add(name)

    def _report(self, session: str, at_us: int, *, again: bool) -> None:
        lookup, row, user, key = self._lookup, self._row, self._user, ""
        table = lookup.table
        if row is not None:
            record = lookup.returned.record
            found = record.user(row)
            user, key = user if found is None else found, record.key(row)
        table.reporter.looked_up(
            session,
            scope=table.scope,
            user=user,
            key=key or lookup.asked.key(self._values),
            where=self._where,
            at_us=at_us,
            again=again,
        )
