"""What is counted by user, where `per_user.top` asks for it: beside the metrics of whole scopes, which it leaves alone.

At most so many users of each scope have series of their own; `user="other"` is everybody else.
"""

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Final

from session_exporter.core.totals import UserCounts
from session_exporter.sidecar.metric import LabelledValue, Metric, SampleSource
from session_exporter.sidecar.snapshot import Snapshot


def _per_user(value: Callable[[UserCounts], int]) -> SampleSource:
    """One row for each scope and user who is counted by name, and one for all others."""

    def rows(snapshot: Snapshot) -> Iterable[LabelledValue]:
        for scope, totals in sorted(snapshot.ledger.scopes.items()):
            for user, counts in totals.users.items():
                yield LabelledValue((scope, user), value(counts), counts.born_us)

    return SampleSource(("scope", "user"), rows)


USER_METRICS: Final[tuple[Metric, ...]] = (
    Metric(
        "session_user_creates_total",
        "counter",
        "The creates of session_creates_total by user; only with per_user.top.",
        _per_user(attrgetter("creates")),
        called="session_creates_total{user_id}",
    ),
    Metric(
        "session_user_reuses_total",
        "counter",
        "The reuses of session_reuses_total by user; only with per_user.top.",
        _per_user(attrgetter("reuses")),
        called="session_reuses_total{user_id}",
    ),
    Metric(
        "session_user_rapid_duplicate_creates_total",
        "counter",
        "The duplicates of session_rapid_duplicate_creates_total by user; only with per_user.top.",
        _per_user(attrgetter("duplicates")),
    ),
    Metric(
        "session_user_context_loss_total",
        "counter",
        "The losses of session_context_loss_total by user; only with per_user.top.",
        _per_user(attrgetter("losses")),
        called="context_loss_total{user_id}",
    ),
)
