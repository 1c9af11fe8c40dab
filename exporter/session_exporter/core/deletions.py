"""Deletions that may turn out to be rewrites: an insert of the same id soon after shows that there was no end."""

from collections.abc import Callable

from session_exporter.core.events import WATCH
from session_exporter.core.generations import end_of
from session_exporter.core.population import Population, marks_of
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
        at_us, is_unseen, past = report.at_us, report.evidence.worker == WATCH, session.past
        if not self._people.is_over(session):
            if is_unseen:
                past = session.with_past()
                past.unseen_us = (*past.unseen_us[-1:], at_us)
        elif past is not None and past.unseen_us:
            deleted_us = self._people.deleting.get(session.id)
            mark = end_of(marks_of(session), at_us)
            told_us = deleted_us if deleted_us is not None or mark is None else mark[0]
            if not is_unseen:
                past.unseen_us = tuple(each for each in past.unseen_us if each != told_us)
            elif deleted_us is not None and report.reason != "deleted":  # what explains a deletion stands for it
                past.unseen_us = tuple(at_us if each == deleted_us else each for each in past.unseen_us)
