"""What an insert makes of a mapped table's sessions."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from session_exporter.hooks.sqlalchemy.knowledge import FOUND
from session_exporter.hooks.sqlalchemy.mapped import MappedTable, Record, Returned
from session_exporter.hooks.sqlalchemy.readings import Conflict, StatementReading
from session_exporter.hooks.sqlalchemy.results import watch_rows
from session_exporter.hooks.sqlalchemy.work import (
    CREATED,
    RESTARTED,
    ROW_MADE,
    SEEN,
    Deed,
    Deeds,
    Execution,
    Work,
    work_of,
)

_PRIMARY: Final = "_pkey"  # what PostgreSQL calls the constraint of a primary key


class Insert:
    """An insert into a mapped table.

    Args:
        table: The mapped table.
        reading: What the statement says.

    Attributes:
        table: As given.
        rows: For each row of the statement, how it reads from parameters.
    """

    def __init__(self, table: MappedTable, reading: StatementReading) -> None:
        self.table = table
        self.rows = tuple(Record(table, row) for row in reading.rows)
        self._restarts = _restarts(table, reading)
        self._returned = Returned(table, reading)
        self._conflict = reading.conflict
        self._is_of_messages = table.mapping.rows == "messages"
        self._names_its_row = _names_its_row(table, reading)
        places = [reading.primary_key.index(name) for name in table.columns.id if name in reading.primary_key]
        self._key_places = tuple(places) if len(places) == len(table.columns.id) else ()

    def __call__(self, execution: Execution) -> None:
        """Note what the statement made."""
        proposed = self._proposed(execution)
        work = work_of(execution.connection)
        if self._returned.has_id and execution.has_rows and not self._is_certain(proposed):
            self._follow(execution, work, proposed)
            return
        made = self._made(proposed, work, execution)
        if made:
            deeds = Deeds(self.table, execution.connection, work)
            for deed in made:
                deeds.add(deed)

    def proposed_by(self, parameters: list[Any]) -> Iterator[Deed]:
        """The sessions that it was to make, as far as the parameters say; `""` for an id that they do not."""
        for values in parameters:
            for record in self.rows:
                user, key, generation = record.user(values), record.key(values), record.generation(values)
                yield Deed(CREATED, record.session(values), user, key, generation)

    def _proposed(self, execution: Execution) -> list[Deed]:
        proposed = list(self.proposed_by(execution.parameters))
        if self._key_places and len(self.rows) == 1 and not all(deed.session for deed in proposed):
            return proposed if execution.has_rows else self._with_keys(execution, proposed)
        return proposed

    def _with_keys(self, execution: Execution, proposed: list[Deed]) -> list[Deed]:
        """Fill in ids that the database made, which SQLAlchemy has fetched for its own use."""
        keys = execution.context.inserted_primary_key_rows
        if len(keys) != len(proposed):
            return []
        return [
            deed if deed.session else deed._replace(session=self._session_of(key))
            for deed, key in zip(proposed, keys, strict=True)
        ]

    def _session_of(self, key: Any) -> str:
        if key is None or any(key[place] is None for place in self._key_places):
            return ""
        return self.table.joined_id([self.table.id_text(key[place]) for place in self._key_places])

    def _is_certain(self, proposed: list[Deed]) -> bool:
        """Whether the parameters say all: what is returned adds nothing."""
        return self._conflict is Conflict.REFUSE and bool(proposed) and all(deed.session for deed in proposed)

    def _made(self, proposed: list[Deed], work: Work, execution: Execution) -> list[Deed]:
        known = proposed if all(deed.session for deed in proposed) else [deed for deed in proposed if deed.session]
        if self._conflict is Conflict.REFUSE or not known:
            return self._as_rows(known, work)
        return self._written(known, work, execution.rowcount, len(proposed))

    def _written(self, known: list[Deed], work: Work, rowcount: int, rows: int) -> list[Deed]:
        """What it means that of so many rows, some of which may have been there, so many were written."""
        if rowcount == 0 or not (self._names_its_row or self._conflict is Conflict.NOTHING):
            return []
        if self._conflict is Conflict.NOTHING and rowcount == rows:
            return self._as_rows(known, work)
        return [made for deed in known if (made := self._as_upsert(deed, work)) is not None]

    def _follow(self, execution: Execution, work: Work, proposed: list[Deed]) -> None:
        """Note what the returned rows say, when the application fetches them."""
        places = self._returned.places(execution)
        if places is None:
            return
        deeds = Deeds(self.table, execution.connection, work)
        by_id = {deed.session: deed for deed in proposed}
        only = proposed[0] if len(proposed) == 1 else None
        on_row = partial(self._take, deeds, by_id, only)
        on_end = partial(self._end, deeds, proposed, execution.rows_expected)
        watch_rows(execution.result, places, on_row, on_end, on_failure=self.table.reporter.count_failure)

    def _end(self, deeds: Deeds, proposed: list[Deed], expected: int, count: int, exhausted: bool) -> None:  # noqa: FBT001 - as `watch_rows` calls it
        """Note what the parameters say when nobody has fetched a row: the statement was executed all the same."""
        known = [deed for deed in proposed if deed.session]
        if exhausted or count or not known:
            return
        if self._conflict is Conflict.REFUSE:
            made = self._as_rows(known, deeds.work)
        else:
            made = self._written(known, deeds.work, expected, len(proposed))
        for deed in made:
            deeds.add(deed)

    def _take(self, deeds: Deeds, by_id: dict[str, Deed], only: Deed | None, row: Any) -> None:
        record = self._returned.record
        session = record.session(row)
        if not session:
            return
        named = by_id.get(session)
        known = named or only or Deed(CREATED, session)
        user = record.user(row)
        deed = known._replace(
            session=session,
            user=known.user if user is None else user,
            key=record.key(row) or known.key,
            generation=record.generation(row) or known.generation,
        )
        is_made = self._conflict in {Conflict.REFUSE, Conflict.NOTHING}
        # What decides about the conflict is not the id: only a row that was made has the id that was meant for it.
        is_made = is_made or (not self._names_its_row and named is not None)
        if is_made:
            found = self._as_rows([deed], deeds.work)
        elif self._names_its_row:
            found = [made] if (made := self._as_upsert(deed, deeds.work)) is not None else []
        else:
            found = [deed._replace(kind=RESTARTED)] if deed.generation and self._restarts else []
        for each in found:
            deeds.add(each)

    def _as_rows(self, made: list[Deed], work: Work) -> list[Deed]:
        """What rows mean that were certainly inserted."""
        if not self._is_of_messages:
            return made
        table = self.table
        unknown: dict[str, Deed] = {}
        for deed in made:
            state = table.knowledge.state(table.scope, deed.session)
            if state != FOUND and (table.scope, deed.session) not in work.made:
                unknown.setdefault(deed.session, deed if state else deed._replace(kind=ROW_MADE))
        return list(unknown.values())

    def _as_upsert(self, deed: Deed, work: Work) -> Deed | None:
        """What a row means that was inserted or updated: for all the statement says, either."""
        table = self.table
        state = table.knowledge.state(table.scope, deed.session)
        if (table.scope, deed.session) in work.made or state == FOUND:
            if not deed.generation or not self._restarts or self._is_of_messages:
                return None
            return deed._replace(kind=RESTARTED)
        if state:
            return deed
        generation = deed.generation if self._restarts else ""
        return deed._replace(kind=ROW_MADE if self._is_of_messages else SEEN, generation=generation)


def _restarts(table: MappedTable, reading: StatementReading) -> bool:
    """Whether an update by this insert writes all columns that make another session of a row."""
    names = table.columns.restart_on
    replaces = reading.conflict is Conflict.REPLACE
    return bool(names) and (replaces or all(name in reading.sets for name in names))


def _names_its_row(table: MappedTable, reading: StatementReading) -> bool:
    """Whether the row that was there, if there was one, has the id that the statement says."""
    ids, columns = frozenset(table.columns.id), reading.conflict_columns
    if columns is None or reading.conflict is Conflict.REPLACE or ids <= columns or ids <= reading.sets.keys():
        return True
    return any(column.startswith("constraint ") and column.endswith(_PRIMARY) for column in columns)
