"""The lines that people grep for when something went wrong with a session: the one place of their words.

Whoever logs them passes template and arguments on as they are: a limit on log lines goes by the template.
"""

from typing import Final, NamedTuple

from session_exporter.core.incidents import Incident

# As `logging` numbers them.
_WARNING: Final = 30
_ERROR: Final = 40

_NOBODY: Final = "-"

# At level debug, with the pseudonym of the user.
REUSED: Final = "METRIC: Session reused for user %s"


class AlarmLine(NamedTuple):
    """One line of a log.

    Attributes:
        level: Of the line.
        template: The text, with %-placeholders.
        arguments: What belongs into them; ids are pseudonyms.
        fields: What leads from the line to its incident.
    """

    level: int
    template: str
    arguments: tuple[object, ...]
    fields: dict[str, str]


def alarm_line(incident: Incident, window_us: int) -> AlarmLine | None:
    """What is logged of an incident; None for one of a kind that alarms nobody.

    Args:
        incident: Of any kind.
        window_us: The scope's duplicate window, microseconds.
    """
    detail = incident.detail
    told: tuple[object, ...]
    fields = {"incident": incident.id, "scope": incident.scope}
    if incident.kind == "rapid_duplicate_create":
        # The incident tells the whole chain, which may be longer than the window.
        count = sum(each["at_us"] > incident.at_us - window_us for each in detail["creates"])
        template = "METRIC ALERT: User %s created %d sessions in %gs"
        told = (detail["user"] or _NOBODY, count, window_us / 1e6)
        return AlarmLine(_WARNING, template, told, {**fields, "cause": detail["cause"]})
    if incident.kind == "isolation_violation":
        template = "METRIC ALERT: Isolation violation %s for user %s"
        told = (detail["violation"], detail["user"] or _NOBODY)
        return AlarmLine(_ERROR, template, told, {**fields, "violation": detail["violation"]})
    if incident.kind == "context_loss":
        template = "METRIC ALERT: Context loss for user %s: expected %s, got %s"
        told = tuple(detail[name] or _NOBODY for name in ("user", "expected", "actual"))
        return AlarmLine(_ERROR, template, told, {**fields, "reason": detail["reason"]})
    if incident.kind == "invalid_id":
        template = "METRIC ALERT: Invalid %s id %s of user %s: %s, expected %s"
        told = (detail["id_kind"], detail["sample"], detail["user"] or _NOBODY, detail["shape"], detail["declared"])
        return AlarmLine(_WARNING, template, told, {**fields, "id_kind": detail["id_kind"], "shape": detail["shape"]})
    if incident.kind == "duplicate_active_user":
        template = "METRIC ALERT: User %s has %s active sessions in the database"
        return AlarmLine(_WARNING, template, (detail["user"] or _NOBODY, detail["active_rows"]), fields)
    return None
