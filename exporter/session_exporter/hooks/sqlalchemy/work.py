"""What one transaction has found and made so far, and what happens once it is committed."""

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from session_exporter import pending
from session_exporter.core.events import ROW, UPSERT
from session_exporter.course import PROPOSED
from session_exporter.hooks.sqlalchemy import settlement
from session_exporter.hooks.sqlalchemy.knowledge import ENDED, FOUND
from session_exporter.hooks.sqlalchemy.mapped import MappedTable
from session_exporter.wrapped_calls import call_of

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from session_exporter.surroundings import Surroundings

_KEY: Final = "session_exporter.work"
# Ids of one transaction that are remembered; a bulk load beyond it is reported all the same.
IDS_MAX: Final = 10_000

# Between SQLAlchemy and where surroundings are asked for: the listener, the plan, and what it makes.
OWN_FRAMES: Final = 3

CREATED, SEEN, ROW_MADE, LOST, NAMED, RESTARTED = range(6)


class Work:
    """What a transaction did to sessions.

    Attributes:
        transaction: Which.
        found: Scope and id of sessions that lookups found.
        made: Scope and id of sessions it may have made.
        ended: Scope and id of sessions it ended: a create after that comes later.
    """

    __slots__ = ("ended", "found", "made", "transaction")

    def __init__(self, transaction: Hashable) -> None:
        self.transaction = transaction
        self.found: set[tuple[str, str]] = set()
        self.made: set[tuple[str, str]] = set()
        self.ended: set[tuple[str, str]] = set()


def work_of(connection: "Connection") -> Work:
    """What the transaction that a connection is in has done so far."""
    if connection.closed:
        return Work(None)
    transaction = settlement.transaction_of(connection)
    info = connection.info
    work: Work | None = info.get(_KEY)
    if work is None or work.transaction != transaction:
        work = info[_KEY] = Work(transaction)
    return work


class Execution:
    """A statement that has just been executed.

    Attributes:
        connection: By which.
        result: Not yet fetched from.
        context: SQLAlchemy's.
        parameters: One for each time it was executed: by name, or in their order.
    """

    __slots__ = ("connection", "context", "parameters", "result")

    def __init__(self, connection: "Connection", result: Any, parameters: list[Any]) -> None:
        self.connection = connection
        self.result = result
        self.context = result.context
        self.parameters = parameters

    @property
    def has_rows(self) -> bool:
        """Whether there are rows for the application to fetch."""
        return not self.result._soft_closed and bool(self.result.returns_rows)  # noqa: SLF001 - nothing public tells

    @property
    def rowcount(self) -> int:
        """How many rows were changed; -1 when the driver does not know."""
        context = self.context
        if getattr(context, "_is_implicit_returning", False):
            return len(context.returned_default_rows or ())
        if context.executemany and not context.dialect.supports_sane_multi_rowcount:
            return -1
        rowcount = int(self.result.rowcount)
        return rowcount if rowcount >= 0 else getattr(context, "_session_exporter_rowcount", rowcount)

    @property
    def rows_expected(self) -> int:
        """How many rows there are to fetch; -1 when the driver does not know before they are, as SQLite's."""
        return -1 if self.context.dialect.name == "sqlite" else int(self.result.rowcount)

    def places(self, outputs: tuple[int | str, ...]) -> tuple[int, ...] | None:
        """Where columns that go by name are in the rows of the result; None when one is missing or there twice."""
        names = self.result.keys()
        keys = [str(key).lower() for key in names]
        if any(isinstance(output, str) and keys.count(output) != 1 for output in outputs):
            return None
        return tuple(output if isinstance(output, int) else keys.index(output) for output in outputs)


class Deed(NamedTuple):
    """Something that a statement did to a session.

    Attributes:
        kind: `CREATED`, `SEEN` (made or changed), `ROW_MADE`, `LOST`, `NAMED` (its user) or `RESTARTED`.
        session: Its id.
        user: Of its user; None when the statement does not say.
        key: The device, app or thread.
        generation: What the columns of `restart_on` hold.
        reason: Why it ended.
    """

    kind: int
    session: str
    user: str | None = None
    key: str = ""
    generation: str = ""
    reason: str = ""


class Deeds:
    """What one statement did; reported once its transaction is committed.

    Args:
        table: The mapped table.
        connection: That executed it.
    """

    __slots__ = ("_at_us", "_deeds", "_is_over", "_later", "table", "where", "work")

    def __init__(self, table: MappedTable, connection: "Connection", work: Work) -> None:
        self.table = table
        self.work = work
        self.where: Surroundings = table.reporter.surroundings(OWN_FRAMES)
        self._deeds: list[Deed] = []
        self._later: set[str] = set()
        self._at_us = 0
        self._is_over = False
        if connection.closed:  # by 1.4, which has committed what an engine executed
            self._commit(table.reporter.now_us())
        else:
            settlement.defer(connection, self._commit, self._undo)

    def add(self, deed: Deed) -> None:
        """Note one; reported at once when the transaction has been committed meanwhile."""
        if self._is_over:
            if self._at_us:
                self._report(deed, self._at_us)
            return
        self._deeds.append(deed)
        scope, work = self.table.scope, self.work
        if deed.kind in _MAKES:
            if (scope, deed.session) in work.ended:
                self._later.add(deed.session)
            pending.begin(scope, deed.session)
            self.table.reporter.note(PROPOSED, scope, deed.session)
            if len(work.made) < IDS_MAX:
                work.made.add((scope, deed.session))
            call = call_of(scope)
            if call is not None:
                call.made.add(deed.session)
        elif deed.kind == LOST and len(work.ended) < IDS_MAX:
            work.ended.add((scope, deed.session))
            work.made.discard((scope, deed.session))

    def _commit(self, at_us: int) -> None:
        self._at_us, self._is_over = at_us, True
        scope = self.table.scope
        for deed in self._deeds:
            if deed.kind in _MAKES:
                pending.settle(scope, deed.session)
            self._report(deed, at_us + 1 if self._comes_later(deed) else at_us)
        self._deeds = []

    def _comes_later(self, deed: Deed) -> bool:
        """Whether it came after the ends of its transaction, whose time is the same.

        Who ends a session and creates another one, or the same again, means that order, whatever that of the statements
        is: the ORM inserts first. A session that ends where it was created was there before its end.
        """
        if deed.kind not in _MAKES or not self.work.ended:
            return False
        return deed.session in self._later or (self.table.scope, deed.session) not in self.work.ended

    def _undo(self) -> None:
        self._is_over = True
        scope, work = self.table.scope, self.work
        for deed in self._deeds:
            if deed.kind in _MAKES:
                pending.settle(scope, deed.session)
                work.made.discard((scope, deed.session))
            elif deed.kind == LOST:
                work.ended.discard((scope, deed.session))
        self._deeds = []

    def _report(self, deed: Deed, at_us: int) -> None:
        _REPORTS[deed.kind](self, deed, at_us)
        if deed.kind != NAMED:
            state = ENDED if deed.kind == LOST else FOUND
            self.table.knowledge.note(self.table.scope, deed.session, state)

    def _created(self, deed: Deed, at_us: int) -> None:
        self.table.reporter.created(
            deed.session,
            scope=self.table.scope,
            user=deed.user,
            key=deed.key,
            where=self.where,
            at_us=at_us,
            generation=deed.generation,
        )

    def _observed(self, deed: Deed, at_us: int) -> None:
        self.table.reporter.observed(
            deed.session,
            scope=self.table.scope,
            user=deed.user,
            key=deed.key,
            where=self.where,
            at_us=at_us,
            origin=ROW if deed.kind == ROW_MADE else UPSERT,
            generation=deed.generation,
        )

    def _ended(self, deed: Deed, at_us: int) -> None:
        self.table.reporter.ended(
            deed.session,
            scope=self.table.scope,
            user=deed.user,
            key=deed.key,
            where=self.where,
            at_us=at_us,
            reason=deed.reason,
        )

    def _attributed(self, deed: Deed, at_us: int) -> None:
        self.table.reporter.attributed(
            deed.session, scope=self.table.scope, user=deed.user, key=deed.key, where=self.where, at_us=at_us
        )


_MAKES: Final = frozenset({CREATED, SEEN, ROW_MADE})
_REPORTS: Final[dict[int, Callable[[Deeds, Deed, int], None]]] = {
    CREATED: Deeds._created,  # noqa: SLF001 - its own
    SEEN: Deeds._observed,  # noqa: SLF001 - its own
    ROW_MADE: Deeds._observed,  # noqa: SLF001 - its own
    RESTARTED: Deeds._observed,  # noqa: SLF001 - its own
    LOST: Deeds._ended,  # noqa: SLF001 - its own
    NAMED: Deeds._attributed,  # noqa: SLF001 - its own
}
