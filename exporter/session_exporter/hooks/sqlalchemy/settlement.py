"""When a transaction has really been committed, whatever engine, pool and style of transaction it has.

SQLAlchemy's own event fires before the driver commits, and a commit may still fail.
"""

import os
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Final

from session_exporter.hooks.sqlalchemy.book import KEY, Book
from session_exporter.hooks.sqlalchemy.buffer import Buffer, Commit, Undo
from session_exporter.hooks.sqlalchemy.seams import Seams
from session_exporter.reporter import Reporter

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_book: Final = Book()
_seams: Final = Seams(_book)
_users: Final[list[object]] = []

os.register_at_fork(after_in_child=_book.forget_the_parent)
os.register_at_fork(after_in_child=_seams.forget_the_parent)


def install(reporter: Reporter) -> Callable[[], None]:
    """Begin to follow the transactions of all engines, also of those that exist; SQLAlchemy has been imported.

    Installed again, it only notes who needs it: the reporter of the first is used until the last has uninstalled.

    Args:
        reporter: Counts what goes wrong, and knows the time.

    Returns:
        What uninstalls it; what is open then is undone. Called twice, it does nothing.
    """
    user = object()
    if not _users:
        _book.reporter = reporter
        _listen("listen")
    _users.append(user)

    def uninstall() -> None:
        if user in _users:
            _users.remove(user)
            if not _users:
                _uninstall()

    return uninstall


def defer(connection: "Connection", commit: Commit, undo: Undo) -> None:
    """Have something done when the transaction that the connection is in has really been committed.

    Exactly one of both is called, once, on the thread that ends the transaction (a finalizer's, perhaps): `undo` when
    the savepoint or the transaction it was made in is rolled back, when the commit fails or is interrupted, and when
    the connection is closed, invalidated, returned or collected without a commit. A transaction that stays open all the
    same, as SQLite's do whose commit was refused, settles with what becomes of it, perhaps through the next user of the
    pooled connection. Neither is called in a forked child for what was deferred before the fork. Never raises.

    Args:
        connection: The Connection that executes the statement, right after it was executed. In autocommit (the
            isolation level, or that of the library in 1.4) the statement is committed.
        commit: Called with the time the driver's commit returned, microseconds since the Unix epoch: the same for all
            of a transaction.
        undo: Takes back what was noted down for the time until then.
    """
    reporter = _book.reporter
    if reporter is None:
        return
    try:
        buffer = connection.info.get(KEY)
        if buffer is None or buffer.over:
            if _commits_each_statement(connection):
                commit(reporter.now_us())
                return
            buffer = _open(connection, reporter)
        buffer.add(commit, undo)
    except Exception as error:  # noqa: BLE001 - a Shield takes time here, which every mapped write would pay
        reporter.count_failure(error)


def transaction_of(connection: "Connection") -> Hashable:
    """What identifies the transaction that the connection is in.

    One for each root transaction, also for those that begin by themselves, and never used again in this process; a
    new one with each call in autocommit, where each statement is a transaction. Never raises.
    """
    reporter = _book.reporter
    if reporter is not None:
        try:
            buffer = connection.info.get(KEY)
            if buffer is not None and not buffer.over:
                return int(buffer.number)
            if not _commits_each_statement(connection):
                return _open(connection, reporter).number
        except Exception as error:  # noqa: BLE001 - as above, for every mapped read
            reporter.count_failure(error)
    return next(_book.numbers)


def count_failure(error: Exception) -> None:
    """Count a failure of the hook under the name it was installed with."""
    reporter = _book.reporter
    if reporter is not None:
        reporter.count_failure(error)


def _commits_each_statement(connection: "Connection") -> bool:
    if connection._is_autocommit_isolation():  # noqa: SLF001 - the only place that knows, in all versions
        return True
    # Connections of 1.4 that are not of the 2.0 kind commit by themselves what is done outside of a transaction.
    if getattr(connection, "_is_future", True) or connection.get_transaction() is not None:
        return False
    return connection.get_execution_options().get("autocommit") is not False


def _open(connection: "Connection", reporter: Reporter) -> Buffer:
    dialect = type(connection.dialect)
    if dialect not in _seams:
        _seams.wrap(dialect)
    return _book.open(connection, reporter)


def _uninstall() -> None:
    _listen("remove")
    _seams.unwrap()
    _book.close()


def _listen(act: str) -> None:
    from sqlalchemy import event  # noqa: PLC0415 - never imported unless the application has
    from sqlalchemy.engine import Engine  # noqa: PLC0415 - as above
    from sqlalchemy.pool import Pool  # noqa: PLC0415 - as above

    getattr(event, act)(Pool, "close", _closed)
    getattr(event, act)(Engine, "handle_error", _refused)


def _closed(_: object, record: Any) -> None:
    """Undo what a connection has not committed that is closed, invalidated or recycled."""
    buffer = _book.take(record)
    if buffer is not None:
        with buffer.shield:
            buffer.undo()


def _refused(context: Any) -> None:
    """Note that PostgreSQL has refused a statement, for the driver that does not tell so at the commit."""
    reporter, connection = _book.reporter, context.connection
    if reporter is None or connection is None:
        return
    with reporter.shield:
        if connection.dialect.driver != "asyncpg" or connection.closed or connection.invalidated:
            return
        # asyncpg's own errors have an SQLSTATE as well, but no severity.
        sent = getattr(context.original_exception.__cause__, "severity", None) is not None
        buffer = _book.find(connection) if sent else None
        if buffer is not None:
            buffer.aborted = True
