"""The log lines that people grep for when something went wrong with a session."""

import logging

from session_exporter.core.alarms import REUSED, alarm_line
from session_exporter.core.incidents import Incident
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.tally import Listener, Verdict

logger = logging.getLogger("session_exporter.alarms")


def log(incident: Incident, window_us: int) -> None:
    """Log one incident; ids in it are pseudonyms.

    Args:
        incident: Of any kind; one that alarms nobody is not logged.
        window_us: The scope's duplicate window, microseconds.
    """
    line = alarm_line(incident, window_us)
    if line is not None:
        logger.log(line.level, line.template, *line.arguments, extra=line.fields)


def log_untold(count: int) -> None:
    """Log that incidents are kept without what led to them, because telling it failed twice."""
    if count:
        logger.error("%d incidents are kept without their story; the error before says why it could not be told", count)


def reuse_listener(names: Pseudonyms) -> Listener | None:
    """What logs each reuse, for a log of level DEBUG; None for any other, so that reuses cost nothing more."""
    if not logger.isEnabledFor(logging.DEBUG):
        return None

    def tell(verdict: Verdict) -> None:
        if verdict.verdict == "reuse":
            logger.debug(REUSED, names.label("u", verdict.user), extra={"scope": verdict.scope})

    return tell
