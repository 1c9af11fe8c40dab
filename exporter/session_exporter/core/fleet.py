"""The ledger of one consumer of a fleet: of all that happened, what falls into its partitions, and nothing twice.

Events that name a user come to the partition of the user, so that what the ledger knows of users is whole. Three things
are not a user's:

- A session without a user counts where it is *kept*: in the partition of its own digest. Every consumer hears of it,
  and remembers it as a *shadow* that counts nowhere, because its user may turn out to be one of its own.
- The keeper of a session is told when a user is first seen with it (`events.Claimed`). From then on the session is that
  user's affair, and what names no user is left to the user's partition; so an end that is seen by id only counts once.
- The keeper compares the users of a session, which nobody else hears of together; and it is told of requests that did
  not get a session, which may be nobody's, or somebody else's.

Who acts is decided in the order of event time, so all consumers decide alike.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final

from msgspec import structs

from session_exporter.core import events as wire
from session_exporter.core.isolation import is_used_by_another
from session_exporter.core.judge import ScopeJudge
from session_exporter.core.ledger import Ledger
from session_exporter.core.muted import MuteTally
from session_exporter.core.population import mark_of
from session_exporter.core.records import (
    ADOPTION_DUE,
    CHECKED,
    CLAIMED,
    KEPT_UNMET,
    LOOKED_UP,
    REUSED,
    ROW_NEW,
    UNMET,
    Report,
    Session,
)
from session_exporter.core.scopes import ScopeRules
from session_exporter.core.shares import Share
from session_exporter.core.telling import SHARED, as_use, is_shared
from session_exporter.core.totals import ScopeTotals

# What shares the numbers of scopes in the state: shadows, and the sessions that are kept for others.
SHADOW_NUMBERS: Final = 1 << 20
KEEPER_NUMBERS: Final = 1 << 21
# Sessions of nobody that are remembered in case they turn out to be somebody's; some 300 bytes each.
SHADOWS_MAX: Final = 100_000

_ARRANGED: Final = frozenset((wire.Claimed, wire.Checked, wire.Unmet, wire.Ended))


class FleetLedger(Ledger):
    """Counts what falls into some partitions.

    Args:
        rules: As of `Ledger`.
        share: The partitions that are counted here.
        rest: As of `Ledger`; `names` are `core.travelling.TravelledNames`.
    """

    def __init__(self, rules: Mapping[str, ScopeRules], *, share: Share, **rest: Any) -> None:
        self.share: Share = share
        self._shadows: dict[int, ScopeJudge] = {}
        self._keepers: dict[int, ScopeJudge] = {}
        super().__init__(rules, **rest)
        if self.trail is not None:
            self._remember = self._remember_own

    def all_judges(self) -> Collection[ScopeJudge]:
        """The judges of all scopes, those that only remember included."""
        return [*self.judges.values(), *self._shadows.values(), *self._keepers.values()]

    def apply(self, events: Sequence[wire.FleetEvent], writer: wire.Writer) -> None:
        """Take in events of one writer and one stream, in the order in which it recorded them."""
        if not events or not is_shared(events[0]):
            super().apply(events, writer)  # type: ignore[arg-type]  # what is none of `Event` is taken by `_take`
            return
        self._remember(events, writer)  # type: ignore[arg-type]  # `_remember_own` takes these as well
        for event in events:
            self._take(event, self.judges.get(event.scope, self._other), writer)
        self._make_room()
        self._judge_surplus()

    def _open(self, rules: ScopeRules, interval_bounds_s: tuple[float, ...], born_us: int) -> None:
        super()._open(rules, interval_bounds_s, born_us)
        judge = self.judges[rules.name]
        judge.compares_users = False
        shadow = self._shadows[judge.number] = self._remembering(judge, SHADOW_NUMBERS)
        shadow.people.forgets_used = True
        keeper = self._keepers[judge.number] = self._remembering(judge, KEEPER_NUMBERS)
        judge.people.remembers_users = keeper.people.remembers_users = True
        for each in (judge, shadow):
            each.continuity.find = partial(_either, judge.people.sessions, shadow.people.sessions)
        judge.timelines.rotations = lambda user, expected: (judge if user else self._knower(judge, expected)).tally
        shadow.timelines.rotations = lambda _, expected: self._knower(judge, expected).tally

    def _knower(self, judge: ScopeJudge, expected: bytes) -> ScopeJudge:
        """Who counts the rotation of a session of nobody: where the one before it counts."""
        return judge if expected in judge.people.sessions else self._shadows[judge.number]

    def _remembering(self, judge: ScopeJudge, numbers: int) -> ScopeJudge:
        """A judge who counts nothing."""
        tally = MuteTally(judge.rules, ScopeTotals(), self.names, incidents_max=1)
        return ScopeJudge(
            judge.number + numbers,
            judge.rules,
            tally,
            known=self._known,
            requests=self.requests,
            lateness_us=self.lateness_us,
            wait=self.waiting.add,
        )

    def _remember_own(self, events: Sequence[Any], writer: wire.Writer) -> None:
        """Have a claim by somebody of another partition remembered as the use that it tells of."""
        if self.trail is None:
            return
        if not _ARRANGED.isdisjoint(map(type, events)):
            events = [as_use(event) for event in events if not self._is_told_twice(event)]
        self.trail.add(events, writer)

    def _is_told_twice(self, event: wire.FleetEvent) -> bool:
        if isinstance(event, wire.Claimed):
            return self.share.has(self.names[event.user])
        if isinstance(event, wire.Ended):
            return event.halved and bool(event.user)
        return isinstance(event, wire.Checked) or (isinstance(event, wire.Unmet) and event.kept)

    # On arrival.

    def _take(self, event: wire.FleetEvent, judge: ScopeJudge, writer: wire.Writer) -> None:
        if is_shared(event):
            self._share(event, judge, writer)
        elif isinstance(event, wire.Claimed):
            self._take_turn(structs.replace(self._report(event, CLAIMED, judge, writer), origin=event.of))
        elif isinstance(event, wire.Ended) and event.halved:
            self._count_arrival(event)
        elif isinstance(event, wire.Unmet) and event.kept:
            self._take_turn(self._report(event, KEPT_UNMET, judge, writer))
        elif isinstance(event, wire.Checked):
            self._check(event, judge, writer)
        else:
            super()._take(event, judge, writer)

    def _check(self, event: wire.Checked, judge: ScopeJudge, writer: wire.Writer) -> None:
        """Count an id that was compared with its format, as a session or user that is tracked here has been."""
        report = self._report(event, CHECKED, judge, writer)
        is_session = event.id_kind == "session"
        digest = report.session if is_session else self.names[event.id]
        tracked = self._keepers[judge.number].people.sessions if is_session else judge.people.owners
        if digest not in tracked:
            self._ids.checked(event, report, judge, digest)

    def _share(self, event: wire.FleetEvent, judge: ScopeJudge, writer: wire.Writer) -> None:
        """Take in what all consumers hear: what counts on arrival counts with one of them."""
        report = self._report(event, SHARED[type(event)], judge, writer)
        if self.share.has(report.session) and not (isinstance(event, wire.Ended) and event.halved):
            self._count_arrival(event)
        if isinstance(event, wire.LookedUp | wire.Observed):
            is_lookup = isinstance(event, wire.LookedUp) or event.origin == wire.RESULT
            if is_lookup and self.share.has(report.evidence.request or report.session):
                judge.count_lookup(report, event.duration_us)
            again = isinstance(event, wire.LookedUp) and event.again
            report = structs.replace(report, first=judge.is_first(report) and not again)
        elif isinstance(event, wire.Created):
            judge.is_first(report)
        self._take_turn(report)

    def _count_arrival(self, event: wire.FleetEvent) -> None:
        self.totals.events[wire.KINDS[type(event)]] += 1
        self.totals.late_events += int(event.at_us < self.watermark_us)

    def _report(self, event: Any, kind: int, judge: ScopeJudge, writer: wire.Writer) -> Report:
        """As of `Ledger`; ids were compared with their formats where they were still known."""
        return self._reports.of(event, kind, judge.number, self._place(event.scope, judge), writer)

    # In the order of event time.

    def _expire(self, judge: ScopeJudge, now_us: int) -> None:
        judge.expire(now_us)
        for each in (self._shadows[judge.number], self._keepers[judge.number]):
            if each.people.idle.may_be_due(now_us):
                each.expire(now_us)

    def _decide(self, judge: ScopeJudge, report: Report) -> None:
        if report.kind >= ADOPTION_DUE:
            self._due(judge, report)
        elif report.kind == CLAIMED:
            self._claimed(judge, report)
        elif report.kind == KEPT_UNMET:
            self._kept_unmet(judge, report)
        elif report.kind == UNMET and report.user:
            self._unmet(judge, report)
        elif report.user:
            self._recognise(judge, report.session)
            judge.judge(report)
        elif (actor := self._actor(judge, report)) is not None:
            if actor is judge and report.first and report.kind in {REUSED, LOOKED_UP}:
                judge.tally.reuse(report)
            if actor is judge or report.kind != UNMET:
                actor.judge(report)
            else:
                self._shadow_unmet(judge, report)

    def _due(self, judge: ScopeJudge, report: Report) -> None:
        """Judge a deadline where its session is now: what was a shadow then may be somebody's by now."""
        if judge.number >= KEEPER_NUMBERS:
            judge.judge(report)
            return
        own = self._by_number[judge.number % SHADOW_NUMBERS]
        shadow = self._shadows[own.number]
        if report.kind >= ROW_NEW:
            self._row_due(own, report)
            return
        is_shadow = report.session in shadow.people.sessions and report.session not in own.people.sessions
        (shadow if is_shadow else own).judge(report)

    def _row_due(self, judge: ScopeJudge, report: Report) -> None:
        """Judge what the database says: every consumer has read it."""
        if report.user:
            self._recognise(judge, report.session)
            judge.judge(report)
        elif (actor := self._actor(judge, report)) is not None:
            actor.judge(report)

    def _actor(self, judge: ScopeJudge, report: Report) -> ScopeJudge | None:
        """Who judges what is said of a session without naming a user; None when another consumer does."""
        session, people = report.session, judge.people
        if session in people.sessions:
            return judge
        if self.share.has(session):
            keeper = self._keepers[judge.number].people
            claimed = keeper.sessions.get(session)
            if claimed is None and not keeper.remembers(session):
                return judge
            # When it has expired, it is somebody's all the same.
            is_own = people.remembers(session) if claimed is None else self.share.has(claimed.user)
            return judge if is_own else None
        shadow = self._shadows[judge.number]
        if session not in shadow.people.sessions and people.remembers(session):
            return judge
        return shadow

    def _claimed(self, judge: ScopeJudge, report: Report) -> None:
        """Note who uses a session that is kept here."""
        keeper = self._keepers[judge.number].people
        session = keeper.meet(report.session, report.at_us)
        if is_used_by_another(session, report.user):
            keeper.change(session)
            judge.tally.violation(report, "session_of_two_users", session.user, b"")
        elif session.owner is None:
            keeper.give(session, keeper.owner(report.user, report.user))
            self._hand_over(judge, report)
        keeper.touch(session, report.at_us)

    def _hand_over(self, judge: ScopeJudge, claim: Report) -> None:
        """Leave a session that was nobody's so far to the consumer of its user."""
        unowned = judge.people.sessions.get(claim.session)
        if not self.share.has(claim.user) and (unowned is None or unowned.owner is None):
            judge.people.give_up(claim.session)
            judge.adopting.pop(claim.session, None)

    def _recognise(self, judge: ScopeJudge, identifier: bytes) -> None:
        """Let the shadow of a session become the session, now that it is a user's of this partition."""
        shadow = self._shadows[judge.number]
        if identifier in judge.people.sessions:
            return
        session = shadow.people.sessions.get(identifier)
        if session is None:
            known = shadow.people.recall(identifier)
            if known is not None and not judge.people.remembers(identifier):
                judge.people.left_sessions[identifier] = known
            return
        deleted_us, adopted_us = shadow.people.deleting.get(identifier), shadow.adopting.pop(identifier, None)
        shadow.people.give_up(identifier)
        if deleted_us is not None:
            judge.people.deleting[identifier] = deleted_us
        if adopted_us is not None:
            judge.adopting[identifier] = adopted_us
        judge.people.take_over(session)

    def _unmet(self, judge: ScopeJudge, report: Report) -> None:
        """Judge that a user's request did not get what it expected: where it is a session of that user."""
        if report.session not in judge.people.sessions and self._shadow_unmet(judge, report):
            return
        if self._is_of(judge, report.session, report.user):
            judge.continuity.unmet(report)

    def _shadow_unmet(self, judge: ScopeJudge, report: Report) -> bool:
        """Remember of a shadow that it was lost, which is counted where it is kept; False when it is none."""
        shadow = self._shadows[judge.number]
        is_shadow = report.session in shadow.people.sessions
        if is_shadow:
            shadow.continuity.unmet(report)
        return is_shadow

    def _is_of(self, judge: ScopeJudge, identifier: bytes, user: bytes) -> bool:
        """Whether a session is, or was, that user's; what is kept elsewhere, and is nobody's here, may be."""
        session = judge.people.sessions.get(identifier)
        if session is not None and session.owner is not None:
            return session.user == user
        if self.share.has(identifier):
            return self._whose(judge, identifier) == mark_of(user)
        known = judge.people.recall(identifier)
        return session is not None or (known is not None and known.user in {0, mark_of(user)})

    def _whose(self, judge: ScopeJudge, identifier: bytes) -> int:
        """Whose a session is, or was, that is kept here; 0 for nobody's."""
        keeper = self._keepers[judge.number].people
        claimed = keeper.sessions.get(identifier)
        if claimed is not None:
            return mark_of(claimed.user)
        known = keeper.recall(identifier)
        return known.user if known is not None else 0

    def _kept_unmet(self, judge: ScopeJudge, report: Report) -> None:
        """Judge it where the session is kept, unless it is one of that user."""
        whose = self._whose(judge, report.session)
        if not whose:
            judge.continuity.unmet(report)
        elif whose != mark_of(report.user):
            judge.tally.stale(report)

    def _make_room(self) -> None:
        super()._make_room()
        for shadow in self._shadows.values():
            oldest = shadow.people.idle.least_recent
            while len(shadow.people.sessions) > SHADOWS_MAX and (session := oldest()) is not None:
                if shadow.people.sessions.get(session.id) is session:
                    shadow.people.leave(session, ended=True)


def _either(own: Mapping[bytes, Session], shadows: Mapping[bytes, Session], identifier: bytes) -> Session | None:
    return own.get(identifier) or shadows.get(identifier)
