"""What a statement does to mapped tables: worked out once per compiled statement, or SQL text."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

from session_exporter.hooks.sqlalchemy.changing import Change
from session_exporter.hooks.sqlalchemy.creating import Insert
from session_exporter.hooks.sqlalchemy.looking import Lookup
from session_exporter.hooks.sqlalchemy.mapped import MappedTable
from session_exporter.hooks.sqlalchemy.readings import StatementReading
from session_exporter.hooks.sqlalchemy.sqltext import read
from session_exporter.hooks.sqlalchemy.touching import Sweep, Touch
from session_exporter.hooks.sqlalchemy.trees import Compilation, original, read_select
from session_exporter.hooks.sqlalchemy.work import Execution
from session_exporter.hooks.sqlalchemy.writetrees import read_change, read_insert

Plan: TypeAlias = Callable[[Execution], None]

# SQL texts of different statements, more than any application has that does not write values into them.
TEXTS_MAX: Final = 2000
_LAYERS_MAX: Final = 4


class Found:
    """The plans of one statement.

    Attributes:
        plans: One for each mapping that it concerns; empty for most statements.
        owner: Who worked them out, which changes with the mappings.
    """

    __slots__ = ("owner", "plans")

    def __init__(self, owner: "Statements", plans: tuple[Plan, ...] = ()) -> None:
        self.owner = owner
        self.plans = plans


class Statements:
    """Finds the plans of statements, for one set of mappings.

    Args:
        tables: The mapped tables.
        on_failure: Counts a statement that could not be read.

    Attributes:
        nothing: What stands for all statements that concern no mapping.
    """

    def __init__(self, tables: Iterable[MappedTable], on_failure: Callable[[Exception], None]) -> None:
        self.nothing = Found(self)
        self._tables: dict[str, list[MappedTable]] = {}
        for table in tables:
            self._tables.setdefault(table.name, []).append(table)
        self._on_failure = on_failure
        self._texts: dict[Hashable, Found] = {}

    def of_compiled(self, compiled: Any) -> Found:
        """The plans of a compiled statement; remembered by it, so that they live as long as in SQLAlchemy's cache."""
        if not hasattr(compiled, "bind_names") or not self._may_concern(str(compiled)):  # DDL has none
            return self._remembered(compiled, self.nothing)
        if compiled.cache_key is not None:
            return self._remembered(compiled, self._read(self._readings_of(compiled)))
        key = _text_key(compiled)
        found = self._texts.get(key)
        return self._remembered(compiled, self._keep(key, self._readings_of(compiled)) if found is None else found)

    def of_text(self, sql: str) -> Found:
        """The plans of a SQL text."""
        found = self._texts.get(sql)
        if found is None:
            # Others are not worth the room: some have their values in them, and never come again.
            found = self._keep(sql, lambda: read(sql)) if self._may_concern(sql) else self.nothing
        return found

    def _may_concern(self, sql: str) -> bool:
        text = sql.lower()
        return any(name in text for name in self._tables)

    def _remembered(self, compiled: Any, found: Found) -> Found:
        compiled._session_exporter = found  # noqa: SLF001 - nobody else's name
        return found

    def _keep(self, key: Hashable, readings: Callable[[], Iterable[StatementReading]]) -> Found:
        found = self._read(readings)
        while len(self._texts) >= TEXTS_MAX:
            try:
                self._texts.pop(next(iter(self._texts), None), None)
            except RuntimeError:  # another thread has changed it
                break
        self._texts[key] = found
        return found

    def _read(self, readings: Callable[[], Iterable[StatementReading]]) -> Found:
        try:
            plans = tuple(plan for reading in readings() for plan in self._plans(reading))
        except Exception as error:  # noqa: BLE001 - counted once; the statement says nothing then
            self._on_failure(error)
            return self.nothing
        return Found(self, plans) if plans else self.nothing

    def _readings_of(self, compiled: Any) -> Callable[[], Iterable[StatementReading]]:
        return lambda: readings_of(compiled, self._note_uuids)

    def _note_uuids(self, sqltable: Any) -> None:
        for table in self._tables.get(sqltable.name.lower(), ()):
            table.learn(sqltable)

    def _plans(self, reading: StatementReading) -> Iterable[Plan]:
        for table in self._tables.get(reading.table, ()):
            if not table.is_meant(reading):
                continue
            if reading.verb == "insert":
                yield Insert(table, reading)
                continue
            plan = next((made for kind in _PLANS[reading.verb] if (made := kind(table, reading)).is_telling), None)
            if plan is not None:
                yield plan


# By what a statement does, what may be made of it: the first that tells something.
_PLANS: Final[Mapping[str, tuple[Any, ...]]] = {
    "select": (Lookup,),
    "load": (Touch,),
    "update": (Change, Touch, Sweep),
    "delete": (Change, Sweep),
}


def readings_of(compiled: Any, note: Callable[[Any], None]) -> Iterable[StatementReading]:
    """What a compiled statement says, by table.

    Args:
        compiled: By SQLAlchemy.
        note: Told of each table that a statement is about.
    """
    if compiled.isinsert or compiled.isupdate or compiled.isdelete:
        statement = _write_of(compiled.statement)
        note(original(statement.table))
        reading = read_insert if compiled.isinsert else read_change
        return (reading(statement, Compilation(compiled)),)
    text = _text_of(compiled.statement)
    if text is not None:
        return read(text)
    readings = tuple(read_select(_select_of(compiled), Compilation(compiled), note))
    return tuple(replace(each, verb="load") for each in readings) if _is_load(compiled) else readings


def _text_key(compiled: Any) -> Hashable:
    """What tells statements apart that SQLAlchemy does not cache, and compiles anew each time they are executed.

    The same text has the same parameters, by the same names; who reads the result makes a difference all the same.
    """
    returning = bool(getattr(compiled.statement, "_returning", ()))
    return str(compiled), tuple(compiled.bind_names.values()), compiled.dialect.name, returning, _is_load(compiled)


def _text_of(statement: Any) -> str | None:
    """The SQL of `text(...)`, also of one whose columns are declared, or that loads objects."""
    for _ in range(_LAYERS_MAX):
        if hasattr(statement, "_bindparams") and isinstance(getattr(statement, "text", None), str):
            return str(statement.text)
        statement = getattr(statement, "element", None)
    return None


def _write_of(statement: Any) -> Any:
    """The INSERT, UPDATE or DELETE itself, of one whose returned rows are loaded as objects by `from_statement`."""
    for _ in range(_LAYERS_MAX):
        if hasattr(statement, "table"):
            break
        statement = statement.element
    return statement


def _select_of(compiled: Any) -> Any:
    """The SELECT as it was compiled: the mapper makes another one of what the application wrote."""
    statement = getattr(compiled.compile_state, "statement", None)
    return compiled.statement if statement is None else statement


def _is_load(compiled: Any) -> bool:
    """Whether a mapper loads columns or related objects of one that was found before."""
    options = getattr(compiled.compile_state, "compile_options", None)
    if options is None:
        return False
    path = getattr(options, "_current_path", None)
    return bool(getattr(options, "_for_refresh_state", False)) or not getattr(path, "is_root", True)
