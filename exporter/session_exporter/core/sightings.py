"""Whether a session that was seen came into existence just then."""

from session_exporter.core.events import RESULT, ROW
from session_exporter.core.generations import has_ended
from session_exporter.core.population import Population
from session_exporter.core.records import BORN, LIVE, Past, Report, Session


def is_made(people: Population, session: Session, report: Report, *, unknown: bool) -> bool:
    """Whether what was observed came into existence just then.

    Args:
        people: Of the scope.
        session: What was observed.
        report: The observation.
        unknown: The session was not known before.
    """
    if report.origin == RESULT:
        is_there = bool(session.flags & BORN) and session.id not in people.deleting
        if not is_there and _looks_created(people, session, report):
            return True
        return unknown and _has_another(people, report.owner, session)
    # A statement wrote it: what had been deleted or ended before is there again, or is another one.
    if session.id in people.deleting or (session.past is not None and is_changed(session.past, report)):
        return True
    if unknown:
        return report.origin == ROW or _has_another(people, report.owner, session)
    return session.past is not None and has_ended(session.past.marks)


def is_changed(past: Past, report: Report) -> bool:
    """Whether what the scope's `restart_on` columns hold is not what they held before."""
    return bool(report.version and past.version) and report.version != past.version


def _looks_created(people: Population, session: Session, report: Report) -> bool:
    created_us = report.created_at_us
    if not created_us:
        return False
    return report.at_us - created_us < people.rules.duplicate_window_us and created_us > session.ended_us


def _has_another(people: Population, owner: bytes, session: Session) -> bool:
    known = people.owners.get(owner) if owner and people.rules.sessions_per_user == "one" else None
    return known is not None and known.live > int(session.owner is known and bool(session.flags & LIVE))
