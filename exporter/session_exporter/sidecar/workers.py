"""What the workers count themselves (lost events, hook errors), added up over all that ever were."""

from collections.abc import Iterable

from session_exporter.journal import Control
from session_exporter.sidecar.records import ExporterState, WriterCounts

TRACKER_HOOK = "tracker"


def absorb(state: ExporterState, controls: Iterable[Control]) -> list[str]:
    """Add what has come since the last time to the totals.

    Returns:
        The dead writers whose last word this was; once it is committed, their control blocks can go.
    """
    last_words = []
    present = set()
    for control in controls:
        writer = control.writer.id
        present.add(writer)
        counts = state.writers.setdefault(writer, WriterCounts())
        lost = {f"{reason}/{kind}": count for (reason, kind), count in control.lost.items()}
        errors = {name: count for name, (_, count) in control.hooks.items()}
        _add_growth(state.lost, counts.lost, lost)
        _add_growth(state.hook_errors, counts.hook_errors, errors)
        if not control.alive:
            last_words.append(writer)
    for writer in [writer for writer in state.writers if writer not in present]:
        del state.writers[writer]
    return last_words


def hook_workers(controls: Iterable[Control]) -> dict[tuple[str, str], int]:
    """Living workers by (hook, state)."""
    found: dict[tuple[str, str], int] = {(TRACKER_HOOK, "active"): 0, (TRACKER_HOOK, "inactive"): 0}
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
            totals[name] = totals.get(name, 0) + growth
            before[name] = count
