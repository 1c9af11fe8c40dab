"""The log lines that people grep for when something went wrong with a session."""

import logging

from session_exporter.core.incidents import Incident
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.tally import Listener, Verdict

logger = logging.getLogger("session_exporter.alarms")


def log(incident: Incident, window_us: int) -> None:
    """Log one incident; ids in it are pseudonyms.

    Args:
        incident: A duplicate, a loss or a violation.
        window_us: The scope's duplicate window, microseconds.
    """
    detail = incident.detail
    extra = {"incident": incident.id, "scope": incident.scope}
    if incident.kind == "rapid_duplicate_create":
        extra["cause"] = detail["cause"]
        # The incident tells the whole chain, which may be longer than the window.
        count = sum(each["at_us"] > incident.at_us - window_us for each in detail["creates"])
        window_s = window_us / 1_000_000
        logger.warning("METRIC ALERT: User %s created %d sessions in %gs", detail["user"], count, window_s, extra=extra)
    elif incident.kind == "isolation_violation":
        extra["violation"] = detail["violation"]
        logger.error(
            "METRIC ALERT: Isolation violation %s for user %s", detail["violation"], detail["user"] or "-", extra=extra
        )
    else:
        extra["reason"] = detail["reason"]
        logger.error(
            "METRIC ALERT: Context loss for user %s: expected %s, got %s",
            detail["user"],
            detail["expected"],
            detail["actual"],
            extra=extra,
        )


def reuse_listener(names: Pseudonyms) -> Listener | None:
    """What logs each reuse, for a log of level DEBUG; None for any other, so that reuses cost nothing more."""
    if not logger.isEnabledFor(logging.DEBUG):
        return None

    def tell(verdict: Verdict) -> None:
        if verdict.verdict == "reuse":
            user = names.label("u", verdict.user)
            logger.debug("METRIC: Session reused for user %s", user, extra={"scope": verdict.scope})

    return tell
