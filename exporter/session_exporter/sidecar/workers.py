"""What the workers count themselves (lost events, hook errors), added up over all that ever were, and shown."""

import resource
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from session_exporter.core.totals import Histogram
from session_exporter.journal import Control
from session_exporter.journal.control import GAUGES
from session_exporter.sidecar.records import ExporterState, WriterCounts
from session_exporter.sidecar.snapshot import HOOK_STATES, HOOKS, DbFigures, ExporterTotals

# What 64 bits hold: damaged control blocks must not make the sum of their counts unstorable.
COUNT_MAX: Final = (1 << 63) - 1


class Reloads:
    """How the last attempt to load the configuration went; written by the daemon, exposed with each snapshot."""

    def __init__(self, at_s: float) -> None:
        self.successful = True
        self.success_at_s = at_s


def absorb(state: ExporterState, controls: Iterable[Control], gone: Iterable[str] = ()) -> list[str]:
    """Add what has come since the last time to the totals.

    Args:
        state: Changed.
        controls: What can be read now; one that cannot says more the next time.
        gone: Writers whose control block exists no longer.

    Returns:
        The dead writers whose last word this was; once it is committed, their control blocks can go.
    """
    last_words = []
    for control in controls:
        writer = control.writer.id
        counts = state.writers.setdefault(writer, WriterCounts())
        lost = {f"{reason}/{kind}": count for (reason, kind), count in control.lost.items()}
        errors = {name: count for name, (_, count) in control.hooks.items()}
        _add_growth(state.lost, counts.lost, lost)
        _add_growth(state.hook_errors, counts.hook_errors, errors)
        _add_growth(state.counts, counts.counts, _counts(control))
        _add_waits(state.pool_waits, counts, control)
        if not control.alive:
            last_words.append(writer)
    for writer in gone:
        state.writers.pop(writer, None)
    return last_words


def _counts(control: Control) -> dict[str, int]:
    """What a worker counted; what it left open when it died has leaked as well."""
    gauges, counts = control.gauges, dict(control.counts)
    if not control.alive:
        left = gauges.get("db_open_sessions", 0) - gauges.get("db_overdue_sessions", 0)
        counts["db_sessions_leaked"] = counts.get("db_sessions_leaked", 0) + max(left, 0)
    return counts


def _add_waits(waits: Histogram, before: WriterCounts, control: Control) -> None:
    names = [str(index) for index in range(len(control.pool_waits))]
    sums = dict(zip(names, waits.counts, strict=False))
    seen = dict(zip(names, before.pool_waits, strict=False))
    _add_growth(sums, seen, dict(zip(names, control.pool_waits, strict=True)))
    waits.counts = [sums.get(str(index), 0) for index in range(len(waits.counts))]
    before.pool_waits = [seen.get(name, 0) for name in names]
    growth_us = max(control.pool_waits_us - before.pool_waits_us, 0)
    waits.sum_s += growth_us / 1_000_000
    before.pool_waits_us += growth_us


def db_figures(state: ExporterState, controls: Iterable[Control]) -> DbFigures:
    """What the workers say of database sessions; notes a new peak in `state`."""
    living = [control.gauges for control in controls if control.alive]
    gauges = {name: sum(each.get(name, 0) for each in living) for name in GAUGES}
    peaks = (each.get("db_peak_open_sessions", 0) for each in living)
    peak = max(state.db_peak_open_sessions, gauges["db_open_sessions"], *peaks)
    state.db_peak_open_sessions = peak
    return DbFigures(
        opened=state.counts.get("db_sessions_opened", 0),
        leaked=state.counts.get("db_sessions_leaked", 0),
        open_sessions=gauges["db_open_sessions"],
        peak_open_sessions=peak,
        pool_connections={"idle": gauges["db_pool_idle"], "used": gauges["db_pool_used"]},
        pool_waits=msgspec.structs.replace(state.pool_waits, counts=list(state.pool_waits.counts)),
    )


def hook_workers(controls: Iterable[Control]) -> dict[tuple[str, str], int]:
    """Living workers by (hook, state)."""
    found: dict[tuple[str, str], int] = {(hook, state): 0 for hook in HOOKS for state in HOOK_STATES}
    for control in controls:
        if control.alive:
            for name, (active, _) in control.hooks.items():
                key = (name, "active" if active else "inactive")
                found[key] = found.get(key, 0) + 1
    return found


def _add_growth(totals: dict[str, int], before: dict[str, int], now: dict[str, int]) -> None:
    for name, count in now.items():
        growth = count - before.get(name, 0)
        if growth > 0:
            totals[name] = min(totals.get(name, 0) + growth, COUNT_MAX)
            before[name] = count


def expose(
    state: ExporterState,
    controls: list[Control],
    *,
    drains: Histogram,
    born_us: int,
    journal_bytes: int,
    lag_us: int,
    reloads: Reloads,
) -> ExporterTotals:
    """What `/metrics` says of the exporter itself; a copy that nobody changes any more.

    `drains` are those of the last commit: an idle sidecar commits nothing, and a counter must not fall at its restart.
    """
    return ExporterTotals(
        born_us=born_us,
        workers=state.workers,
        events_lost={_split(name): count for name, count in state.lost.items()},
        journal_bytes=journal_bytes,
        journal_lag_s=max(lag_us, 0) / 1e6,
        drains=drains,
        hook_workers=hook_workers(controls),
        hook_errors={**dict.fromkeys(HOOKS, 0), **state.hook_errors},
        db=db_figures(state, controls),
        states_lost=state.states_lost,
        config_last_reload_successful=reloads.successful,
        config_last_reload_success_at_s=reloads.success_at_s,
    )


def hooks_of(control: Control) -> dict[str, object]:
    """The hooks of one worker, for `/api/v1/hooks`."""
    return {
        "worker": control.writer.id,
        "pid": control.writer.pid,
        "replica": control.writer.replica,
        "started_at_us": control.started_at_us,
        "hooks": {name: {"active": active, "errors": errors} for name, (active, errors) in control.hooks.items()},
    }


def memory_mb() -> float:
    """What this process uses now, MiB; its peak where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize() / 1048576
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _split(name: str) -> tuple[str, str]:
    reason, _, kind = name.partition("/")
    return reason, kind
