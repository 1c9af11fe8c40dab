"""Whether users got the session that they were with: losses, stale expectations and rotations.

A session is lost at most once in a generation, whoever tells and for whatever reason: a client that retries a dead id
five times has lost one context, and so has a user whose session one request missed and another one replaced.
"""

from bisect import bisect_left
from collections.abc import Callable

from session_exporter.core.duplicates import ANCHORS_MAX, anchors_of
from session_exporter.core.events import OTHER_USED
from session_exporter.core.generations import END, began_at
from session_exporter.core.population import Population, marks_of
from session_exporter.core.records import (
    LIVE,
    LOST,
    REPLACEMENT_DUE,
    ROTATION_DUE,
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
    """

    def __init__(self, people: Population, tally: Tally, *, lateness_us: int, wait: Callable[[Report], None]) -> None:
        self._people = people
        self._rules = people.rules
        self._tally = tally
        self._lateness_us = lateness_us
        self._wait = wait

    def unmet(self, report: Report) -> None:
        """Judge that a request, which is over, never got the session that it expected."""
        session = self._people.sessions.get(report.session)
        if session is None or not self._was_live(session, report):
            if session is not None or report.first:
                self._tally.stale(report)
            return
        self._lose(session, report, "switched" if report.origin == OTHER_USED else "missing", report.other)

    def is_rotation(self, expected: bytes) -> bool:
        """Whether the session that a request had expected and found has been ended since."""
        session = self._people.sessions.get(expected)
        return session is not None and _end_reason(session) not in {"", "expired"}

    def is_pending(self, expected: bytes) -> bool:
        """Whether that session may still be ended, which would make the create of another one a rotation."""
        session = self._people.sessions.get(expected)
        return session is not None and bool(session.flags & LIVE)

    def await_rotation(self, session: Session, at_us: int, report: Report, *, adopted: bool) -> None:
        """Have a create at `at_us` placed once it is certain whether it is a rotation."""
        due_us = at_us + self._lateness_us
        self._wait(
            Report(
                due_us,
                session.id,
                ROTATION_DUE,
                report.scope,
                session.owner.id if session.owner is not None else b"",
                evidence=report.evidence,
                created_at_us=at_us,
                other=report.other,
                adopted=adopted,
            )
        )

    def predecessor(self, owner: Owner, at_us: int, session: bytes) -> bytes:
        """The session that a user had come to before a create; empty when none is known."""
        if self._rules.sessions_per_user != "one":
            return b""
        anchors = anchors_of(owner)
        index = bisect_left(anchors, (at_us, session), key=_place)
        if index:
            return anchors[index - 1].session
        return owner.anchor_session if not anchors else b""

    def meet(self, owner: Owner, session: Session, at_us: int) -> None:
        """Note that a user came to a session that was neither created nor adopted: it was first seen in use."""
        if self._rules.sessions_per_user != "one":
            return
        if owner.anchors is None and not owner.anchor_us:
            owner.anchor_session = session.id
        else:
            anchors = [*anchors_of(owner), Anchor(at_us, session.id, is_create=False, is_met=True)]
            owner.anchors = tuple(sorted(anchors, key=_place)[-ANCHORS_MAX:])
        self._people.change_owner(owner)

    def is_rotated(self, identifier: bytes, at_us: int) -> bool:
        """Whether the session before a create at `at_us` was ended as `rotated` a moment before it."""
        session = self._people.sessions.get(identifier)
        return (
            session is not None
            and _end_reason(session) == "rotated"
            and 0 <= at_us - session.ended_us < self._rules.duplicate_window_us
        )

    def took_over(self, identifier: bytes, session: Session, at_us: int, evidence: Evidence) -> None:
        """Judge a create, which is neither a rapid duplicate nor a rotation, after another session of its user."""
        before = self._people.sessions.get(identifier)
        if before is None or before.last_us < at_us - self._rules.idle_timeout_us:
            return
        report = Report(
            at_us, session.id, REPLACEMENT_DUE, self._people.number, b"", session.user, evidence, other=identifier
        )
        if before is session:
            self._restarted(session, report)
        elif before.flags & LIVE:
            # Whoever makes a session before ending the last one has ended it all the same.
            due = Report(
                at_us + self._lateness_us,
                session.id,
                REPLACEMENT_DUE,
                self._people.number,
                b"",
                session.user,
                evidence,
                created_at_us=at_us,
                other=identifier,
            )
            self._wait(due)
        elif not self._is_legitimate(before, at_us):
            self._lose(before, report, "replaced", session.id)

    def replacement_due(self, due: Report) -> None:
        """Judge a create once it is certain how the session before it ended, if it did."""
        before = self._people.sessions.get(due.other)
        report = Report(
            due.created_at_us, due.session, due.kind, due.scope, b"", due.user, due.evidence, other=due.other
        )
        if before is None:
            # It has expired since, or had to make room: it was live when the other one took over.
            self._tally.loss(report, "replaced", due.other, due.session)
        elif _end_reason(before) == "rotated":
            self._tally.rotation(report.at_us, report.session, report.user)
        elif not _end_reason(before) or not self._is_legitimate(before, report.at_us):
            self._lose(before, report, "replaced", due.session)

    def _was_live(self, session: Session, report: Report) -> bool:
        """Whether a session was there for the user of a request when that began to do without it."""
        if not session.flags & LIVE or report.at_us - session.last_us > self._rules.idle_timeout_us:
            return False
        if report.user and session.owner is not None and session.user != report.user:
            return False
        return began_at(marks_of(session)) < report.created_at_us

    def _restarted(self, session: Session, report: Report) -> None:
        """The session before had the same id: its end was counted before this create."""
        ends = [mark for mark in marks_of(session) if mark[1] >= END and mark[0] <= report.at_us]
        if not ends or report.at_us - ends[-1][0] > self._rules.idle_timeout_us:
            return
        if END_REASONS[ends[-1][1] - END] not in self._rules.end_reasons:
            self._tally.loss(report, "replaced", session.id, session.id)

    def _is_legitimate(self, session: Session, created_us: int) -> bool:
        unseen_us = session.past.unseen_end_us if session.past is not None else 0
        if unseen_us and unseen_us == session.ended_us and created_us - unseen_us < self._rules.duplicate_window_us:
            return False
        return _end_reason(session) in self._rules.end_reasons

    def _lose(self, session: Session, report: Report, reason: str, actual: bytes) -> None:
        if session.flags & LOST:
            return
        session.flags |= LOST
        self._people.change(session)
        self._tally.loss(report, reason, session.id, actual)


def _end_reason(session: Session) -> str:
    """Why a session ended last; empty for one that is live."""
    if session.flags & LIVE:
        return ""
    marks = marks_of(session)
    if marks and marks[-1][1] >= END:
        return END_REASONS[marks[-1][1] - END]
    return "deleted"  # and not yet certain not to be a rewrite


def _place(anchor: Anchor) -> tuple[int, bytes]:
    return (anchor.at_us, anchor.session)
