"""One use of a SQLAlchemy Session: from its first transaction until it is closed, over as many commits as it sees."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple, cast
from weakref import ref

from session_exporter.ambient import Request
from session_exporter.core.model import DatabaseSessionMetrics, SessionState
from session_exporter.failures import error_label, failure_kind
from session_exporter.hooks.sqlalchemy.belonging import Belonging
from session_exporter.reporter import Reporter
from session_exporter.surroundings import Surroundings

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# How far an error is followed that one operation has raised because of another one inside of it.
_CAUSES_MAX: Final = 8


class _Where(NamedTuple):
    """Surroundings without the request, since that may know somebody who holds the Session."""

    trace: bytes
    sites: tuple[str, ...]
    request_id: str = ""
    user_id: str = ""


class Use:
    """What is known of one use; the Session itself is not kept alive by it.

    Args:
        name: The use's own id.
        session: The Session.
        collected: Called when the Session was collected without having been closed.
        ended: Called with the use when a request ends that it was used in.
        where: What surrounds the caller.
        at_us: When it began, microseconds since the Unix epoch.
        now_ns: The same moment, by the monotonic clock.

    Attributes:
        metrics: Its figures, when they were last `told`: setting a field of the model takes as long as a statement may.
        belonging: Whose it is.
        actor: Who is inside of an operation on the Session; 0 for nobody.
        depth: How many operations that one is inside of.
        errors: By kind.
        last_ns: When something was done with it at last, by the monotonic clock.
        queries: Statements executed.
        flagged: Violations that were reported, and whether it was counted as leaked.
        over: Whether it has ended, or belongs to the process that this one was forked from.
        session: A weak reference.
    """

    __slots__ = (
        "__weakref__",
        "_at_us",
        "_committed",
        "_now_ns",
        "_raised",
        "_state",
        "_transactions",
        "_where",
        "actor",
        "belonging",
        "depth",
        "errors",
        "flagged",
        "last_ns",
        "metrics",
        "over",
        "queries",
        "session",
    )

    def __init__(
        self,
        name: str,
        session: Any,
        collected: Callable[[Any], None],
        ended: Callable[["Use", Request], None],
        *,
        where: Surroundings,
        at_us: int,
        now_ns: int,
    ) -> None:
        self.metrics = DatabaseSessionMetrics(name, created_at=_EPOCH + timedelta(microseconds=at_us))
        self.belonging = Belonging(partial(ended, self))
        self.session = ref(session, collected)
        self.actor = 0
        self.depth = 0
        self.errors: Counter[str] = Counter()
        self.flagged: set[str] = set()
        self.over = False
        self._where = _Where(where.trace, where.sites)
        self._at_us = at_us
        self._now_ns = self.last_ns = now_ns
        self.queries = self._transactions = 0
        self._state = SessionState.CREATED
        self._committed = False
        self._raised = 0

    def begin_transaction(self, now_ns: int) -> None:
        """Count a root transaction."""
        self.last_ns = now_ns
        self._committed = False
        self._transactions += 1
        self._state = SessionState.ACTIVE

    def end_transaction(self) -> None:
        """Note that the root transaction is over; `commit` follows if it was committed."""
        if self._state is SessionState.ACTIVE:
            self._state = SessionState.ROLLED_BACK

    def commit(self, now_ns: int) -> None:
        """Note that the root transaction was committed."""
        self.last_ns = now_ns
        self._committed = True
        self._state = SessionState.COMMITTED

    def fail(self, error: Exception, now_ns: int) -> None:
        """Count an error, unless it comes out of an operation that has failed inside of this one."""
        if self._raised and self._raised in _ids_of(error):
            return
        self._raised = id(error)
        self._state = SessionState.ERROR
        self.last_ns = now_ns
        self.errors[failure_kind(error)] += 1
        self.metrics.record_error(error_label(error), now=self._time(now_ns))

    def leave(self) -> None:
        """Note that an operation is over."""
        if self.depth > 1:
            self.depth -= 1
        else:
            self.depth = self.actor = self._raised = 0

    def is_older_than(self, lifetime_ns: int, now_ns: int) -> bool:
        """Whether it began longer ago."""
        return now_ns - self._now_ns > lifetime_ns

    @property
    def outcome(self) -> str:
        """One of `OUTCOMES`: `committed` when its last transaction was, else `error` after any error."""
        if self._committed:
            return "committed"
        return "error" if self.metrics.error_count else "rolled_back"

    def told(self) -> DatabaseSessionMetrics:
        """Its figures, with nothing left out."""
        metrics = self.metrics
        metrics.query_count, metrics.transaction_count = self.queries, self._transactions
        metrics.request_id, metrics.user_id = self.belonging.request_id, self.belonging.user
        metrics.state = self._state
        metrics.mark_activity(now=self._time(self.last_ns))
        return metrics

    def report(self, reporter: Reporter, now_ns: int) -> None:
        """Close its metrics and report them; the state is that before."""
        metrics, total_us = self.told(), max(0, now_ns - self._now_ns) // 1000
        outcome, state = self.outcome, metrics.state
        metrics.close_session(total_us / 1000, now=self._time(now_ns))
        reporter.db_session(
            metrics.session_id,
            outcome=outcome,
            state=state.value,
            opened_at_us=self._at_us,
            last_activity_us=self._us(self.last_ns),
            queries=metrics.query_count,
            transactions=metrics.transaction_count,
            errors=self.errors,
            last_error=metrics.last_error or "",
            total_time_us=total_us,
            user=metrics.user_id,
            where=cast("Surroundings", self._where._replace(request_id=metrics.request_id)),
            at_us=self._us(now_ns),
        )

    def _us(self, now_ns: int) -> int:
        return self._at_us + max(0, now_ns - self._now_ns) // 1000

    def _time(self, now_ns: int) -> datetime:
        return _EPOCH + timedelta(microseconds=self._us(now_ns))


def _ids_of(error: BaseException | None) -> list[int]:
    ids: list[int] = []
    while error is not None and len(ids) < _CAUSES_MAX:
        ids.append(id(error))
        error = error.__cause__ or error.__context__
    return ids
