"""The hook: what an application executes, in every style of SQLAlchemy, and what is made of it."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from session_exporter import pending
from session_exporter.hooks.sqlalchemy import settlement
from session_exporter.hooks.sqlalchemy.creating import Insert
from session_exporter.hooks.sqlalchemy.knowledge import Knowledge
from session_exporter.hooks.sqlalchemy.mapped import MappedTable
from session_exporter.hooks.sqlalchemy.refusing import refuse
from session_exporter.hooks.sqlalchemy.work import Execution
from session_exporter.mappings import TableMapping
from session_exporter.postimport import when_imported
from session_exporter.reporter import Reporter

if TYPE_CHECKING:
    from session_exporter.hooks.sqlalchemy.statements import Found, Statements
    from session_exporter.tracker import SessionTracker

HOOK: Final = "sqlalchemy"
OLDEST: Final = (1, 4)

# How SQLAlchemy marks what it selects by itself to bring objects in step with a bulk update or delete.
_SYNCHRONIZES: Final = "_sa_orm_update_options"

_PSYCOPG: Final = "sqlalchemy.dialects.postgresql.psycopg"

_logger = logging.getLogger("session_exporter")


@dataclass(slots=True)
class _Entry:
    """A mapping that is installed, and how often."""

    table: MappedTable
    users: int = 1


class Tables:
    """The mappings of this process, and the listeners that serve all of them."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._reporter: Reporter | None = None
        self._statements: Statements | None = None
        self._detach: list[Callable[[], None]] = []
        self._forget: Callable[[], None] = lambda: None
        self._attached = False

    def add(self, mappings: Sequence[TableMapping], reporter: Reporter) -> Callable[[], None]:
        """Watch tables; one that is watched already is not reported twice."""
        entries = [self._enter(mapping, reporter) for mapping in mappings]
        if self._attached:
            self._renew()
        elif self._reporter is None:
            self._reporter = reporter
            self._forget = when_imported("sqlalchemy", self._attach)

        def uninstall() -> None:
            while entries:
                self._leave(entries.pop())
            if self._attached:
                self._renew()

        return uninstall

    def _enter(self, mapping: TableMapping, reporter: Reporter) -> _Entry:
        for entry in self._entries:
            if entry.table.mapping == mapping:
                entry.users += 1
                return entry
        entry = _Entry(MappedTable(mapping, reporter, Knowledge()))
        self._entries.append(entry)
        pending.watch_scope(mapping.scope)
        return entry

    def _leave(self, entry: _Entry) -> None:
        entry.users -= 1
        if entry.users:
            return
        self._entries.remove(entry)
        pending.unwatch_scope(entry.table.scope)
        if not self._entries:
            self._stop()

    def _attach(self, module: ModuleType) -> None:
        """SQLAlchemy is there."""
        reporter = self._reporter
        if reporter is None:
            return
        with reporter.shield:
            version = str(module.__version__)
            if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
                _logger.warning("SQLAlchemy %s: not hooked, expected 1.4 or later", version)
                reporter.register(active=False)
                return
            self._attached = True
            self._renew()
            self._detach = [settlement.install(reporter), *_listen(self), _wrap_driver_sql(self)]
            self._detach.append(when_imported(_PSYCOPG, self._keep_rowcounts))
            reporter.register(active=True)

    def _keep_rowcounts(self, _: ModuleType) -> None:
        """Psycopg forgets how many rows were changed when its cursor is closed, as it is before `after_execute`."""
        if self._reporter is not None:
            with self._reporter.shield:
                self._detach += _listen_for({"after_cursor_execute": _keep_rowcount})

    def _stop(self) -> None:
        self._forget()
        for detach in self._detach:
            detach()
        if self._attached and self._reporter is not None:
            self._reporter.register(active=False)
        self._detach, self._attached = [], False
        self._reporter, self._statements = None, None

    def _renew(self) -> None:
        from session_exporter.hooks.sqlalchemy.statements import Statements  # noqa: PLC0415 - imports SQLAlchemy

        if self._reporter is not None:
            self._statements = Statements([entry.table for entry in self._entries], self._reporter.count_failure)

    # What SQLAlchemy calls. An Exception in here is the hook's own.

    def after_execute(self, connection: Any, _: Any, __: Any, ___: Any, options: Any, result: Any) -> None:
        """Take note of a statement that is not the driver's own SQL."""
        try:
            context = result.context
            found: Found | None = context.compiled._session_exporter  # noqa: SLF001 - put there by us
        except AttributeError:
            found = None
        try:
            if found is None or found.owner is not self._statements:
                found = self._first_seen(result)
            if found is None or not found.plans:
                return
            compiled = context.compiled
            if _SYNCHRONIZES in options and not (compiled.isupdate or compiled.isdelete):
                return
            execution = Execution(connection, result, context.compiled_parameters)
            for plan in found.plans:
                plan(execution)
        except Exception as error:  # noqa: BLE001 - the application's statement has succeeded
            self._failed(error)

    def _first_seen(self, result: Any) -> "Found | None":
        """The plans of a statement that was not executed before, or not with these mappings."""
        compiled = getattr(getattr(result, "context", None), "compiled", None)
        statements = self._statements
        return None if compiled is None or statements is None else statements.of_compiled(compiled)

    def after_driver_sql(self, connection: Any, statement: Any, result: Any) -> None:
        """Take note of SQL that the application gave to the driver."""
        statements = self._statements
        if statements is None or not isinstance(statement, str):
            return
        try:
            found = statements.of_text(statement)
            if found.plans:
                execution = Execution(connection, result, result.context.parameters)
                for plan in found.plans:
                    plan(execution)
        except Exception as error:  # noqa: BLE001 - the application's statement has succeeded
            self._failed(error)

    def handle_error(self, context: Any) -> None:
        """Take note of a statement that failed."""
        execution, statements = context.execution_context, self._statements
        if execution is None or statements is None or not isinstance(context.original_exception, Exception):
            return  # the database has refused nothing: a client that left, a signal
        try:
            compiled = getattr(execution, "compiled", None)
            if compiled is not None:
                found, parameters = _of_compiled(statements, compiled), execution.compiled_parameters
            else:
                found, parameters = statements.of_text(execution.unicode_statement), execution.parameters
            for plan in found.plans:
                if isinstance(plan, Insert):
                    refuse(plan, parameters, context.sqlalchemy_exception or context.original_exception)
        except Exception as error:  # noqa: BLE001 - the application has an error of its own to handle
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        if self._reporter is not None:
            self._reporter.count_failure(error)


def _of_compiled(statements: "Statements", compiled: Any) -> "Found":
    found: Found | None = getattr(compiled, "_session_exporter", None)
    return found if found is not None and found.owner is statements else statements.of_compiled(compiled)


def _listen(tables: Tables) -> list[Callable[[], None]]:
    return _listen_for({"after_execute": tables.after_execute, "handle_error": tables.handle_error})


def _listen_for(listeners: dict[str, Callable[..., None]]) -> list[Callable[[], None]]:
    from sqlalchemy import event  # noqa: PLC0415 - never imported unless the application has
    from sqlalchemy.engine import Engine  # noqa: PLC0415 - as above

    # Of the class: engines that exist already have it as well.
    for name, listener in listeners.items():
        event.listen(Engine, name, listener)
    return [partial(event.remove, Engine, name, listener) for name, listener in listeners.items()]


def _keep_rowcount(_: Any, cursor: Any, __: Any, ___: Any, context: Any, ____: Any) -> None:
    if context.isinsert or context.is_text:
        context._session_exporter_rowcount = getattr(cursor, "rowcount", -1)  # noqa: SLF001 - nobody else's name


def _wrap_driver_sql(tables: Tables) -> Callable[[], None]:
    """Wrap the method that takes the driver's own SQL, for which there are no events that know the result."""
    from sqlalchemy.engine import Connection  # noqa: PLC0415 - as above

    name = "_exec_driver_sql" if hasattr(Connection, "_exec_driver_sql") else "exec_driver_sql"
    original = getattr(Connection, name)

    @wraps(original)
    def exec_driver_sql(connection: Any, statement: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(connection, statement, *args, **kwargs)
        tables.after_driver_sql(connection, statement, result)
        return result

    setattr(Connection, name, exec_driver_sql)

    def unwrap() -> None:
        if getattr(Connection, name) is exec_driver_sql:
            setattr(Connection, name, original)

    return unwrap


_tables: Final = Tables()


def install(mappings: Sequence[TableMapping], tracker: "SessionTracker") -> Callable[[], None]:
    """Watch tables of this process, from now on or from when the application imports SQLAlchemy."""
    return _tables.add(mappings, tracker.reporter(HOOK))
