"""Deletions that may turn out to be rewrites: an insert of the same id soon after shows that there was no end."""

from collections.abc import Callable

from session_exporter.core.events import WATCH
from session_exporter.core.population import Population
from session_exporter.core.records import DELETION_DUE, Report, Session


class Deletions:
    """The deletions of one scope that are not certain yet.

    Args:
        people: The scope's sessions.
        lateness_us: How soon after a deletion an insert makes it a rewrite.
        wait: Called with a report that must be judged again at its `at_us`.
    """

    def __init__(self, people: Population, *, lateness_us: int, wait: Callable[[Report], None]) -> None:
        self._people = people
        self._lateness_us = lateness_us
        self._wait = wait

    def add(self, session: Session, at_us: int) -> None:
        """Take a session for ended until it is certain, one lateness after its first deletion."""
        if session.id in self._people.deleting:
            return
        session.ended_us = max(session.ended_us, at_us)
        self._people.deleting[session.id] = at_us
        self._people.refresh(session)
        due_us = at_us + self._lateness_us
        self._wait(Report(due_us, session.id, DELETION_DUE, self._people.number, created_at_us=at_us))

    def explain(self, session: Session) -> None:
        """Forget a deletion: whoever says why a session ended knows better than who saw its row go."""
        self._people.deleting.pop(session.id, None)

    def is_certain(self, due: Report) -> bool:
        """Whether nothing has come in the time that there was."""
        if self._people.deleting.get(due.session) != due.created_at_us:
            return False
        del self._people.deleting[due.session]
        return True

    def is_rewrite(self, session: Session, created_us: int) -> bool:
        """Whether a create follows a deletion soon enough; the session has not ended then."""
        deleted_us = self._people.deleting.get(session.id)
        if deleted_us is None or not 0 <= created_us - deleted_us <= self._lateness_us:
            return False
        del self._people.deleting[session.id]
        session.ended_us = min(session.ended_us, deleted_us - 1)
        return True

    def see(self, session: Session, report: Report) -> None:
        """Note of an end whether anybody but the database told of it."""
        was_over = self._people.is_over(session)
        if report.evidence.worker != WATCH:
            if was_over and session.past is not None:
                session.past.unseen_us = session.past.unseen_us[:-1]
        elif not was_over:
            past = session.with_past()
            past.unseen_us = (*past.unseen_us[-1:], report.at_us)
