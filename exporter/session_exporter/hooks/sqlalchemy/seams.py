"""The methods of a dialect that begin, commit and roll back: wrapped, as SQLAlchemy's commit event comes too early."""

import threading
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, Final

from session_exporter.hooks.sqlalchemy.book import Book
from session_exporter.hooks.sqlalchemy.buffer import Buffer

_MISSING: Final = object()

Method = Callable[..., Any]
Seam = Callable[[Book, Method], Method]


class Seams:
    """Wraps dialects' classes, when the first transaction of an engine that has it is followed.

    A class is wrapped itself, not its bases: so it takes in methods that it inherits, and leaves other engines alone.

    Args:
        book: Where open transactions are found.
    """

    def __init__(self, book: Book) -> None:
        self._book = book
        self._lock = threading.RLock()
        self._wrapped: dict[type, list[tuple[str, Method, object]]] = {}

    def __contains__(self, dialect: type) -> bool:
        return dialect in self._wrapped

    def wrap(self, dialect: type) -> None:
        """Follow the transactions of all engines of this dialect."""
        with self._lock:
            if dialect not in self._wrapped:
                self._wrapped[dialect] = [self._replace(dialect, name, seam) for name, seam in METHODS.items()]

    def forget_the_parent(self) -> None:
        """In a forked child: the thread that held the lock when it was forked is not there to let it go."""
        self._lock = threading.RLock()

    def unwrap(self) -> None:
        """Leave all dialects as they were; what somebody else has wrapped meanwhile stays, and does nothing."""
        with self._lock:
            for dialect, methods in self._wrapped.items():
                for name, wrapper, replaced in methods:
                    _restore(dialect, name, wrapper, replaced)
            self._wrapped.clear()

    def _replace(self, dialect: type, name: str, seam: Seam) -> tuple[str, Method, object]:
        replaced, wrapper = vars(dialect).get(name, _MISSING), seam(self._book, getattr(dialect, name))
        setattr(dialect, name, wrapper)
        return name, wrapper, replaced


def _restore(dialect: type, name: str, wrapper: Method, replaced: object) -> None:
    if vars(dialect).get(name) is not wrapper:
        return
    if replaced is _MISSING:
        delattr(dialect, name)
    else:
        setattr(dialect, name, replaced)


def _committing(book: Book, original: Method) -> Method:
    @wraps(original)
    def do_commit(dialect: Any, *args: Any, **kwargs: Any) -> Any:
        pooled = _first(args, kwargs)
        buffer = book.take(pooled)
        if buffer is None:
            return original(dialect, *args, **kwargs)
        lost = len(buffer) > 0 and book.is_aborted(buffer, pooled)
        return _end(book, buffer, pooled, partial(original, dialect, *args, **kwargs), committed=not lost)

    return do_commit


def _rolling_back(book: Book, original: Method) -> Method:
    @wraps(original)
    def do_rollback(dialect: Any, *args: Any, **kwargs: Any) -> Any:
        pooled = _first(args, kwargs)
        buffer = book.take(pooled)
        if buffer is None:
            return original(dialect, *args, **kwargs)
        return _end(book, buffer, pooled, partial(original, dialect, *args, **kwargs), committed=False)

    return do_rollback


def _ending_twophase(book: Book, original: Method, *, committed: bool) -> Method:
    """Recovery, which is about the transactions of other connections, counts nothing.

    The buffer is taken before: PostgreSQL's rolls back an empty transaction once it has committed the prepared one.
    """

    @wraps(original)
    def do_end_twophase(dialect: Any, connection: Any, xid: Any, *args: Any, **kwargs: Any) -> Any:
        buffer = book.take_twophase(connection, xid)
        if buffer is None:
            return original(dialect, connection, xid, *args, **kwargs)
        end = partial(original, dialect, connection, xid, *args, **kwargs)
        return _end(book, buffer, connection.connection, end, committed=committed)

    return do_end_twophase


def _end(book: Book, buffer: Buffer, pooled: Any, end: Callable[[], Any], *, committed: bool) -> Any:
    try:
        result = end()
    except BaseException:
        with buffer.shield:
            book.lose(buffer, pooled)
        raise
    with buffer.shield:
        if committed:
            buffer.commit()
        else:
            buffer.undo()
    return result


def _following(book: Book, original: Method, *, note: str) -> Method:
    """Has a method of the buffer called, once one about a savepoint has succeeded."""

    @wraps(original)
    def do_savepoint(dialect: Any, connection: Any, name: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(dialect, connection, name, *args, **kwargs)
        buffer = book.find(connection)
        if buffer is not None:
            with buffer.shield:
                getattr(buffer, note)(name)
        return result

    return do_savepoint


METHODS: Final[dict[str, Seam]] = {
    "do_commit": _committing,
    "do_rollback": _rolling_back,
    "do_commit_twophase": partial(_ending_twophase, committed=True),
    "do_rollback_twophase": partial(_ending_twophase, committed=False),
    "do_savepoint": partial(_following, note="savepoint"),
    "do_release_savepoint": partial(_following, note="release"),
    "do_rollback_to_savepoint": partial(_following, note="roll_back_to"),
}


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else next(iter(kwargs.values()), None)
