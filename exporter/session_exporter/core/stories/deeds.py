"""What an event was, in a few words."""

from collections.abc import Callable
from typing import Final

from session_exporter.core.stories.aliases import Aliases
from session_exporter.core.stories.steps import Step

# An incident's own moment, when no event is its own.
ITSELF: Final = "incident"

_DEEDS: Final = {
    "created": "created {session}",
    "reused": "used {session}",
    "ended": "ended {session} ({reason})",
    "attributed": "learned the user of {session}",
    "context_lost": "expected {expected}, got {actual}",
    "conflicted": "create refused (conflict)",
    "create_failed": "create failed ({reason})",
    "db_session": "closed db session {session}",
    "database_error": "database error",
    "unmet": "over, never got {session}",
    "identified": "named its thread and run",
    ITSELF: "(the incident)",
    "found": "looked up, found {session}",
    "missed": "looked up, found none",
    "missed_it": "looked up {asked}, found none",
    "result": "got {session}",
    "upsert": "saw {session} (upsert)",
    "row": "saw {session} (row)",
    "session_of_two_users": "session {session} of 2 users",
    "db_session_of_two_users": "db session {session} of 2 users",
    "db_session_crossed_requests": "db session {session} in 2 requests",
    "db_session_crossed_tasks": "db session {session} in 2 tasks",
    "db_session_outlived_request": "db session {session} outlived request",
}
_JUDGED: Final = {"created": "created {session}", "adopted": "first saw {session}"}


def deed(step: Step, aliases: Aliases) -> str:
    """Say what an event was."""
    return _template(step).format_map(_Words(step, aliases))


class _Words:
    """What templates ask for; only what is asked for gets an alias."""

    def __init__(self, step: Step, aliases: Aliases) -> None:
        self._step = step
        self._aliases = aliases

    def __getitem__(self, name: str) -> str:
        match name:
            case "session":
                return self._aliases.session(self._step.session)
            case "kind":
                return self._step.kind or "?"
            case "error":
                return self._step.error
            case "reason":
                return self._step.note.get("reason") or "other"
        identifier = self._step.note.get(name, "")
        return self._aliases.session(identifier) if identifier else "none"


def _template(step: Step) -> str:
    if step.error:
        return "database error ({error})"
    if step.judged:
        return _JUDGED[step.judged]
    name = _DETAILS.get(step.kind, _itself)(step)
    return _DEEDS.get(name, "{session} crossed a border" if step.kind == "violated" else "{kind}")


def _itself(step: Step) -> str:
    return step.kind


def _outcome(step: Step) -> str:
    if step.session:
        return "found"
    return "missed_it" if step.note.get("asked") else "missed"


def _origin(step: Step) -> str:
    return step.origin if step.origin in ("upsert", "row") else "result"


def _violation(step: Step) -> str:
    return step.note.get("violation", "")


# What tells events of one kind apart.
_DETAILS: Final[dict[str, Callable[[Step], str]]] = {
    "looked_up": _outcome,
    "observed": _origin,
    "violated": _violation,
}
