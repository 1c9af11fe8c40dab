"""Whether users got the session that they were with: losses, stale expectations and rotations.

A session is lost at most once in a generation, whoever tells and for whatever reason: a client that retries a dead id
five times has lost one context, and so has a user whose session one request missed and another one replaced.
"""

from bisect import bisect_left
from collections.abc import Callable

from msgspec import structs

from session_exporter.core.duplicates import ANCHORS_MAX, anchors_of
from session_exporter.core.events import OTHER_USED
from session_exporter.core.generations import END, began_at, end_of, revived_at, since
from session_exporter.core.population import Population, marks_of
from session_exporter.core.records import (
    LOST,
    NO_ROTATION,
    PERHAPS_ROTATION,
    REPLACEMENT_DUE,
    ROTATION,
    ROTATION_DUE,
    WAS_LOST,
    Anchor,
    Evidence,
    Owner,
    Report,
    Session,
)
from session_exporter.core.scopes import END_REASONS
from session_exporter.core.tally import Tally


class Continuity:
    """Judges the continuity of one scope.

    Args:
        people: The scope's sessions and users.
        tally: Where to count.
        lateness_us: For how long after a create an end of the session before it still belongs to it.
        wait: Called with a report that must be judged again at its `at_us`.

    Attributes:
        find: Finds a session that a request expected.
    """

    def __init__(self, people: Population, tally: Tally, *, lateness_us: int, wait: Callable[[Report], None]) -> None:
        self.find: Callable[[bytes], Session | None] = people.sessions.get
        self._people = people
        self._rules = people.rules
        self._tally = tally
        self._lateness_us = lateness_us
        self._wait = wait

    def unmet(self, report: Report) -> None:
        """Judge that a request, which is over, never got the session that it expected."""
        session = self._people.sessions.get(report.session)
        if session is not None and self._was_live(session, report):
            self._lose(session, report, "switched" if report.origin == OTHER_USED else "missing", report.other)
        elif session is not None or report.first or self._people.remembers(report.session):
            self._tally.stale(report)

    def rotates(self, expected: bytes, at_us: int) -> int:
        """Whether a create is a rotation, for all that is known at a time."""
        session = self.find(expected) if expected else None
        if session is None:
            return NO_ROTATION
        if end_of(marks_of(session), at_us) is None:
            return PERHAPS_ROTATION
        return ROTATION if self.is_rotation(expected, at_us) else NO_ROTATION

    def is_rotation(self, expected: bytes, at_us: int) -> bool:
        """Whether the session that the request of a create had expected, and found, has ended by a time."""
        session = self.find(expected)
        end = self._end(session, at_us) if session is not None else None
        return end is not None and end[1] != "expired"

    def await_rotation(self, session: Session, created_us: int, evidence: Evidence, expected: bytes) -> None:
        """Have it decided whether a create is a rotation once that is certain."""
        due_us, number = created_us + self._lateness_us, self._people.number
        self._wait(
            Report(
                due_us,
                session.id,
                ROTATION_DUE,
                number,
                user=session.user,
                evidence=evidence,
                created_at_us=created_us,
                other=expected,
            )
        )

    def predecessor(self, owner: Owner, session: Session, at_us: int) -> bytes:
        """The session that a user had come to before a create; empty when none is known.

        The new session itself may have been used a moment before its create, in the transaction that made it; when it
        was seen earlier than that, the user came to it then, and has not lost another one now.
        """
        if self._rules.sessions_per_user != "one":
            return b""
        anchors = anchors_of(owner)
        for anchor in reversed(anchors[: bisect_left(anchors, (at_us, session.id), key=_place)]):
            if anchor.session != session.id or anchor.at_us < since(marks_of(session), at_us):
                return anchor.session
            if not anchor.is_met or at_us - anchor.at_us >= self._rules.duplicate_window_us:
                break
        return b""

    def meet(self, owner: Owner, session: Session, at_us: int) -> None:
        """Note that a user came to a session that was neither created nor adopted: it was first seen in use."""
        if self._rules.sessions_per_user != "one":
            return
        if anchors := anchors_of(owner):
            met = Anchor(at_us, session.id, is_create=False, is_met=True)
            owner.anchors = tuple(sorted((*anchors, met), key=_place)[-ANCHORS_MAX:])
        else:
            owner.anchor_session = session.id
        self._people.change_owner(owner)

    def is_rotated(self, identifier: bytes, session: Session, at_us: int) -> bool:
        """Whether the session before a create at `at_us` was ended as `rotated` a moment before it."""
        before = self._before(identifier, session)
        end = self._end_before(before, session, at_us) if before is not None else None
        return end is not None and end[1] == "rotated" and 0 <= at_us - end[0] < self._rules.duplicate_window_us

    def took_over(self, identifier: bytes, session: Session, at_us: int, evidence: Evidence, *, now_us: int) -> None:
        """Judge a create, which is neither a rapid duplicate nor a rotation, after another session of its user."""
        before = self._before(identifier, session)
        if before is None or (before is not session and before.last_us < now_us - self._rules.idle_timeout_us):
            return
        due = Report(
            now_us,
            session.id,
            REPLACEMENT_DUE,
            self._people.number,
            user=session.user,
            evidence=evidence,
            created_at_us=at_us,
            other=identifier,
        )
        if before is session:
            self._restarted(session, due)
        else:
            self.replacement_due(due)

    def replacement_due(self, due: Report) -> None:
        """Judge a create when it is certain how the session before it ended; wait for that as long as it is not."""
        before = self._people.sessions.get(due.other)
        if before is None:  # it had to make room
            return
        created_us = due.created_at_us
        end = self._end(before, created_us)
        # Whoever makes a session before ending the last one has ended it all the same, unless that expires first.
        until_us = min(created_us + self._lateness_us, before.last_us + self._rules.idle_timeout_us)
        if end is not None and end[1] == "rotated" and end[0] > created_us:
            self._tally.rotation(created_us, due.session, due.user)
        elif end is not None and self._is_legitimate(before, end, created_us):
            return
        elif due.at_us < until_us:
            self._wait(structs.replace(due, at_us=until_us))
        elif not self._had_expired(before, created_us, created_us):
            report = structs.replace(due, at_us=created_us)
            self._lose(before, report, "replaced", due.session, WAS_LOST if _began_after(before, end) else LOST)

    def _before(self, identifier: bytes, session: Session) -> Session | None:
        """The session that its user had come to before; None when it is no longer there, or is another user's now."""
        before = self._people.sessions.get(identifier)
        return before if before is not None and before.owner is session.owner else None

    def _was_live(self, session: Session, report: Report) -> bool:
        """Whether a session was there for the user of a request when that began to do without it."""
        if report.at_us - session.last_us > self._rules.idle_timeout_us or self._end(session, report.at_us) is not None:
            return False
        if report.user and session.owner is not None and session.user != report.user:
            return False
        return began_at(marks_of(session)) < report.created_at_us

    def _had_expired(self, session: Session, at_us: int, created_us: int) -> bool:
        """Whether the generation of a time had been idle for too long until a moment before a create.

        Whoever looks for the last session, finds that it is too old, and makes another has lost nothing.
        """
        return 0 <= created_us - revived_at(marks_of(session), at_us) < self._rules.duplicate_window_us

    def _restarted(self, session: Session, due: Report) -> None:
        """The session before had the same id: its end was counted before this create."""
        created_us = due.created_at_us
        end = self._end_before(session, session, created_us)
        if end is None or created_us - end[0] > self._rules.idle_timeout_us:
            return
        if not self._had_expired(session, end[0] - 1, created_us) and not self._is_legitimate(session, end, created_us):
            report = structs.replace(due, at_us=created_us)
            self._lose(session, report, "replaced", session.id, WAS_LOST)

    def _end(self, session: Session, at_us: int) -> tuple[int, str] | None:
        """When and why the generation of a time ended; None when it has not.

        A deletion is an end until an insert shows that it was a rewrite.
        """
        mark = end_of(marks_of(session), at_us)
        if mark is not None:
            return mark[0], END_REASONS[mark[1] - END]
        deleted_us = self._people.deleting.get(session.id)
        return None if deleted_us is None else (deleted_us, "deleted")

    def _end_before(self, before: Session, session: Session, at_us: int) -> tuple[int, str] | None:
        """When and why the session before ended, which may have had the same id."""
        if before is not session:
            return self._end(before, at_us)
        end = self._end(session, min(at_us, session.started_us) - 1)
        return end if end is not None and end[0] < at_us else None

    def _is_legitimate(self, session: Session, end: tuple[int, str], created_us: int) -> bool:
        ended_us, reason = end
        is_unseen = session.past is not None and ended_us in session.past.unseen_us
        if is_unseen and created_us - ended_us < self._rules.duplicate_window_us:
            return False
        return reason in self._rules.end_reasons

    def _lose(self, session: Session, report: Report, reason: str, actual: bytes, once: int = LOST) -> None:
        if session.flags & once:
            return
        session.flags |= once
        self._people.change(session)
        self._tally.loss(report, reason, session.id, actual)


def _began_after(session: Session, end: tuple[int, str] | None) -> bool:
    """Whether a session has been created again since it ended."""
    return end is not None and any(mark[1] < END and mark[0] > end[0] for mark in marks_of(session))


def _place(anchor: Anchor) -> tuple[int, bytes]:
    return (anchor.at_us, anchor.session)
