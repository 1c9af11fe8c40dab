"""What happened lately, judged: read from the committed state, whether or not a sidecar runs."""

import math
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from session_exporter._version import __version__
from session_exporter.core.db_sessions import DbUse, metrics_of
from session_exporter.core.documents import iso
from session_exporter.core.scopes import CAUSES, LOSS_REASONS, VIOLATIONS, ScopeRules
from session_exporter.core.system import system_metrics
from session_exporter.core.totals import LedgerTotals, ScopeTotals
from session_exporter.errors import StateError
from session_exporter.sidecar import schema
from session_exporter.sidecar.census import FOUND, active_rows, duplicate_users
from session_exporter.sidecar.compliance import ids_of
from session_exporter.sidecar.reconciliation import reconciliations
from session_exporter.sidecar.records import ExporterState, read_meta

# More than this share of creates among at least so many operations is a high create rate.
HIGH_CREATE_SHARE: Final = 0.10
HIGH_CREATE_OPERATIONS: Final = 50

CUT_OFF: Final = "cannot reach the stream: events wait to be counted"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE_US: Final = 60_000_000


class Sight(NamedTuple):
    """What a consumer that runs sees of where the events come from, and its state may not say.

    Attributes:
        source: Partitions, and the address of the Redis; `""` for a journal, or when nothing runs.
        is_cut_off: Whether it cannot be reached.
    """

    source: str = ""
    is_cut_off: bool = False


_NO_SIGHT: Final = Sight()


def read_summary(
    state_directory: Path, *, since_s: float, scope: str | None, now_us: int, sight: Sight = _NO_SIGHT
) -> dict[str, Any]:
    """Judge the last `since_s` seconds of one scope, or of all.

    What is wrong is wrong all the same; but nobody can say that all is well while events wait to be counted.

    Raises:
        StateError: There is no state, or it cannot be read.
        KeyError: No scope is called `scope`.
    """
    with reading(state_directory) as connection:
        totals = read_meta(connection, "totals", LedgerTotals) or LedgerTotals()
        exporter = read_meta(connection, "exporter", ExporterState) or ExporterState()
        names = selected(totals, scope)
        rows = _minutes(connection, names, now_us - int(since_s * 1e6))
        compared = reconciliations(connection, totals, exporter)
    rules = {each.name: each for each in exporter.rules}
    windows = {name: window_of(counts for _, place, counts in rows if place == name) for name in names}
    doubled = {name: _duplicate_users(exporter, rows, name) for name in names}
    total = window_of(counts for _, _, counts in rows)
    problems = [
        problem
        for name, window in windows.items()
        for problem in (*problems_of(rules.get(name, ScopeRules(name)), window), *users_problem(name, doubled[name]))
    ]
    any_events = any(totals.events.values())
    document = {
        "version": __version__,
        "generated_at": iso(now_us),
        "window_seconds": since_s,
        "healthy": not problems if total["operations"] or problems else None,
        "problems": problems,
        "total": total,
        "scopes": {
            name: _scope(
                rules.get(name, ScopeRules(name)), totals.scopes[name], windows[name], now_us, exporter.memory_mb
            )
            | {
                "duplicate_active_users": doubled[name],
                "active_rows": active_rows(exporter.census.values()).get(name),
                "reconciliation": compared[name],
            }
            for name in names
        },
        "minutes": _by_minute(rows),
        "exporter": _exporter(exporter, sight, any_events=any_events),
    }
    return doubted(document, [f"this consumer {CUT_OFF}"] if sight.is_cut_off and any_events else [])


def doubted(document: dict[str, Any], doubts: Sequence[str]) -> dict[str, Any]:
    """The same summary with what casts doubt on its counts, a sentence each: then nothing can be called healthy."""
    healthy = None if document["healthy"] and doubts else document["healthy"]
    exporter = document["exporter"]
    return {**document, "healthy": healthy, "exporter": {**exporter, "notes": [*doubts, *exporter["notes"]]}}


def read_hooks(state_directory: Path) -> list[dict[str, Any]]:
    """The hooks of each living worker, as of the last commit.

    Raises:
        StateError: There is no state, or it cannot be read.
    """
    with reading(state_directory) as connection:
        exporter = read_meta(connection, "exporter", ExporterState) or ExporterState()
    return [{**hook, "started_at": iso(hook["started_at_us"])} for hook in exporter.hooks]


def read_db_sessions(state_directory: Path, *, now_us: int) -> list[dict[str, Any]]:
    """The newest uses of database sessions, the newest first, as the canonical model tells them.

    Raises:
        StateError: There is no state, or it cannot be read.
    """
    with reading(state_directory) as connection:
        uses = read_meta(connection, "db_uses", list[DbUse]) or []
    return [told for use in reversed(uses) if (told := _db_session(use, now_us)) is not None]


def window_of(counts: Iterable[dict[str, int]]) -> dict[str, Any]:
    """Add up minutes and derive what is judged; the ratio is None without operations."""
    sums: dict[str, int] = {}
    for each in counts:
        for name, count in each.items():
            sums[name] = sums.get(name, 0) + count
    creates, reuses = sums.get("creates", 0), sums.get("reuses", 0)
    operations = creates + reuses
    duplicates = {cause: sums.get(f"duplicates:{cause}", 0) for cause in CAUSES}
    violations = {kind: sums.get(f"violations:{kind}", 0) for kind in VIOLATIONS}
    losses = {reason: sums.get(f"losses:{reason}", 0) for reason in LOSS_REASONS}
    return {
        "creates": creates,
        "reuses": reuses,
        "operations": operations,
        "reuse_ratio": reuses / operations if operations else None,
        "context_losses": sum(losses.values()),
        "rapid_duplicate_creates": sum(duplicates.values()),
        "duplicates_by_cause": duplicates,
        "losses_by_reason": losses,
        "lookups": sums.get("lookups", 0),
        "redundant_lookups": sums.get("redundant_lookups", 0),
        "isolation_violations": sum(violations.values()),
        "violations_by_kind": violations,
        "create_conflicts": sums.get("conflicts", 0),
        "create_failures": sum(count for name, count in sums.items() if name.startswith("failures:")),
        "ends": sum(count for name, count in sums.items() if name.startswith("ends:")),
        **ids_of(sums),
        "high_create_rate": operations >= HIGH_CREATE_OPERATIONS and creates > HIGH_CREATE_SHARE * operations,
    }


def problems_of(rules: ScopeRules, window: dict[str, Any]) -> list[str]:
    """What makes a scope unhealthy, a sentence each."""
    found = []
    ratio = window["reuse_ratio"]
    if ratio is not None and ratio < rules.reuse_target:
        shown = math.floor(ratio * 10_000) / 100
        found.append(f"reuse ratio {shown:.2f}% is below the target of {rules.reuse_target * 100:g}%")
    if window["rapid_duplicate_creates"]:
        found.append(_counted(window["rapid_duplicate_creates"], "rapid duplicate create"))
    if window["context_losses"]:
        found.append(_counted(window["context_losses"], "context loss", "context losses"))
    if window["isolation_violations"]:
        kinds = ", ".join(kind for kind, count in window["violations_by_kind"].items() if count)
        found.append(f"{_counted(window['isolation_violations'], 'isolation violation')} ({kinds})")
    if window["high_create_rate"]:
        found.append(f"high create rate: {window['creates']} of {window['operations']} operations are creates")
    return [f"{rules.name}: {sentence}" for sentence in found]


def users_problem(scope: str, users: int | None) -> list[str]:
    """What makes a scope unhealthy that has users with several active sessions; None is for not counted."""
    return [f"{scope}: {users} {'user has' if users == 1 else 'users have'} several active sessions"] if users else []


class reading:  # noqa: N801 - reads as a statement
    """One consistent view of the state; every failure is a StateError."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __enter__(self) -> sqlite3.Connection:
        self._connection = schema.open_to_read(self._directory)
        self._connection.execute("BEGIN")
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._connection.close()
        if isinstance(error, sqlite3.Error | msgspec.MsgspecError | UnicodeDecodeError):
            raise StateError(f"{self._directory}: {error}; expected a readable state") from error


def selected(totals: LedgerTotals, scope: str | None) -> list[str]:
    """The scope that was asked for, or all of them.

    Raises:
        KeyError: No scope has this name.
    """
    if scope is None:
        return list(totals.scopes)
    if scope not in totals.scopes:
        raise KeyError(scope)
    return [scope]


def _minutes(connection: sqlite3.Connection, names: list[str], from_us: int) -> list[tuple[int, str, dict[str, int]]]:
    found: dict[tuple[int, str], dict[str, int]] = {}
    rows = connection.execute(
        "SELECT minute, scope, name, count FROM minutes WHERE minute >= ? ORDER BY minute", (from_us // _MINUTE_US,)
    )
    for minute, scope, name, count in rows:
        if scope in names:
            found.setdefault((minute, scope), {})[name] = count
    return [(minute, scope, counts) for (minute, scope), counts in found.items()]


def _duplicate_users(exporter: ExporterState, rows: list[tuple[int, str, dict[str, int]]], scope: str) -> int | None:
    """Users of a scope with several active sessions: those who have them, or as many as came to have them lately."""
    now = duplicate_users(exporter.census.values()).get(scope)
    lately = sum(counts.get(FOUND, 0) for _, place, counts in rows if place == scope)
    return now if now is None and not lately else max(now or 0, lately)


def _by_minute(rows: list[tuple[int, str, dict[str, int]]]) -> list[dict[str, Any]]:
    shown = ("creates", "reuses", "rapid_duplicate_creates", "context_losses")
    minutes: dict[int, list[dict[str, int]]] = {}
    for minute, _, counts in rows:
        minutes.setdefault(minute, []).append(counts)
    found = []
    for minute, counted in minutes.items():
        window = window_of(counted)
        found.append({"minute": iso(minute * _MINUTE_US), **{name: window[name] for name in shown}})
    return found


def _scope(
    rules: ScopeRules, totals: ScopeTotals, window: dict[str, Any], now_us: int, memory_mb: float
) -> dict[str, Any]:
    now = _EPOCH + timedelta(microseconds=now_us)
    return {
        "window": window,
        "reuse_target": rules.reuse_target,
        "active_sessions": totals.active_sessions,
        "active_users": totals.active_users,
        "since": iso(totals.born_us),
        "totals": {
            "creates": totals.creates,
            "reuses": totals.reuses,
            "adopted": totals.adopted,
            "lookups": totals.lookups,
            "redundant_lookups": totals.redundant_lookups,
            "rapid_duplicate_creates": totals.duplicates,
            "context_losses": totals.losses,
            "isolation_violations": totals.violations,
            "create_conflicts": totals.conflicts,
            "create_failures": totals.failures,
            "ends": totals.ends,
            "ids_checked": totals.ids_checked,
            "id_shapes": totals.id_shapes,
            "id_mismatches": totals.id_mismatches,
        },
        "system": system_metrics(totals, at_us=now_us, memory_mb=memory_mb).to_dict(now=now),
    }


def _exporter(exporter: ExporterState, sight: Sight, *, any_events: bool) -> dict[str, Any]:
    source = sight.source or exporter.source
    return {
        "workers": exporter.workers,
        "journal_directory": exporter.journal_directory,
        "source": source or exporter.journal_directory,
        "events_lost": sum(exporter.lost.values()),
        "last_commit_at": iso(exporter.committed_at_us),
        "hint": "" if any_events else _hint(exporter, sight._replace(source=source)),
        "notes": [f"counted here: {source}; --prometheus judges a whole fleet"] if source else [],
    }


def _hint(exporter: ExporterState, sight: Sight) -> str:
    """Why nothing may have been counted so far."""
    if sight.is_cut_off:
        return f"nothing has been counted yet: {sight.source} cannot be reached"
    if sight.source:
        expected = "expected session-exporter forward beside the application"
        return f"nothing has been counted yet: no forwarder has sent anything to {sight.source}; {expected}"
    if not exporter.journal_directory:
        return "nothing has been counted yet"
    if exporter.workers:
        return ""
    return f"no worker writes to {exporter.journal_directory}; application and sidecar must use the same directory"


def _db_session(use: DbUse, now_us: int) -> dict[str, Any] | None:
    event = use.event
    try:
        told = metrics_of(event).to_dict(now=_EPOCH + timedelta(microseconds=now_us))
    except ValueError:  # a worker of another version; what is counted of it is in the totals
        return None
    return {
        **told,
        "outcome": event.outcome,
        "errors_by_kind": event.errors,
        "trace": event.trace.hex(),
        "worker": use.worker,
        "pid": use.pid,
        "replica": use.replica,
        "call_sites": list(event.sites),
    }


def _counted(number: int, singular: str, plural: str = "") -> str:
    return f"{number} {singular if number == 1 else plural or singular + 's'}"
