"""What happened around an incident, one line per event."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from session_exporter.core.stories.aliases import Aliases
from session_exporter.core.stories.deeds import ITSELF, deed
from session_exporter.core.stories.dossier import Dossier
from session_exporter.core.stories.steps import Step
from session_exporter.core.stories.wording import clock_text, deciding_depth

_MS_US: Final = 1000
# The events that are what an incident is about.
_OWN_KINDS: Final = {
    "rapid_duplicate_create": ("created", "observed"),
    "context_loss": ("unmet", "context_lost", "created", "observed"),
    "isolation_violation": ("violated", "created", "observed", "looked_up", "reused", "attributed"),
    "invalid_id": ("created", "observed", "looked_up", "reused", "ended", "unmet", "identified"),
}


class _Row(NamedTuple):
    """One event: its columns, and the call sites that are told, innermost first."""

    cells: tuple[str, ...]
    sites: Sequence[str]


def chronicle(dossier: Dossier, aliases: Aliases, columns: int) -> list[str]:
    """Write the events around an incident, oldest first; its own moment is marked with `>`.

    Call sites stand beside the events where `columns` characters are enough for that.
    """
    moment = _moment(dossier)
    steps = dossier.steps if moment in dossier.steps else _in_place(dossier.steps, moment)
    frames = _frames_told(steps)
    rows = [
        _Row(
            (
                ">" if step is moment else " ",
                clock_text(step.at_us) if step.at_us else "?",
                _offset(step, dossier),
                *_columns(step, dossier, aliases),
            ),
            step.sites[: frames if step.is_lookup or _is_create(step) else 1],
        )
        for step in steps
    ]
    return _written(rows, columns)


def _columns(step: Step, dossier: Dossier, aliases: Aliases) -> tuple[str, ...]:
    """What, in which request, by which worker; for whom where there are several."""
    foreign = f" [{step.scope}]" if step.scope and step.scope != dossier.here.scope else ""
    has_users = len({each.user for each in dossier.steps if each.user}) > 1
    has_keys = len({each.key for each in dossier.steps}) > 1
    return (
        deed(step, aliases) + foreign,
        aliases.request_of(step),
        aliases.worker(step) if step.process else "",
        aliases.user(step.user) if has_users and step.user else "",
        aliases.key(step.key) if has_keys else "",
    )


def _moment(dossier: Dossier) -> Step:
    """The event that is the incident; one of its own where there is none."""
    kinds = _OWN_KINDS.get(dossier.kind, ())
    now = [each for each in dossier.steps if each.at_us == dossier.at_us]
    last = dossier.creates[-1:] if dossier.creates else ()
    own = [each for each in now if not last or each.session == last[0].session]
    kind = dossier.texts.get("violation", "")
    own = [each for each in own if each.note.get("violation", kind) == kind]
    found = min((each for each in own if each.kind in kinds), key=lambda each: kinds.index(each.kind), default=None)
    return found or replace(dossier.here, kind=ITSELF, note={})


def _in_place(steps: Sequence[Step], moment: Step) -> list[Step]:
    """These steps, with the incident's own moment where it belongs; nowhere when its time is not known."""
    if not moment.at_us:
        return [*steps]
    index = sum(each.at_us <= moment.at_us for each in steps)
    return [*steps[:index], moment, *steps[index:]]


def _frames_told(steps: Sequence[Step]) -> int:
    """How many call sites it takes to tell the lookups, and the creates, from each other."""
    lookups = [each.sites for each in steps if each.is_lookup and each.sites]
    creates = [each.sites for each in steps if _is_create(each) and each.sites]
    return 1 + max(deciding_depth(lookups), deciding_depth(creates))


def _is_create(step: Step) -> bool:
    return step.kind == "created" or bool(step.judged)


def _offset(step: Step, dossier: Dossier) -> str:
    if not step.at_us or not dossier.at_us:
        return "?"
    offset_us = step.at_us - dossier.at_us
    return f"{offset_us / _MS_US:+.1f}" if offset_us else "0.0"


def _written(rows: Sequence[_Row], columns: int) -> list[str]:
    """Align the columns, leaving out the empty ones; call sites follow where there is room, else stand below."""
    widths = [max(map(len, cells)) for cells in zip(*(row.cells for row in rows), strict=True)]
    starts = [_start(row, widths) for row in rows]
    width = max(map(len, starts), default=0) + 2
    longest = max((len(site) for row in rows for site in _sites(row)), default=0)
    indent = sum(widths[:3]) + 7
    if width + longest <= columns:
        return [line for row, start in zip(rows, starts, strict=True) for line in _beside(start, _sites(row), width)]
    return [
        line
        for row, start in zip(rows, starts, strict=True)
        for line in (start.rstrip(), *(f"{'':<{indent}}{site}" for site in _sites(row)))
    ]


def _start(row: _Row, widths: Sequence[int]) -> str:
    marker, at, offset, *others = row.cells
    columns = [cell.ljust(width) for cell, width in zip(others, widths[3:], strict=True) if width]
    return f"{marker} {at:<{widths[1]}}  {offset:>{widths[2]}}  {'  '.join(columns)}"


def _sites(row: _Row) -> list[str]:
    return [row.sites[0], *(f"from {site}" for site in row.sites[1:])] if row.sites else []


def _beside(start: str, sites: Sequence[str], width: int) -> list[str]:
    first, *others = sites or [""]
    return [f"{start:<{width}}{first}".rstrip(), *(f"{'':<{width}}{site}" for site in others)]
