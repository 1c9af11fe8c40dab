"""What one scrape shows: the committed counts and the state of the exporter itself, at one instant."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from session_exporter._version import __version__
from session_exporter.core.events import KINDS
from session_exporter.core.totals import Histogram, LedgerTotals
from session_exporter.journal import LOST_REASONS as WRITER_LOST_REASONS
from session_exporter.journal import POOL_WAIT_BUCKETS_S
from session_exporter.sidecar.transport import ForwardFigures, StreamFigures
from session_exporter.watch.findings import WatchFigures

# Whose scrape it is: of a sidecar that counts what stands in its journal, of one that counts what comes through the
# stream, or of one that forwards its journal to the stream.
Role: TypeAlias = Literal["journal", "stream", "forward"]

UNKNOWN_KIND: Final = "unknown"
EVENT_KINDS: Final = (*KINDS.values(), UNKNOWN_KIND)

# What a reader cannot use or does not find, whose kind is never known; what a writer gives up is named by the journal.
STREAM_CUT: Final = "stream_cut"
READER_LOST_REASONS: Final = ("malformed", "unknown_kind", STREAM_CUT)
LOST_REASONS: Final = (*WRITER_LOST_REASONS, *READER_LOST_REASONS)
_LOST_IN_JOURNAL: Final = (
    *((reason, kind) for reason in WRITER_LOST_REASONS for kind in EVENT_KINDS),
    ("malformed", UNKNOWN_KIND),
    ("unknown_kind", UNKNOWN_KIND),
)
# By (reason, kind): what can be lost where a role looks.
LOST: Final[dict[Role, tuple[tuple[str, str], ...]]] = {
    "journal": _LOST_IN_JOURNAL,
    "stream": (("malformed", UNKNOWN_KIND), (STREAM_CUT, UNKNOWN_KIND)),
    "forward": _LOST_IN_JOURNAL,
}

HOOK_STATES: Final = ("active", "inactive")
# Every hook of this version; a test compares them with what the hooks call themselves.
HOOKS: Final = (
    "aiohttp",
    "asgi",
    "autoload",
    "calls",
    "db_sessions",
    "opentelemetry",
    "redis",
    "sqlalchemy",
    "tracker",
    "wsgi",
)
POOL_STATES: Final = ("idle", "used")

# From a drain that found nothing to one that takes the half of a slow scrape's deadline.
DRAIN_BUCKETS_S: Final = (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True)
class DbFigures:
    """What the workers' control blocks say of database sessions.

    Attributes:
        opened: Uses that began, over all workers there ever were.
        leaked: Uses open for too long, or when their worker died, likewise.
        open_sessions: In use now, in living workers.
        peak_open_sessions: Most at once: in all workers at a commit, or in one worker at any time.
        pool_connections: By state, of `POOL_STATES`, in living workers.
        pool_waits: How long connections were waited for.
    """

    opened: int = 0
    leaked: int = 0
    open_sessions: int = 0
    peak_open_sessions: int = 0
    pool_connections: Mapping[str, int] = field(default_factory=dict)
    pool_waits: Histogram = field(default_factory=lambda: Histogram(POOL_WAIT_BUCKETS_S))


@dataclass(frozen=True, slots=True)
class ExporterTotals:
    """What the exporter knows of itself; whoever hands it over no longer changes what is inside.

    Attributes:
        version: Of this package.
        python_version: Of the running interpreter.
        born_us: When the counting of the exporter's own counters began, microseconds; kept over restarts.
        workers: Worker processes whose journal is open now.
        events_lost: By (reason, kind), from `LOST`; what is missing is 0.
        journal_bytes: Size of all segments, bytes.
        journal_lag_s: Age of the oldest event that is not committed yet, seconds; 0 when there is none.
        drains: How long drains took, commit included.
        hook_workers: Workers by (hook, state); states are `HOOK_STATES`, what is missing is 0.
        hook_errors: Failures that a hook kept away from the application, by hook. The hooks named here and in
            `hook_workers` are all exported: hand in every hook this version has, from the first snapshot.
        db: Of database sessions.
        states_lost: How often the state was lost, so that counting began anew.
        config_last_reload_successful: Whether the newest attempt to load the configuration succeeded.
        config_last_reload_success_at_s: When the configuration in force was loaded, seconds since the epoch.
    """

    version: str = __version__
    python_version: str = field(default_factory=platform.python_version)
    born_us: int = 0
    workers: int = 0
    events_lost: Mapping[tuple[str, str], int] = field(default_factory=dict)
    journal_bytes: int = 0
    journal_lag_s: float = 0.0
    drains: Histogram = field(default_factory=lambda: Histogram(DRAIN_BUCKETS_S))
    hook_workers: Mapping[tuple[str, str], int] = field(default_factory=dict)
    hook_errors: Mapping[str, int] = field(default_factory=dict)
    db: DbFigures = field(default_factory=DbFigures)
    states_lost: int = 0
    config_last_reload_successful: bool = True
    config_last_reload_success_at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class WatchedTables:
    """What is known of databases whose session tables are read.

    Attributes:
        watches: By the watch's name: all that are configured.
        scopes: What these tables keep.
        active_rows: By scope, once they have been counted.
        duplicate_users: Likewise: users with more than one active row, of scopes in which that is a fault.
    """

    watches: Mapping[str, WatchFigures] = field(default_factory=dict)
    scopes: frozenset[str] = frozenset()
    active_rows: Mapping[str, int] = field(default_factory=dict)
    duplicate_users: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The newest committed state; compared by identity, since a rendering is kept for as long as it is the newest.

    Attributes:
        ledger: A copy of the ledger's counts that nobody changes any more.
        committed_at_us: When the commit returned, microseconds since the epoch.
        exporter: What the exporter knows of itself.
        role: Which metrics are shown.
        forward: Of the forwarder, in its role.
        stream: Of the consumer, in its role.
        watched: Of the databases that are read.
    """

    ledger: LedgerTotals
    committed_at_us: int
    exporter: ExporterTotals = field(default_factory=ExporterTotals)
    role: Role = "journal"
    forward: ForwardFigures = field(default_factory=ForwardFigures)
    stream: StreamFigures = field(default_factory=StreamFigures)
    watched: WatchedTables = field(default_factory=WatchedTables)
