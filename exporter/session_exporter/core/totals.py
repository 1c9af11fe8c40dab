"""What the ledger has counted: the numbers that are committed, exposed and judged."""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

import msgspec

from session_exporter.core.scopes import (
    CAUSES,
    DB_ERRORS,
    END_REASONS,
    FAILURES,
    ID_FORMATS,
    ID_KINDS,
    LOSS_REASONS,
    OUTCOMES,
    VIOLATIONS,
)

# Upper bounds in seconds; +Inf is implied. 10 is the default duplicate window, 1800 the default idle timeout.
INTERVAL_BUCKETS_S: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 86400.0)
DURATION_BUCKETS_S: Final = (1.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 21600.0, 86400.0)
DB_SESSION_BUCKETS_S: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0)
LOOKUP_BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

# What is counted of ids: `<kind>/<format>`.
ID_CHECKS: Final = tuple(f"{kind}/{form}" for kind in ID_KINDS for form in ID_FORMATS)

DAY_US: Final = 86_400_000_000
# What counts all users together who are not counted by name.
OTHER_USERS: Final = "other"


class Histogram(msgspec.Struct):
    """Observations per bucket.

    Attributes:
        bounds_s: Upper bounds, ascending, seconds, inclusive.
        counts: One per bound, and one more for +Inf; not cumulative.
        sum_s: The sum of all observations, seconds.
    """

    bounds_s: tuple[float, ...]
    counts: list[int] = []
    sum_s: float = 0.0

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.bounds_s) + 1:
            self.counts = [0] * (len(self.bounds_s) + 1)

    def observe(self, value_s: float) -> None:
        """Add one observation of `value_s` seconds."""
        self.counts[bisect_left(self.bounds_s, value_s)] += 1
        self.sum_s += value_s

    def rebound(self, bounds_s: tuple[float, ...]) -> None:
        """Go over to other bounds: what was observed goes to the least bound that certainly holds it."""
        if bounds_s == self.bounds_s:
            return
        counts = [0] * (len(bounds_s) + 1)
        for bound_s, count in zip((*self.bounds_s, float("inf")), self.counts, strict=True):
            counts[bisect_left(bounds_s, bound_s)] += count
        self.bounds_s, self.counts = bounds_s, counts


def interval_buckets(windows_us: Iterable[int]) -> tuple[float, ...]:
    """The bounds of create intervals, every scope's duplicate window (microseconds) among them."""
    return tuple(sorted({*INTERVAL_BUCKETS_S, *(window_us / 1e6 for window_us in windows_us)}))


class Exemplar(msgspec.Struct, frozen=True):
    """One event that a counter points to: trace id (hex), user pseudonym, event time in microseconds."""

    trace: str
    user: str
    at_us: int


class UserCounts(msgspec.Struct, array_like=True):
    """What is counted of one user of a scope, or of all `OTHER_USERS`, since `born_us`."""

    born_us: int = 0
    creates: int = 0
    reuses: int = 0
    duplicates: int = 0
    losses: int = 0


class ScopeTotals(msgspec.Struct):
    """All counts of one scope since `born_us`, when counting of this scope began (its `_created`, microseconds).

    `id_shapes` counts the ids that are not canonical, keyed `<kind>/<format>/<shape>`; `id_samples` those of them that
    became incidents. Exemplars are keyed `creates`, `duplicates:<cause>`, `losses:<reason>`. `day` is the UTC day of
    the two counts of "today", in days since the epoch. `users` are by pseudonym, `OTHER_USERS` among them; empty when
    nobody is counted by name.

    `watched_since_us` is since when the database is read, 0 for not at all; since then `reported` counts the creates
    that hooks told of, `found` the sessions whose rows were found, and `unseen` those of them that no hook told of in
    time; `unreported` are those of the unseen that were created when there were hooks.
    """

    born_us: int = 0
    creates: int = 0
    reuses: int = 0
    adopted: int = 0
    lookups: int = 0
    redundant_lookups: int = 0
    conflicts: int = 0
    rotations: int = 0
    stale_expected: int = 0
    id_mismatches: int = 0
    ids_checked: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(ID_CHECKS, 0))
    id_shapes: dict[str, int] = {}
    id_samples: dict[str, int] = {}
    failures: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(FAILURES, 0))
    violations: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(VIOLATIONS, 0))
    ends: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(END_REASONS, 0))
    duplicates: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(CAUSES, 0))
    losses: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(LOSS_REASONS, 0))
    active_sessions: int = 0
    active_users: int = 0
    durations: Histogram = msgspec.field(default_factory=lambda: Histogram(DURATION_BUCKETS_S))
    intervals: Histogram = msgspec.field(default_factory=lambda: Histogram(INTERVAL_BUCKETS_S))
    lookup_durations: Histogram = msgspec.field(default_factory=lambda: Histogram(LOOKUP_BUCKETS_S))
    exemplars: dict[str, Exemplar] = {}
    day: int = 0
    creates_today: int = 0
    reuses_today: int = 0
    users: dict[str, UserCounts] = {}
    watched_since_us: int = 0
    reported: int = 0
    found: int = 0
    unseen: int = 0
    unreported: int = 0

    def count_minute(self, at_us: int, reuses: int, creates: int) -> None:
        """Add what the ledger counted in one minute: its reuses, and both to the UTC day it lies in."""
        self.reuses += reuses
        day = at_us // DAY_US
        if day > self.day:
            self.day, self.creates_today, self.reuses_today = day, 0, 0
        if day == self.day:
            self.creates_today += creates
            self.reuses_today += reuses

    def forget_names(self) -> None:
        """Forget all that names somebody; who was counted by name no longer is, and no other count changes."""
        self.exemplars, self.id_samples = {}, {}
        self.users = {name: counts for name, counts in self.users.items() if name == OTHER_USERS}

    @property
    def duplicate_creates(self) -> int:
        """Rapid duplicate creates of every cause."""
        return sum(self.duplicates.values())

    @property
    def has_hooks(self) -> bool:
        """Whether anybody but the database has told of its sessions."""
        return self.creates - self.unseen + self.reuses + self.adopted + self.lookups > 0

    @property
    def reuse_ratio(self) -> float:
        """Share of reuses: reuses / (creates + reuses), NaN before traffic."""
        operations = self.creates + self.reuses
        return self.reuses / operations if operations else float("nan")


class DbTotals(msgspec.Struct):
    """All counts of uses of database sessions: closed ones by outcome, errors by kind."""

    closed: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    queries: int = 0
    transactions: int = 0
    errors: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(DB_ERRORS, 0))
    durations: Histogram = msgspec.field(default_factory=lambda: Histogram(DB_SESSION_BUCKETS_S))


class LedgerTotals(msgspec.Struct):
    """Everything the ledger counts, over all scopes.

    Attributes:
        scopes: By scope name.
        events: Events received, by kind; `unknown` for kinds this version does not know.
        late_events: Events that arrived after the watermark had passed them.
        evicted_sessions: Sessions that left because `max_tracked_sessions` was reached.
        tracked_sessions: Sessions in the ledger now, ended ones that are still remembered included.
        db: Of database sessions.
    """

    scopes: dict[str, ScopeTotals] = {}
    events: dict[str, int] = {}
    late_events: int = 0
    evicted_sessions: int = 0
    tracked_sessions: int = 0
    db: DbTotals = msgspec.field(default_factory=DbTotals)
