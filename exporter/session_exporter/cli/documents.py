"""The documents a sidecar answers with, as far as people are shown them.

Whatever answered may be another program or another version: a document is converted once, here, and what it lacks or
holds in the wrong type is an error that names the place. Fields this version does not know are ignored.
"""

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec

from session_exporter.errors import PeerError

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Document = TypeVar("_Document")


class Window(msgspec.Struct, frozen=True):
    """What happened in a window of time; `reuse_ratio` is None without operations, `id_compliance` without checks."""

    creates: Count
    reuses: Count
    operations: Count
    reuse_ratio: float | None = None
    context_losses: Count = 0
    rapid_duplicate_creates: Count = 0
    duplicates_by_cause: dict[str, Count] = {}
    losses_by_reason: dict[str, Count] = {}
    isolation_violations: Count = 0
    lookups: Count = 0
    redundant_lookups: Count = 0
    ids_checked: Count = 0
    id_mismatches: Count = 0
    id_compliance: float | None = None
    ids_by_kind: dict[str, dict[str, Count]] = {}
    id_shapes: dict[str, dict[str, dict[str, Count]]] = {}
    high_create_rate: bool = False

    @property
    def eventful(self) -> bool:
        """Whether anything happened that a person would want a line for."""
        return bool(self.operations or self.context_losses or self.rapid_duplicate_creates or self.isolation_violations)


class Reconciliation(msgspec.Struct, frozen=True):
    """What hooks have told of a scope since its table is read, beside what stands in it.

    Attributes:
        since: ISO 8601, as is `read_until`, up to when the table has been read.
        reported: Creates that hooks told of.
        found: Sessions whose rows were found.
        unseen: Those of them that no hook told of.
        unreported: Those of the unseen that were created when there were hooks.
        difference: Found less reported.
        waiting: Rows that a hook may still tell of.
        unread: Creates that the table may not have been read for.
        missing: Reported, and surely not found.
        agree: None when it cannot be told.
    """

    since: str = ""
    read_until: str | None = None
    reported: Count = 0
    found: Count = 0
    unseen: Count = 0
    unreported: Count = 0
    difference: int = 0
    waiting: Count = 0
    unread: Count = 0
    missing: Count = 0
    agree: bool | None = None


class ScopeSummary(msgspec.Struct, frozen=True):
    """One scope's window, the ratio it is meant to reach, from 0 to 1, and what its table says; None for nothing."""

    window: Window
    reuse_target: float = 0.95
    active_sessions: Count = 0
    active_users: Count = 0
    duplicate_active_users: Count | None = None
    reconciliation: Reconciliation | None = None


class ShownMinute(msgspec.Struct, frozen=True):
    """What happened in the minute that began at `minute` (ISO 8601, UTC)."""

    minute: str
    creates: Count = 0
    reuses: Count = 0
    rapid_duplicate_creates: Count = 0
    context_losses: Count = 0


class Exporter(msgspec.Struct, frozen=True):
    """How the sidecar itself is, or those of a fleet.

    Attributes:
        hint: Where it looks when it sees no worker.
        notes: What to know about the figures.
        troubled: Addresses of those that can be asked and found duplicates, losses or violations, and how many; the
            most first.
    """

    workers: Count = 0
    events_lost: Count = 0
    last_commit_at: str | None = None
    hint: str = ""
    notes: list[str] = []
    troubled: dict[str, Count] = {}


class Summary(msgspec.Struct, frozen=True):
    """A judged window; `healthy` is None when it cannot be told."""

    healthy: bool | None
    total: Window
    window_seconds: Annotated[float, msgspec.Meta(ge=0, le=1e10)]
    generated_at: str = ""
    version: str = ""
    problems: list[str] = []
    scopes: dict[str, ScopeSummary] = {}
    minutes: list[ShownMinute] = []
    exporter: Exporter = msgspec.field(default_factory=Exporter)

    @property
    def duplicate_active_users(self) -> int | None:
        """Users with several active sessions in a database; None when nobody counts them."""
        counts = [each.duplicate_active_users for each in self.scopes.values()]
        known = [each for each in counts if each is not None]
        return sum(known) if known else None

    @property
    def eventful_scopes(self) -> dict[str, ScopeSummary]:
        """The scopes in which anything happened, in the order of the configuration."""
        return {name: scope for name, scope in self.scopes.items() if scope.window.eventful}


class Create(msgspec.Struct, frozen=True):
    """One create of an incident; ids are pseudonyms, call sites innermost first."""

    at: str = ""
    session: str = ""
    request: str = ""
    trace: str = ""
    worker: str = ""
    pid: int = 0
    replica: str = ""
    call_sites: list[str] = []


class ShownIncident(msgspec.Struct, frozen=True):
    """The evidence of one incident; what its kind does not have is empty.

    Of a duplicate there is a `cause`, of a loss `reason`, `expected` and `actual`, of a violation `violation`, of an id
    `id_kind`, of a user with several active sessions `active_rows`.
    """

    id: str
    kind: str
    scope: str = ""
    at: str = ""
    cause: str | None = ""
    reason: str | None = ""
    user: str | None = ""
    gap_ms: float | None = None
    sessions: list[str] = []
    creates: list[Create] = []
    expected: str | None = ""
    actual: str | None = ""
    violation: str | None = ""
    other_user: str | None = ""
    request: str | None = ""
    other_request: str | None = ""
    id_kind: str | None = ""
    shape: str | None = ""
    declared: str | None = ""
    active_rows: Count | None = None
    call_sites: list[str] = []


class _Incidents(msgspec.Struct, frozen=True):
    incidents: list[ShownIncident]


class LookupWindow(msgspec.Struct, frozen=True):
    """Lookups in a window of time; `lookups_per_request` is None when no request that is known looked up."""

    lookups: Count
    redundant_lookups: Count
    looking_requests: Count
    lookups_outside_requests: Count = 0
    lookups_per_request: float | None = None


class FirstPlace(msgspec.Struct, frozen=True):
    """Where requests looked up first, and how many lookups at another place this made redundant."""

    place: str
    call_sites: list[str] = []
    redundant_lookups: Count = 0


class LookupPlace(msgspec.Struct, frozen=True):
    """A chain of call sites, innermost first; `place` is `call_sites`, or says why there are none."""

    place: str
    call_sites: list[str] = []
    lookups: Count = 0
    redundant_lookups: Count = 0
    share: float | None = None
    first_looked_up_at: list[FirstPlace] = []


class LookupRanking(msgspec.Struct, frozen=True):
    """Places by redundant lookups, the most first."""

    places: list[LookupPlace] = []
    redundant_lookups: Count = 0
    places_not_shown: Count = 0


class ScopeLookups(msgspec.Struct, frozen=True):
    """Lookups of one scope: now, in as long a time before, and where."""

    window: LookupWindow
    before: LookupWindow
    ranking: LookupRanking = msgspec.field(default_factory=LookupRanking)

    @property
    def eventful(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.window.lookups or self.before.lookups or self.ranking.places)


class Lookups(msgspec.Struct, frozen=True):
    """Where sessions were looked up in a window of time; the rankings begin at `ranking_since` (ISO 8601)."""

    window_seconds: Annotated[float, msgspec.Meta(ge=0, le=1e10)]
    scopes: dict[str, ScopeLookups]
    ranking_since: str = ""


def summary_of(document: Mapping[str, Any]) -> Summary:
    """Convert a summary document.

    Raises:
        PeerError: It is no summary; the message names the place and what was expected there.
    """
    return _converted(document, Summary, "summary")


def incidents_of(document: Mapping[str, Any]) -> list[ShownIncident]:
    """Convert `{"incidents": [...]}`, keeping the order.

    Raises:
        PeerError: It is no list of incidents; the message names the place and what was expected there.
    """
    return _converted(document, _Incidents, "list of incidents").incidents


def lookups_of(document: Mapping[str, Any]) -> Lookups:
    """Convert a document of lookups.

    Raises:
        PeerError: It is none; the message names the place and what was expected there.
    """
    return _converted(document, Lookups, "document of lookups")


def _converted(document: Mapping[str, Any], kind: type[_Document], name: str) -> _Document:
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as exc:
        raise PeerError(f"the answer is no {name}: {exc}") from exc
