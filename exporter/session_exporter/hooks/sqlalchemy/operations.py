"""Where SQLAlchemy is listened to, and the operations that are replaced, for database sessions.

What goes wrong in an operation is what comes out of it, wherever it began: in the pool, while connecting, in the
driver, or in the Session itself. SQLAlchemy's own event for errors leaves out some of these, and tells of others that
the application never sees; it is needed for statements and rows that are asked for past the Session.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from session_exporter.hooks.sqlalchemy.pools import PoolWatch
from session_exporter.hooks.sqlalchemy.watch import Watch
from session_exporter.patches import Method, Patch

if TYPE_CHECKING:
    from session_exporter.hooks.sqlalchemy.uses import Use

# On a Connection: in the copies that SQLAlchemy 1.4 makes of one for its options as well.
USE: Final = "_session_exporter_use"

Undo = Callable[[], None]


class Operations:
    """Tells a watch what is done with Sessions and pools; SQLAlchemy's ORM has been imported.

    Args:
        watch: Told of Sessions.
        pools: Told of pools.
    """

    def __init__(self, watch: Watch, pools: PoolWatch) -> None:
        self._watch = watch
        self._pools = pools
        self._active = False
        self._undo: list[Undo] = []

    def install(self) -> None:
        """Begin.

        Raises:
            Exception: This version of SQLAlchemy is not as expected; nothing has changed.
        """
        self._active = True
        try:
            self._listen()
            self._replace()
        except Exception:
            self.uninstall()
            raise

    def uninstall(self) -> None:
        """Leave SQLAlchemy as it was."""
        self._active = False
        while self._undo:
            self._undo.pop()()

    def _listen(self) -> None:
        from sqlalchemy import event  # noqa: PLC0415 - never imported unless the application has
        from sqlalchemy.engine import Engine  # noqa: PLC0415 - as above
        from sqlalchemy.orm import Session  # noqa: PLC0415 - as above

        for target, name, listener in (
            (Session, "after_transaction_create", self._transaction_created),
            (Session, "after_transaction_end", self._transaction_ended),
            (Session, "after_begin", self._connected),
            (Engine, "before_cursor_execute", self._executing),
            (Engine, "handle_error", self._failed),
            (Engine, "engine_disposed", self._disposed),
        ):
            event.listen(target, name, listener)
            self._undo.append(partial(event.remove, target, name, listener))

    def _replace(self) -> None:
        from sqlalchemy.orm import Session, SessionTransaction, exc  # noqa: PLC0415 - as above
        from sqlalchemy.pool import Pool  # noqa: PLC0415 - as above

        # SQLAlchemy 1.4 has one method for what later has one of its own inside of `execute`, `scalar` and `scalars`.
        execute = "_execute_internal" if hasattr(Session, "_execute_internal") else "execute"
        for name in (execute, "connection", "_flush", "_bulk_save_mappings"):
            self._patch(Session, name, self._using)
        self._patch(Session, "_close_impl", self._closing)
        self._patch(SessionTransaction, "prepare", self._preparing)
        self._patch(SessionTransaction, "commit", self._committing)
        self._patch(SessionTransaction, "rollback", self._rolling_back)
        self._patch(Pool, "connect", self._taking)
        self._patch(Pool, "_return_conn", self._returning)
        self._notice_detached(exc.DetachedInstanceError)

    def _patch(self, owner: type, name: str, make: Callable[[Method], Method]) -> None:
        self._undo.append(Patch(owner, name, make).undo)

    def _using(self, original: Method) -> Method:
        enter, leave = self._watch.enter, self._watch.leave

        def operation(session: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._active:
                return original(session, *args, **kwargs)
            entered = enter(session)
            try:
                result = original(session, *args, **kwargs)
            except BaseException as error:
                leave(session, entered, error)
                raise
            leave(session, entered)
            return result

        return operation

    def _closing(self, original: Method) -> Method:
        def close(session: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._active:
                return original(session, *args, **kwargs)
            try:
                return self._clear(session, original, session, *args, **kwargs)
            finally:
                # What failed half way may have left it open: it is then closed, or collected, later.
                if getattr(session, "_transaction", None) is None:
                    self._watch.close(session)

        return close

    def _preparing(self, original: Method) -> Method:
        def prepare(transaction: Any, *args: Any, **kwargs: Any) -> Any:
            return self._work(transaction.session, original, transaction, *args, **kwargs)

        return prepare

    def _committing(self, original: Method) -> Method:
        def commit(transaction: Any, *args: Any, **kwargs: Any) -> Any:
            # Not afterwards: 1.4 takes it away from the transaction.
            session, is_root = transaction.session, transaction.parent is None
            result = self._work(session, original, transaction, *args, **kwargs)
            if is_root and self._active:
                self._watch.commit(session)
            return result

        return commit

    def _rolling_back(self, original: Method) -> Method:
        def rollback(transaction: Any, *args: Any, **kwargs: Any) -> Any:
            return self._clear(transaction.session, original, transaction, *args, **kwargs)

        return rollback

    def _work(self, session: Any, original: Method, *args: Any, **kwargs: Any) -> Any:
        return self._operate(session, original, args, kwargs, as_user=True)

    def _clear(self, session: Any, original: Method, *args: Any, **kwargs: Any) -> Any:
        return self._operate(session, original, args, kwargs, as_user=False)

    def _operate(
        self, session: Any, original: Method, args: tuple[Any, ...], kwargs: dict[str, Any], *, as_user: bool
    ) -> Any:
        if not self._active or session is None:
            return original(*args, **kwargs)
        entered = self._watch.enter(session, as_user=as_user)
        try:
            result = original(*args, **kwargs)
        except BaseException as error:
            self._watch.leave(session, entered, error)
            raise
        self._watch.leave(session, entered)
        return result

    def _taking(self, original: Method) -> Method:
        def connect(pool: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._active:
                return original(pool, *args, **kwargs)
            return self._pools.connect(original, pool, *args, **kwargs)

        return connect

    def _returning(self, original: Method) -> Method:
        def return_conn(pool: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return original(pool, *args, **kwargs)
            finally:
                if self._active:
                    self._pools.look(pool)

        return return_conn

    def _notice_detached(self, cls: Any) -> None:
        """What an object raises that has no Session is told by no operation; the class has no `__init__` of its own."""
        watch = self._watch

        def __init__(error: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it becomes that
            super(cls, error).__init__(*args, **kwargs)
            if self._active:
                watch.lack(error)

        if "__init__" in vars(cls):
            raise TypeError(f"{cls.__name__} has got an __init__")
        cls.__init__ = __init__
        self._undo.append(partial(delattr, cls, "__init__"))

    def _transaction_created(self, session: Any, transaction: Any) -> None:
        if transaction.parent is None:
            self._watch.begin(session)

    def _transaction_ended(self, session: Any, transaction: Any) -> None:
        if transaction.parent is None:
            self._watch.end_transaction(session)

    def _connected(self, session: Any, _transaction: Any, connection: Any) -> None:
        use = self._watch.use_of(session)
        if use is not None:
            connection.__dict__[USE] = use

    def _executing(self, connection: Any, *_: object) -> None:
        use: Use | None = connection.__dict__.get(USE)
        if use is not None and not use.over:
            self._watch.execute(use)

    def _failed(self, context: Any) -> None:
        connection, error = context.connection, context.sqlalchemy_exception or context.original_exception
        use: Use | None = None if connection is None else connection.__dict__.get(USE)
        if use is not None and not use.over and isinstance(error, Exception):
            self._watch.fail(use, error)

    def _disposed(self, _engine: Any) -> None:
        self._pools.look_at_all()
