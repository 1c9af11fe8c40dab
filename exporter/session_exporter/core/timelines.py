"""Where creates and adoptions stand on the timelines of their users, and what follows from it."""

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Final, TypeAlias

from session_exporter.core import duplicates
from session_exporter.core.continuity import Continuity
from session_exporter.core.events import WATCH
from session_exporter.core.generations import Birth
from session_exporter.core.population import Population
from session_exporter.core.records import (
    NO_ROTATION,
    PERHAPS_ROTATION,
    ROTATION,
    Anchor,
    Evidence,
    Owner,
    Report,
    Session,
)
from session_exporter.core.tally import Tally

# At most this many creates keep their evidence in memory, at some 250 bytes each.
EVIDENCE_MAX: Final = 100_000
# Evidence is kept this much longer than a create in time could need it.
EVIDENCE_SLACK_US: Final = 1_000_000

RotationTally: TypeAlias = Callable[[bytes, bytes], Tally]


class Timelines:
    """The timelines of one scope.

    Args:
        people: The scope's sessions and users.
        tally: Where to count.
        continuity: Judges what a create takes the place of.
        lateness_us: How late an event may arrive and still be judged in order.

    Attributes:
        with_evidence: Users whose newest anchor, at a time, has evidence; in the order in which it came.
        rows_wait_us: How long after its time a create that only the database tells is judged.
        rotations: Who counts a create by a user as a rotation, of what its request had expected.
    """

    def __init__(self, people: Population, tally: Tally, continuity: Continuity, *, lateness_us: int) -> None:
        self.with_evidence: deque[tuple[int, Owner]] = deque()
        self.rows_wait_us = 0
        self.rotations: RotationTally = lambda _user, _expected: tally
        self._people = people
        self._rules = people.rules
        self._tally = tally
        self._continuity = continuity
        self._evidence_us = people.rules.duplicate_window_us + lateness_us + EVIDENCE_SLACK_US

    def create(self, session: Session, birth: Birth, report: Report, *, is_known_now: bool) -> None:
        """Place a create, unless nobody knows whose it is; what may be a rotation stands there as one.

        Args:
            session: What was created.
            birth: When, and whether it had been adopted before.
            report: Of its create.
            is_known_now: Whose it is was not known before this report.
        """
        owner, evidence, expected = session.owner, report.evidence, report.other
        at_us = max(birth.at_us, report.at_us) if is_known_now else birth.at_us
        rotates = self._continuity.rotates(expected, report.at_us)
        if rotates == ROTATION:
            self.rotations(session.user, expected).rotation(at_us, session.id, session.user)
        elif rotates == PERHAPS_ROTATION:
            self._continuity.await_rotation(session, at_us, evidence, expected)
        if owner is None:
            past = session.with_past()
            past.evidence, past.rotates = evidence, rotates
            return
        stands = birth.adopted and duplicates.stands_at(owner, session.id, at_us) == at_us
        if rotates == NO_ROTATION:
            self._judge(owner, session, at_us, evidence, stands=stands)
        else:
            self._rotate(owner, session, at_us, evidence, stands=stands)

    def adoption(self, session: Session, at_us: int, evidence: Evidence) -> None:
        """Place an adoption, unless nobody knows whose it is."""
        if session.owner is None:
            session.with_past().evidence = evidence
        else:
            self._place(session.owner, Anchor(at_us, session.id, False, evidence.request, evidence))

    def attribution(self, owner: Owner, session: Session, at_us: int, evidence: Evidence, *, is_create: bool) -> None:
        """Place a create or an adoption whose user has become known, at the time of that when it is later."""
        if is_create and (session.past is None or session.past.rotates == NO_ROTATION):
            self._judge(owner, session, at_us, evidence)
        elif is_create:
            self._rotate(owner, session, at_us, evidence)
        else:
            self.adoption(session, at_us, evidence)

    def witness(self, session: Session, evidence: Evidence) -> None:
        """Take the evidence of a further report of a create, when only the database had told of it so far."""
        if evidence.worker == WATCH:
            return
        owner, past = session.owner, session.past
        if owner is not None and duplicates.witness(owner, session.id, evidence):
            self._people.change_owner(owner)
        elif past is not None and past.evidence is not None and past.evidence.worker == WATCH:
            past.evidence = evidence
            self._people.change(session)

    def rotation_due(self, due: Report) -> None:
        """Decide whether a create is a rotation, now that it is certain whether what it expected was ended."""
        session = self._people.sessions.get(due.session)
        is_rotation = self._continuity.is_rotation(due.other, due.at_us)
        if is_rotation:
            user = due.user if session is None else session.user
            self.rotations(user, due.other).rotation(due.created_at_us, due.session, user)
        if session is None:
            return
        if session.owner is None:
            session.with_past().rotates = ROTATION if is_rotation else NO_ROTATION
            self._people.change(session)
        elif not is_rotation:
            stands_us = duplicates.stands_at(session.owner, session.id, due.created_at_us)
            if stands_us:
                self._judge(session.owner, session, stands_us, due.evidence, stands=True, now_us=due.at_us)

    def keep_evidence(self, owner: Owner, at_us: int, watermark_us: int) -> None:
        """Keep the evidence of a restored owner's anchors, the last at `at_us`, for as long as it can be needed."""
        if at_us < watermark_us - self._evidence_us - self.rows_wait_us:
            duplicates.forget_evidence(owner, inf, self._rules)
        else:
            self.with_evidence.append((at_us, owner))

    def sort_evidence(self) -> None:
        """Bring what was restored into the order of time."""
        self.with_evidence = deque(sorted(self.with_evidence, key=lambda entry: entry[0]))

    def forget_evidence(self, watermark_us: int) -> None:
        """Drop the evidence of creates that no further create in time can meet any more."""
        waiting, before_us = self.with_evidence, watermark_us - self._evidence_us - self.rows_wait_us
        while waiting and (waiting[0][0] < before_us or len(waiting) > EVIDENCE_MAX):
            at_us, owner = waiting.popleft()
            duplicates.forget_evidence(owner, before_us if at_us < before_us else inf, self._rules)

    def _judge(
        self,
        owner: Owner,
        session: Session,
        at_us: int,
        evidence: Evidence,
        *,
        stands: bool = False,
        now_us: int = 0,
    ) -> None:
        """See what a create took the place of; it may stand there already, as an adoption or a possible rotation."""
        before = self._continuity.predecessor(owner, session, at_us)
        if self._continuity.is_rotated(before, session, at_us):
            self._tally.rotation(at_us, session.id, session.user)
            self._rotate(owner, session, at_us, evidence, stands=stands)
        elif not self._place(owner, Anchor(at_us, session.id, True, evidence.request, evidence), stands=stands):
            self._continuity.took_over(before, session, at_us, evidence, now_us=max(now_us, at_us))

    def _rotate(self, owner: Owner, session: Session, at_us: int, evidence: Evidence, *, stands: bool = False) -> None:
        """Have a create stand as a rotation."""
        if stands:
            duplicates.rotate(owner, session.id, at_us)
            self._people.change_owner(owner)
        else:
            self._place(owner, Anchor(at_us, session.id, False, evidence.request, evidence, is_rotation=True))

    def _place(self, owner: Owner, anchor: Anchor, *, stands: bool = False) -> bool:
        """Put an anchor on its user's timeline; whether it is a rapid duplicate."""
        if stands:
            placed = duplicates.upgrade(owner, anchor.at_us, anchor, self._rules)
        else:
            placed = duplicates.place(owner, anchor, self._rules)
        self.with_evidence.append((anchor.at_us, owner))
        self._people.change_owner(owner)
        if placed.previous is not None and anchor.is_create:
            self._tally.interval(anchor.at_us - placed.previous.at_us, owner.user)
        for duplicate in placed.duplicates:
            self._tally.duplicate(duplicate, owner)
        return any(each.create.session == anchor.session for each in placed.duplicates)
