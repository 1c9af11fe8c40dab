"""The transactions of this process that are open: one buffer each, on the record of its driver connection.

All Connections that share a driver connection (a StaticPool's, the branched ones of 1.4) share its transaction.
"""

from itertools import count
from typing import Any, Final
from weakref import WeakSet

from session_exporter.hooks.sqlalchemy.buffer import Buffer
from session_exporter.reporter import Reporter

KEY: Final = "session_exporter.settlement"
# What libpq calls the transaction of a connection that can only be rolled back: PQTRANS_INERROR.
_IN_ERROR: Final = 3


class Book:
    """Open transactions, by Connection, or pooled driver connection or its record, whichever is at hand.

    Attributes:
        reporter: Of whoever needs to know about transactions; None while nobody does, and nothing is open.
        numbers: What transactions are told apart by, in this process.
    """

    def __init__(self) -> None:
        self.reporter: Reporter | None = None
        self.numbers = count(1)
        self._open: WeakSet[Buffer] = WeakSet()

    def open(self, connection: Any, reporter: Reporter) -> Buffer:
        """Begin the buffer of the transaction that a Connection is in."""
        buffer = Buffer(next(self.numbers), reporter)
        connection.info[KEY] = buffer
        self._open.add(buffer)
        return buffer

    def find(self, owner: Any) -> Buffer | None:
        """The buffer of the transaction that is open there."""
        if self.reporter is not None:
            with self.reporter.shield:
                buffer: Buffer | None = _info(owner).get(KEY)
                return None if buffer is None or buffer.over else buffer
        return None

    def take(self, owner: Any) -> Buffer | None:
        """The same, for whoever ends the transaction: the next one finds nothing there."""
        if self.reporter is not None:
            with self.reporter.shield:
                buffer: Buffer | None = _info(owner).pop(KEY, None)
                return None if buffer is None or buffer.over else buffer
        return None

    def take_twophase(self, connection: Any, xid: object) -> Buffer | None:
        """The same, when the Connection itself is in the two-phase transaction `xid`."""
        if self.reporter is not None:
            with self.reporter.shield:
                own = getattr(connection.get_transaction(), "xid", None)
                return self.take(connection) if own is not None and own == xid else None
        return None

    def lose(self, buffer: Buffer, owner: Any) -> None:
        """Undo what was taken from there, and can be committed no more.

        SQLite keeps a transaction whose commit was refused, and SQLAlchemy may return its connection to the pool like
        that, whose next user then commits it.
        """
        if self.reporter is not None:
            with self.reporter.shield:
                if getattr(_driver_connection(owner), "in_transaction", False) is True:
                    _info(owner)[KEY] = buffer
                    return
        buffer.undo()

    def is_aborted(self, buffer: Buffer, owner: Any) -> bool:
        """Whether PostgreSQL will answer a commit with a rollback, and no error, as a statement has failed."""
        if self.reporter is not None:
            with self.reporter.shield:
                status = getattr(getattr(_driver_connection(owner), "info", None), "transaction_status", None)
                return buffer.aborted if status is None else bool(status == _IN_ERROR)
        return buffer.aborted

    def close(self) -> None:
        """Undo all that is open, as nobody will tell any more what becomes of it."""
        self.reporter = None
        for buffer in self._all():
            if not buffer.over:
                buffer.undo()
        self._open.clear()

    def forget_the_parent(self) -> None:
        """In a forked child: what is open is the parent's to commit."""
        for buffer in list(self._open):
            buffer.forget()
        self._open.clear()

    def _all(self) -> list[Buffer]:
        while True:
            try:
                return list(self._open)
            except RuntimeError:  # another thread has opened one meanwhile
                continue


def _driver_connection(owner: Any) -> Any:
    """The driver's own, of a pooled connection, also a detached one, or its record; asynchronous ones are adapted."""
    connection = owner.dbapi_connection
    return getattr(connection, "driver_connection", connection)


def _info(owner: Any) -> dict[str, Any]:
    """What a connection, or its record, keeps for others.

    The stand-in that SQLAlchemy uses while it gets to know a database keeps nothing: nobody else uses it.
    """
    try:
        info: dict[str, Any] = owner.info
    except (AttributeError, NotImplementedError):
        return {}
    return info
