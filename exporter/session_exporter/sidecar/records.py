"""What the state keeps beside the ledger."""

import sqlite3
from collections.abc import Iterable
from typing import Any, Final, TypeVar

import msgspec

from session_exporter.core.scopes import ScopeRules
from session_exporter.core.totals import Histogram
from session_exporter.journal import POOL_WAIT_BUCKETS_S
from session_exporter.quantities import format_ranges
from session_exporter.sidecar.snapshot import DRAIN_BUCKETS_S
from session_exporter.watch.findings import TablePosition

T = TypeVar("T")

JOURNAL: Final = "journal"


class Identity(msgspec.Struct, frozen=True):
    """Whose state it is.

    Attributes:
        id: Random; also written to where the events come from, so that a lost state is noticed.
        ids: How ids are written: a check value of the key, or `plain`.
        born_us: When this state was made, microseconds since the epoch.
        source: What it counts: `JOURNAL`, or which partitions of how many.
    """

    id: str
    ids: str
    born_us: int
    source: str = JOURNAL

    @property
    def share(self) -> str:
        """The same when others count the rest; `""` when nobody does."""
        if self.source == JOURNAL:
            return ""
        partitions = self.source.rpartition(" ")[2]
        return "" if self.source == share_text(range(int(partitions)), int(partitions)) else self.source


def share_text(owned: Iterable[int], partitions: int) -> str:
    """Say which partitions of how many, as an `Identity.source` has it."""
    return f"partitions {format_ranges(owned)} of {partitions}"


class WriterCounts(msgspec.Struct):
    """What a living writer's control block said when it was last committed."""

    lost: dict[str, int] = {}
    hook_errors: dict[str, int] = {}
    counts: dict[str, int] = {}
    pool_waits: list[int] = []
    pool_waits_us: int = 0


class CountedTable(msgspec.Struct, frozen=True):
    """What the last census of a table has counted.

    Attributes:
        scope: Of the table's sessions.
        at_us: When it was counted, microseconds since the epoch.
        active_rows: None where the table does not say.
        duplicate_users: Users with more than one active row; None where that is no fault, or was not to be told.
        twins: Digests of those whose incident has been told already.
    """

    scope: str
    at_us: int
    active_rows: int | None = None
    duplicate_users: int | None = None
    twins: list[bytes] = []


class ExporterState(msgspec.Struct):
    """The exporter's own counts, and what somebody who reads the state without a sidecar must know.

    Attributes:
        lost: Events lost by `reason/kind`, over all writers there ever were.
        hook_errors: By hook, likewise.
        counts: What workers count of their database sessions, likewise.
        pool_waits: How long connections were waited for, likewise.
        db_peak_open_sessions: Most database sessions seen in use at once.
        writers: What has been added to these of each writer whose control block still exists.
        drains: How long drains took.
        rules: The scopes as configured.
        journal_directory: Where the events come from; `""` when it is no journal.
        source: Where they come from otherwise: partitions, and the address of the Redis; `""` for a journal.
        workers: Living writers.
        memory_mb: Of the sidecar's process, MiB.
        committed_at_us: When this was committed.
        hooks: Of each living writer, for `/api/v1/hooks`.
        states_lost: How often the state was lost before this one.
        redelivered: Events that came again through a stream.
        skipped: Entries of streams that could not be used, by reason.
        census: What was counted in watched tables, by `<watch>/<table>/<scope>`.
    """

    lost: dict[str, int] = {}
    hook_errors: dict[str, int] = {}
    counts: dict[str, int] = {}
    pool_waits: Histogram = msgspec.field(default_factory=lambda: Histogram(POOL_WAIT_BUCKETS_S))
    db_peak_open_sessions: int = 0
    writers: dict[str, WriterCounts] = {}
    drains: Histogram = msgspec.field(default_factory=lambda: Histogram(DRAIN_BUCKETS_S))
    rules: list[ScopeRules] = []
    journal_directory: str = ""
    workers: int = 0
    memory_mb: float = 0.0
    committed_at_us: int = 0
    hooks: list[dict[str, Any]] = []
    source: str = ""
    states_lost: int = 0
    redelivered: int = 0
    skipped: dict[str, int] = {}
    watches: dict[str, TablePosition] = {}
    watch_errors: dict[str, int] = {}
    watch_rows: dict[str, int] = {}
    census: dict[str, CountedTable] = {}


def read_meta(connection: sqlite3.Connection, name: str, kind: type[T]) -> T | None:
    """One named value of the state; None when there is none yet."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return msgspec.msgpack.decode(row[0], type=kind) if row else None
