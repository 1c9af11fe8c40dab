"""The story of one incident as text: what happened, why, what to change, and every event around it."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from textwrap import wrap
from typing import Any, Final

from session_exporter.core.explanations import explain_dossier
from session_exporter.core.stories.aliases import Aliases
from session_exporter.core.stories.chronicle import chronicle
from session_exporter.core.stories.dossier import Dossier, read_dossier
from session_exporter.core.stories.wording import gap_text, moment_text

COLUMNS: Final = 100
_TITLES: Final = {
    "rapid_duplicate_create": "rapid duplicate create",
    "context_loss": "lost context",
    "isolation_violation": "isolation violation",
    "invalid_id": "id of the wrong format",
    "duplicate_active_user": "several active sessions of one user",
}


def tell_story(document: Mapping[str, Any], *, columns: int = COLUMNS) -> str:
    """Write the story of one incident.

    Args:
        document: As `/api/v1/incidents` has it, with its timeline; what is missing or makes no sense is not known.
        columns: How wide lines may be, from 40.

    Returns:
        Lines of at most `columns` characters, unless a call site is too long for that; nothing in them can harm
        a terminal.
    """
    aliases = Aliases()
    dossier = replace(read_dossier(document), names=aliases)
    events = chronicle(dossier, aliases, columns - 2)  # first, so that names are given in the order of time
    explanation = explain_dossier(dossier)
    decided = explanation.decided
    head = _section(_headline(dossier), _facts(dossier))
    sections = {
        "Cause" if decided else "Cause (the evidence does not decide)": _wrapped(explanation.cause, columns),
        "What to change" if decided else "What to do": [
            line for each in explanation.advice for line in _wrapped(each, columns, "- ")
        ],
        "Timeline (UTC, ms before and after the incident)": [*events, *_missing(document)],
        "Names": aliases.legend(),
    }
    return "\n\n".join([head, *(_section(title, lines) for title, lines in sections.items() if lines)])


def _section(title: str, lines: Iterable[str]) -> str:
    return "\n".join([title, *(f"  {line}" for line in lines)])


def _headline(dossier: Dossier) -> str:
    title = _TITLES.get(dossier.kind, dossier.kind or "incident")
    scope = f" in {dossier.here.scope}" if dossier.here.scope else ""
    at = moment_text(dossier.at_us) if dossier.at_us else "at an unknown time"
    return f"{dossier.id or '?'}: {title}{scope}, {at}"


def _facts(dossier: Dossier) -> Iterable[str]:
    """What the incident is, as it is counted."""
    texts = dossier.texts
    if dossier.here.user:
        yield f"user {dossier.here.user}"
    if "active_rows" in texts:
        yield f"{texts['active_rows']} active sessions in the database"
    elif len(dossier.creates) > 1:
        span_us = dossier.creates[-1].at_us - dossier.creates[0].at_us
        yield f"{len({each.session for each in dossier.creates})} sessions within {gap_text(span_us)}"
    for name in ("cause", "reason", "violation", "id_kind", "shape", "sample"):
        if name in texts:
            yield f"{name} {texts[name]}"
    for name in ("expected", "actual") if dossier.kind == "context_loss" else ():
        if name in texts:
            yield f"{name} {dossier.names.session(texts[name])}"


def _missing(document: Mapping[str, Any]) -> list[str]:
    return [] if document.get("timeline") else ["Other events were not kept."]


def _wrapped(text: str, columns: int, bullet: str = "") -> list[str]:
    return wrap(
        text,
        columns - 2,
        initial_indent=bullet,
        subsequent_indent=" " * len(bullet),
        break_long_words=False,
        break_on_hyphens=False,
    )
