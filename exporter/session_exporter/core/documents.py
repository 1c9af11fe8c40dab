"""An incident as the interface answers with it, and as the state keeps it."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from msgspec import structs

from session_exporter.core.explanations import explain

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# What an entry of a timeline says, and what it says when the state keeps nothing of it.
_STEP: Final[dict[str, Any]] = {
    "kind": "",
    "scope": "",
    "session": "",
    "user": "",
    "key": "",
    "request": "",
    "trace": "",
    "worker": "",
    "pid": 0,
    "replica": "",
    "call_sites": [],
    "note": {},
}


def incident_document(identifier: str, kind: str, at_us: int, scope: str, detail: Mapping[str, Any]) -> dict[str, Any]:
    """Write an incident as `/api/v1/incidents` does: its detail, with times as texts, and with its explanation.

    Args:
        identifier: The incident's id.
        kind: One of `INCIDENT_KINDS`.
        at_us: Its time, microseconds since the epoch.
        scope: The scope's name.
        detail: As of an incident, or as `compact` made it.
    """
    document = {**detail, "timeline": [_step(each) for each in detail.get("timeline", ())]}
    if "creates" in detail:
        document["creates"] = [_timed(each) for each in detail["creates"]]
    if "db_error" in detail:
        document["db_error"] = _timed(detail["db_error"])
    document = {"id": identifier, "kind": kind, "at": iso(at_us), "scope": scope} | document
    return document | {"explanation": structs.asdict(explain(kind, document))}


def compact(detail: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave out of a detail's timeline what says nothing: most of it, in a state that may keep 10,000 incidents."""
    timeline = [{name: value for name, value in each.items() if value} for each in detail.get("timeline", ())]
    return {**detail, "timeline": timeline} if timeline else detail


def iso(at_us: int) -> str:
    """A time as RFC 3339 in UTC, microseconds included."""
    return (_EPOCH + timedelta(microseconds=at_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _step(kept: Mapping[str, Any]) -> dict[str, Any]:
    return _timed({"at_us": 0, **_STEP, **kept})


def _timed(told: Mapping[str, Any]) -> dict[str, Any]:
    """With the time as a text, in the place of the number."""
    return {"at" if name == "at_us" else name: iso(value) if name == "at_us" else value for name, value in told.items()}


def ask_others(incidents: Mapping[str, Any]) -> str:
    """What to add to the message that nobody is in these incidents; `""` when no other consumer has more."""
    share = incidents.get("share")
    return f"; this one counts {share}: ask the others" if isinstance(share, str) else ""
