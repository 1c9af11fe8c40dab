"""Incidents as text: for each, what happened, to whom, and which lines of the application did it. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from session_exporter.cli.documents import Create, ShownIncident, incidents_of
from session_exporter.core.plaintext import inert
from session_exporter.core.stories import wording


def stories(document: Mapping[str, Any]) -> str:
    """Write `{"incidents": [...]}` as one block per incident, in the order given.

    Returns:
        Blocks separated by blank lines; `""` when there are none.

    Raises:
        PeerError: The document is no list of incidents.
    """
    return "\n\n".join("\n".join(_story(incident)) for incident in incidents_of(document))


def brief(document: Mapping[str, Any]) -> str:
    """Write one incident of such a document in one line.

    Raises:
        PeerError: It is no incident.
    """
    (incident,) = incidents_of({"incidents": [document]})
    return "  ".join(part for part in (_head(incident), _facts(incident)) if part)


def _story(incident: ShownIncident) -> list[str]:
    return [
        _head(incident),
        f"  {_facts(incident)}",
        *_loss_lines(incident),
        *_violation_lines(incident),
        *(f"    at {inert(site)}" for site in incident.call_sites),
        *_create_lines(incident),
    ]


def _head(incident: ShownIncident) -> str:
    return f"{time_text(incident.at)}  {inert(incident.kind)}  {inert(incident.id)}"


def _facts(incident: ShownIncident) -> str:
    facts = {
        "cause": incident.cause,
        "reason": incident.reason,
        "violation": incident.violation,
        "id": incident.id_kind,
        "shape": incident.shape,
        "instead of": incident.declared,
        "scope": incident.scope,
        "user": incident.user,
        "active sessions": str(incident.active_rows or ""),
        "gap": gap_text(incident.gap_ms),
    }
    return "  ".join(f"{name} {inert(value)}" for name, value in facts.items() if value)


def gap_text(gap_ms: float | None) -> str:
    """Write a gap: `116.2 ms`, `4.25 s`; `""` when it is not known."""
    if gap_ms is None:
        return ""
    return wording.gap_text(gap_ms * 1000)


def _loss_lines(incident: ShownIncident) -> list[str]:
    ids = {"expected": incident.expected, "got": incident.actual}
    text = "  ".join(f"{name} {inert(value)}" for name, value in ids.items() if value)
    return [f"  {text}"] if text else []


def _violation_lines(incident: ShownIncident) -> list[str]:
    if not incident.violation:
        return []
    others = {
        "request": incident.request,
        "before it in request": incident.other_request,
        "for user": incident.other_user,
    }
    text = "  ".join(f"{name} {inert(value)}" for name, value in others.items() if value)
    return [f"  {text}"] if text else []


def _create_lines(incident: ShownIncident) -> list[str]:
    first = moment(incident.creates[0].at) if incident.creates else None
    offsets = [_offset(first, moment(create.at)) for create in incident.creates]
    width = max(map(len, offsets), default=0)
    lines: list[str] = []
    for create, offset in zip(incident.creates, offsets, strict=True):
        lines.append(f"  {offset:>{width}}  {_create_facts(create)}")
        lines.extend(f"  {'':>{width}}    at {inert(site)}" for site in create.call_sites)
    return lines


def _create_facts(create: Create) -> str:
    facts = {"session": create.session, "worker": _worker(create), "request": create.request, "trace": create.trace}
    return "  ".join(f"{name} {inert(value)}" for name, value in facts.items() if value)


def _worker(create: Create) -> str:
    name = str(create.pid) if create.pid else create.worker
    return f"{name}@{create.replica}" if create.replica else name


def _offset(first: datetime | None, at: datetime | None) -> str:
    if first is None or at is None:
        return "?"
    return f"{(at - first) / timedelta(milliseconds=1):+.1f} ms"


def moment(text: str) -> datetime | None:
    """Read an ISO 8601 time; None when it is none. A time without a zone is UTC, as everything a sidecar says is."""
    try:
        at = datetime.fromisoformat(text)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def time_text(text: str) -> str:
    """Write an ISO 8601 time for people, UTC, in milliseconds; what is no time is shown as it is."""
    at = moment(text)
    if at is None:
        return inert(text) or "at an unknown time"
    return at.strftime("%Y-%m-%d %H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
