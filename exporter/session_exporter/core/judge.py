"""What becomes of each event in one scope: create, reuse, adoption, end, duplicate or loss."""

from collections.abc import Callable

from session_exporter.core.continuity import Continuity
from session_exporter.core.deletions import Deletions
from session_exporter.core.events import ROW
from session_exporter.core.generations import (
    END,
    Added,
    Birth,
    Mark,
    add_create,
    add_end,
    add_sight,
    adopted_at,
    began_at,
)
from session_exporter.core.isolation import is_used_by_another
from session_exporter.core.population import KnownIds, Population, is_closed, marks_of, set_marks
from session_exporter.core.records import (
    ADOPTION_DUE,
    ATTRIBUTED,
    BORN,
    CREATED,
    DELETION_DUE,
    ENDED,
    KNOWN,
    LIVE,
    LOOKED_UP,
    LOST,
    OBSERVED,
    REPLACEMENT_DUE,
    REUSED,
    ROTATION_DUE,
    STARTED,
    UNMET,
    WAS_LOST,
    Report,
    Session,
)
from session_exporter.core.requests import RequestMemory
from session_exporter.core.rows import judgements as rows_of
from session_exporter.core.scopes import END_REASONS, ScopeRules
from session_exporter.core.sightings import is_changed, is_made
from session_exporter.core.tally import Tally
from session_exporter.core.timelines import Timelines


class ScopeJudge:
    """Judges the events of one scope and counts what it finds.

    Args:
        number: The scope's number in the state.
        rules: How the scope is judged.
        tally: Where to count.
        known: The long memory for ids.
        requests: What each request has already done; shared by all scopes.
        lateness_us: How late an event may arrive and still be judged in order.
        wait: Called with a report that must be judged again at its `at_us`.

    Attributes:
        compares_users: Whether a session is found here that two users use.
    """

    compares_users = True

    def __init__(
        self,
        number: int,
        rules: ScopeRules,
        tally: Tally,
        *,
        known: KnownIds,
        requests: RequestMemory,
        lateness_us: int,
        wait: Callable[[Report], None],
    ) -> None:
        self.number = number
        self.rules = rules
        self.tally = tally
        self.people = Population(number, rules, tally.totals, known)
        self.adopting: dict[bytes, int] = {}
        self._requests = requests
        self._lateness_us = lateness_us
        self._wait = wait
        self.deletions = Deletions(self.people, lateness_us=lateness_us, wait=wait)
        self.continuity = Continuity(self.people, tally, lateness_us=lateness_us, wait=wait)
        self.timelines = Timelines(self.people, tally, self.continuity, lateness_us=lateness_us)
        self._judgements: dict[int, Callable[[Report], None]] = {
            CREATED: self.created,
            REUSED: self.used,
            LOOKED_UP: self.used,
            OBSERVED: self.observed,
            ENDED: self.ended,
            ATTRIBUTED: self.used,
            UNMET: self.continuity.unmet,
            ADOPTION_DUE: self.adoption_due,
            DELETION_DUE: self.deletion_due,
            ROTATION_DUE: self.timelines.rotation_due,
            REPLACEMENT_DUE: self.continuity.replacement_due,
        }
        self._judgements.update(rows_of(self))

    def judge(self, report: Report) -> None:
        """Judge what has waited for the watermark."""
        self._judgements[report.kind](report)

    # What is counted on arrival.

    def looked_up(self, report: Report, duration_us: int) -> None:
        """Count a lookup, whether it was redundant, and the reuse it shows when it found a session."""
        self.count_lookup(report, duration_us)
        if not report.session:
            return
        if self.is_first(report) and report.first:
            self.tally.reuse(report)
        if not self._used_quickly(self.people.sessions.get(report.session), report):
            self._wait(report)

    def count_lookup(self, report: Report, duration_us: int) -> None:
        """Count a lookup; redundant when its request has looked this user up before."""
        request, sites = report.evidence.request, report.evidence.sites
        place = self.tally.places.count(report.at_us, sites)
        first = self._requests.first_lookup(request, self.number, report.owner, place.number) if request else None
        self.tally.lookup(report, duration_us, place, first)

    def _used_quickly(self, session: Session | None, report: Report) -> bool:
        """Note activity of a live session by its user, who is known; False when its turn has to be awaited."""
        if session is None or not session.flags & LIVE or session.owner is None:
            return False
        if report.user and report.user != session.user:
            return False
        at_us = report.at_us
        idle_us = at_us - session.last_us
        if idle_us > self.people.idle.timeout_us:
            return False
        if idle_us > 0:
            session.last_us = at_us
            self.people.change(session)
        return True

    def is_first(self, report: Report) -> bool:
        """Whether this is the first that its request finds or makes of this session; to be asked once, on arrival.

        Only the first can be an inferred reuse: what follows in the same request is the same work, and what follows a
        create is no reuse. A request lives in one worker, so its events arrive in their order.
        """
        request = report.evidence.request
        return not request or self._requests.first_time(request, self.number, report.session)

    # What waits for the watermark.

    def created(self, report: Report) -> None:
        """A create with evidence: counts unless its generation has been counted already."""
        session = self.people.meet(report.session, report.at_us)
        self._restart(session, report)
        rewritten = self.deletions.is_rewrite(session, report.at_us)
        is_known_now = self._attribute(session, report)
        self._active(session, report.at_us)
        session.flags |= KNOWN
        births, ends = self._add_create(session, report.at_us)
        if not rewritten:
            for birth in births:
                if birth.at_us >= session.ended_us:  # a late one may be of a generation that has ended since
                    session.flags |= STARTED
                    session.started_us = birth.at_us
                self._born(session, birth, report, is_known_now=is_known_now)
        if not births and not rewritten:
            self.timelines.witness(session, report.evidence)
        if is_known_now and (rewritten or not births):
            self._attributed(session, report)
        self._ended(session, ends)

    def observed(self, report: Report) -> None:
        """A sighting: a create when the result says so or the user has another session, else a reuse or adoption."""
        session = self.people.meet(report.session, report.at_us)
        unknown = not session.flags & KNOWN
        if is_made(self.people, session, report, unknown=unknown):
            self.created(report)
            return
        self._restart(session, report)
        if self._attribute(session, report):
            self._attributed(session, report)
        self._active(session, report.at_us)
        session.flags |= KNOWN
        if unknown:
            self._adopt(session, report)
        elif report.first and report.origin != ROW:
            self.tally.reuse(report)

    def ended(self, report: Report) -> None:
        """An end; a deletion waits, because an insert of the same id soon after makes it a rewrite."""
        session = self.people.meet(report.session, report.at_us, revive=False)
        session.flags |= KNOWN
        self.deletions.see(session, report)
        if report.reason == "deleted" and not is_closed(session):
            self.deletions.add(session, report.at_us)
        else:
            self.deletions.explain(session)
            self._end(session, report.at_us, report.reason)

    def used(self, report: Report) -> None:
        """Work went on with a session, or its user became known."""
        session = self.people.meet(report.session, report.at_us)
        session.flags |= KNOWN
        if self._attribute(session, report):
            self._attributed(session, report)
        self._active(session, report.at_us)

    def adoption_due(self, report: Report) -> None:
        """No create explained the sighting in time: the session was adopted."""
        if self.adopting.get(report.session) == report.created_at_us:
            del self.adopting[report.session]
            self.tally.adoption(report.created_at_us, report.session, report.user)

    def deletion_due(self, report: Report) -> None:
        """No insert followed the deletion in time: the session ended then."""
        if self.deletions.is_certain(report):
            at_us = report.created_at_us
            self._end(self.people.meet(report.session, at_us, revive=False), at_us, "deleted")

    def expire(self, now_us: int) -> None:
        """Let sessions leave that have been idle for too long at `now_us`; the live ones among them end."""
        if self.people.idle.may_be_due(now_us):  # at nearly every report there is nothing
            self._let_leave(now_us)
        if self.tally.users is not None:
            self.tally.users.advance(now_us)

    def _let_leave(self, now_us: int) -> None:
        for session in self.people.idle.due(now_us):
            if self.people.sessions.get(session.id) is not session:
                continue  # it was given up
            if session.flags & LIVE:
                self._expired(session)
            elif (deleted_us := self.people.deleting.pop(session.id, None)) is not None:
                self._end(session, deleted_us, "deleted")
            self.people.leave(session, ended=True)

    def forget_changes(self) -> None:
        """Note that all changes so far are stored; what left the ledger meanwhile is in the long memory now."""
        self.people.forget_changes()
        self.tally.forget_changes()

    # The rules.

    def _active(self, session: Session, at_us: int) -> None:
        if session.flags & LIVE and at_us - session.last_us > self.people.idle.timeout_us:
            self._expired(session)
        self.people.touch(session, at_us)

    def _expired(self, session: Session) -> None:
        if session.flags & STARTED:
            self.tally.lasted(session.last_us - session.started_us)
            session.flags &= ~STARTED
        session.flags &= ~LOST
        self.tally.end(session.last_us + self.people.idle.timeout_us, session.id, session.user, "expired")

    def _add_create(self, session: Session, at_us: int) -> Added:
        if session.marks is None and not session.flags & BORN:  # as most are: new, and created once
            session.started_us = at_us
            session.flags |= BORN
            return Added([Birth(at_us)], [])
        marks = marks_of(session)
        added = add_create(marks, at_us, self._lateness_us)
        set_marks(session, marks)
        self.people.refresh(session)
        return added

    def _born(self, session: Session, birth: Birth, report: Report, *, is_known_now: bool = False) -> None:
        if birth.adopted:
            self.adopting.pop(session.id, None)
        was_lost = WAS_LOST if session.flags & LOST else 0
        session.flags = session.flags & ~(LOST | WAS_LOST) | was_lost
        self.tally.create(birth.at_us, session.id, session.user, report.evidence)
        self.timelines.create(session, birth, report, is_known_now=is_known_now)

    def _attribute(self, session: Session, report: Report) -> bool:
        """Give a session its user, when that has not been known; whether it is known now."""
        if self.compares_users and is_used_by_another(session, report.user):
            self.people.change(session)
            self.tally.violation(report, "session_of_two_users", session.user, b"")
        if session.owner is not None or not report.owner:
            return False
        self.people.give(session, self.people.owner(report.owner, report.user))
        return True

    def _attributed(self, session: Session, report: Report) -> None:
        """Place what was made or adopted before its user was known."""
        owner = session.owner
        if owner is None:
            return
        adopted_us = None if session.flags & BORN else adopted_at(marks_of(session))
        started_us = session.started_us if session.flags & STARTED else adopted_us
        evidence = report.evidence
        if session.past is not None and session.past.evidence is not None:
            evidence, session.past.evidence = session.past.evidence, None
        if started_us is None:
            self.continuity.meet(owner, session, report.at_us)
            return
        at_us = max(started_us, report.at_us)
        self.timelines.attribution(owner, session, at_us, evidence, is_create=adopted_us is None)
        self.tally.attribution(report)

    def _restart(self, session: Session, report: Report) -> None:
        """End the session that was kept under this id before, when its `restart_on` columns held something else."""
        if not report.version or report.at_us < began_at(marks_of(session)):  # late, and of a generation before
            return
        past = session.with_past()
        if is_changed(past, report) and session.flags & LIVE:
            # Just before the create, which has the same time: a create comes before an end otherwise.
            self._end(session, report.at_us - 1, "replaced")
        past.version = report.version
        self.people.change(session)

    def _adopt(self, session: Session, report: Report) -> None:
        marks = marks_of(session)
        add_sight(marks, report.at_us, counted=True)
        set_marks(session, marks)
        self.adopting[session.id] = report.at_us
        due_us = report.at_us + self._lateness_us
        self._wait(Report(due_us, session.id, ADOPTION_DUE, self.number, user=report.user, created_at_us=report.at_us))
        self.timelines.adoption(session, report.at_us, report.evidence)

    def _end(self, session: Session, at_us: int, reason: str) -> None:
        marks = marks_of(session)
        added = add_end(marks, at_us, END_REASONS.index(reason))
        set_marks(session, marks)
        session.ended_us = max(session.ended_us, at_us)
        self._ended(session, added.ends)
        if not session.flags & BORN:
            session.flags &= ~STARTED
        for birth in added.births:
            self._born(session, birth, Report(birth.at_us, session.id, CREATED, self.number))
        self.people.refresh(session)

    def _ended(self, session: Session, ends: list[Mark]) -> None:
        for at_us, kind, _ in ends:
            self.tally.end(at_us, session.id, session.user, END_REASONS[kind - END])
            if session.flags & STARTED and session.started_us <= at_us:
                self.tally.lasted(at_us - session.started_us)
