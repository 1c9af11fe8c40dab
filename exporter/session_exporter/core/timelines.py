"""Where creates and adoptions stand on the timelines of their users, and what follows from it."""

from collections import deque
from math import inf
from typing import Final

from session_exporter.core import duplicates
from session_exporter.core.continuity import Continuity
from session_exporter.core.generations import Birth
from session_exporter.core.population import Population
from session_exporter.core.records import Anchor, Evidence, Owner, Session
from session_exporter.core.tally import Tally

# At most this many creates keep their evidence in memory, at some 250 bytes each.
EVIDENCE_MAX: Final = 100_000
# Evidence is kept this much longer than a create in time could need it.
EVIDENCE_SLACK_US: Final = 1_000_000


class Timelines:
    """The timelines of one scope.

    Args:
        people: The scope's sessions and users.
        tally: Where to count.
        continuity: Judges what a create takes the place of.
        lateness_us: How late an event may arrive and still be judged in order.

    Attributes:
        with_evidence: Users whose newest anchor, at a time, has evidence; in the order in which it came.
    """

    def __init__(self, people: Population, tally: Tally, continuity: Continuity, *, lateness_us: int) -> None:
        self.with_evidence: deque[tuple[int, Owner]] = deque()
        self._people = people
        self._rules = people.rules
        self._tally = tally
        self._continuity = continuity
        self._evidence_us = people.rules.duplicate_window_us + lateness_us + EVIDENCE_SLACK_US

    def create(self, session: Session, birth: Birth, evidence: Evidence, *, is_rotation: bool) -> None:
        """Place a create, unless nobody knows whose it is, and see what it took the place of."""
        owner, at_us = session.owner, birth.at_us
        before = self._continuity.predecessor(owner, at_us, session.id) if owner is not None else b""
        is_rotation = is_rotation or self._continuity.is_rotated(before, at_us)
        if is_rotation:
            self._tally.rotation(at_us, session.id, session.user)
        if owner is None or (is_rotation and birth.adopted):  # an adoption is where a rotation would be
            return
        anchor = Anchor(at_us, session.id, not is_rotation, evidence.request, evidence)
        is_duplicate = self._place(owner, anchor, at_us if birth.adopted else None)
        if not is_rotation and not is_duplicate:
            self._continuity.took_over(before, session, at_us, evidence)

    def adoption(self, owner: Owner, session: Session, at_us: int, evidence: Evidence) -> None:
        """Place an adoption."""
        self._place(owner, Anchor(at_us, session.id, False, evidence.request, evidence))

    def attribution(self, owner: Owner, session: Session, at_us: int, evidence: Evidence, *, is_create: bool) -> None:
        """Place a create or an adoption whose user has become known, at the time of that when it is later."""
        before = self._continuity.predecessor(owner, at_us, session.id)
        is_duplicate = self._place(owner, Anchor(at_us, session.id, is_create, evidence.request, evidence))
        if is_create and not is_duplicate:
            self._continuity.took_over(before, session, at_us, evidence)

    def keep_evidence(self, owner: Owner, at_us: int, watermark_us: int) -> None:
        """Keep the evidence of a restored owner's anchors, the last at `at_us`, for as long as it can be needed."""
        if at_us < watermark_us - self._evidence_us:
            duplicates.forget_evidence(owner, inf, self._rules)
        else:
            self.with_evidence.append((at_us, owner))

    def sort_evidence(self) -> None:
        """Bring what was restored into the order of time."""
        self.with_evidence = deque(sorted(self.with_evidence, key=lambda entry: entry[0]))

    def forget_evidence(self, watermark_us: int) -> None:
        """Drop the evidence of creates that no further create in time can meet any more."""
        waiting, before_us = self.with_evidence, watermark_us - self._evidence_us
        while waiting and (waiting[0][0] < before_us or len(waiting) > EVIDENCE_MAX):
            at_us, owner = waiting.popleft()
            duplicates.forget_evidence(owner, before_us if at_us < before_us else inf, self._rules)

    def _place(self, owner: Owner, anchor: Anchor, adopted_us: int | None = None) -> bool:
        """Put an anchor on its user's timeline; whether it is a rapid duplicate."""
        if adopted_us is None:
            placed = duplicates.place(owner, anchor, self._rules)
        else:
            placed = duplicates.upgrade(owner, adopted_us, anchor, self._rules)
        self.with_evidence.append((anchor.at_us, owner))
        self._people.change_owner(owner)
        if placed.previous is not None and anchor.is_create:
            self._tally.interval(anchor.at_us - placed.previous.at_us)
        for duplicate in placed.duplicates:
            self._tally.duplicate(duplicate, owner)
        return any(each.create.session == anchor.session for each in placed.duplicates)
