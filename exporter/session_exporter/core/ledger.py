"""Events in, counts out: where every number of this product comes from.

Reuses, lookups and reported losses are counted when they arrive; their order does not matter. What depends on order
(creates, sightings, ends, attributions) waits until the watermark has passed it and is judged in the order of event
time over all writers; what comes even later is counted as late and judged on arrival. Either way the totals are those
of the sorted history.

Nothing here reads a clock or does input or output. One thread at a time may call.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from math import inf
from typing import Final, TypeAlias

from msgspec import structs

from session_exporter.core import events as wire
from session_exporter.core.db_sessions import DbSessions
from session_exporter.core.idchecks import IdChecks
from session_exporter.core.judge import ScopeJudge
from session_exporter.core.minutes import MINUTE_US, Minute
from session_exporter.core.population import KnownIds
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.records import (
    ADOPTION_DUE,
    ATTRIBUTED,
    CONFLICTED,
    CONTEXT_LOST,
    CREATE_FAILED,
    CREATED,
    DIRTY,
    ENDED,
    IDENTIFIED,
    LIVE,
    LOOKED_UP,
    OBSERVED,
    REUSED,
    UNMET,
    VIOLATED,
    Report,
)
from session_exporter.core.reports import Reports
from session_exporter.core.requests import RequestMemory
from session_exporter.core.scopes import DEFAULT_SCOPE, FAILURES, OTHER_SCOPE, VIOLATIONS, Limits, ScopeRules
from session_exporter.core.shares import Share
from session_exporter.core.tally import Listener, Tally
from session_exporter.core.top_users import TopUsers
from session_exporter.core.totals import DbTotals, LedgerTotals, ScopeTotals, interval_buckets
from session_exporter.core.trail import Trail
from session_exporter.core.waiting import WaitingReports

# Ten times what waits at 20,000 creates a second and the default lateness; some 400 bytes each.
WAITING_MAX: Final = 400_000
# What waits for the watermark as it is.
_QUEUED: Final[dict[type, int]] = {wire.Ended: ENDED, wire.Attributed: ATTRIBUTED, wire.Unmet: UNMET}

Remember: TypeAlias = Callable[[Sequence[wire.Event], wire.Writer], None]


class Ledger:
    """Counts the events of all scopes.

    Args:
        rules: How each declared scope is judged; `default` and `other` are added when missing.
        names: Digests of ids.
        known: The long memory for ids that have left the ledger.
        limits: What bounds it.
        lateness_us: How late an event may arrive and still be judged in order.
        born_us: The time from which new scopes count.
        numbers: Numbers that the state has given to scopes; new ones are added to it.
        totals: The counts to go on from.
        listener: Told every verdict; None when nobody listens.
        trail: Remembers events for the story of an incident; None when nothing is remembered.

    Attributes:
        share: The partitions that are counted here; None for all there is.
    """

    share: Share | None = None

    def __init__(
        self,
        rules: Mapping[str, ScopeRules],
        *,
        names: Pseudonyms,
        known: KnownIds,
        limits: Limits | None = None,
        lateness_us: int = 2_000_000,
        born_us: int = 0,
        numbers: dict[str, int] | None = None,
        totals: LedgerTotals | None = None,
        listener: Listener | None = None,
        trail: Trail | None = None,
    ) -> None:
        self.names = names
        self.limits = limits or Limits()
        self.lateness_us = lateness_us
        self.watermark_us = 0
        self.requests = RequestMemory()
        self.numbers = {} if numbers is None else numbers
        self.totals = totals or LedgerTotals()
        self.judges: dict[str, ScopeJudge] = {}
        self.waiting = WaitingReports()
        self.db = DbSessions(self.totals.db, names)
        self._known = known
        self._reports = Reports(names)
        self._ids = IdChecks(names, self.requests)
        self._listener = listener
        self.trail = trail
        self._remember: Remember = _forget if trail is None else trail.add
        for kind in (*wire.KINDS.values(), "unknown"):
            self.totals.events.setdefault(kind, 0)
        declared = {DEFAULT_SCOPE: ScopeRules(DEFAULT_SCOPE), OTHER_SCOPE: ScopeRules(OTHER_SCOPE), **rules}
        bounds_s = interval_buckets(each.duplicate_window_us for each in declared.values())
        for name, kept in self.totals.scopes.items():
            kept.active_sessions = kept.active_users = 0
            if name not in declared or not self.limits.top_users:
                kept.users = {}
        for scope in declared.values():
            self._open(scope, bounds_s, born_us)
        if trail is not None:
            trail.declare(declared)
        self._by_number = {judge.number: judge for judge in self.all_judges()}
        self._other = self.judges[OTHER_SCOPE]

    def apply(self, events: Sequence[wire.Event], writer: wire.Writer) -> None:
        """Take in events of one writer, in the order in which it recorded them.

        Nearly every event of a busy application is the reuse of a live session, so that way is written out here, with
        what it needs at hand; for any other event, and any other session, the rules in `judge` apply.
        """
        self._remember(events, writer)
        names, reused = self.names, wire.Reused
        is_watched = self._listener is not None or self.limits.top_users > 0
        scope, judge = "", self._other
        minute, begin_us, end_us = Minute(), 0, 0
        sessions, timeout_us, place = judge.people.sessions, judge.people.idle.timeout_us, ""
        total = reuses = 0
        for event in events:
            if event.scope != scope:
                minute.reuses += reuses
                total, reuses, begin_us, end_us = total + reuses, 0, 0, 0
                scope, judge = event.scope, self.judges.get(event.scope, self._other)
                sessions, timeout_us = judge.people.sessions, judge.people.idle.timeout_us
                place = self._place(scope, judge)
            if type(event) is not reused:
                self._take(event, judge, writer)
                continue
            at_us = event.at_us
            if not begin_us <= at_us < end_us:
                minute.reuses += reuses
                total, reuses = total + reuses, 0
                minute = judge.tally.at(at_us)
                begin_us = at_us - at_us % MINUTE_US
                end_us = begin_us + MINUTE_US
            reuses += 1
            if is_watched:
                judge.tally.tell_reuse(at_us, names[place + event.session], names[event.user])
            session = sessions.get(names[place + event.session if place else event.session])
            if (
                session is not None
                and session.flags & LIVE
                and (owner := session.owner) is not None
                and (not event.user or owner.id == (user := names[event.user]) or owner.user == user)
            ):
                idle_us = at_us - session.last_us
                if idle_us <= timeout_us:
                    if idle_us > 0:
                        session.last_us = at_us
                        if not session.flags & DIRTY:
                            judge.people.change(session)
                    continue
            self._take_turn(self._report(event, REUSED, judge, writer))
        minute.reuses += reuses
        self.totals.events["reused"] += total + reuses
        self._make_room()
        self._judge_surplus()

    def advance(self, watermark_us: int) -> None:
        """Judge what waits for any time before `watermark_us`: every event before it is taken to have arrived."""
        for report in self.waiting.before(watermark_us):
            self._judge(report, watermark_us)
        self.watermark_us = max(self.watermark_us, watermark_us)
        for judge in self.all_judges():
            judge.expire(self.watermark_us)
            judge.timelines.forget_evidence(self.watermark_us)
        self.requests.advance(self.watermark_us)
        self._make_room()

    def finish(self, now_us: float = inf) -> None:
        """Judge all that waits, whatever its time: nothing more will come for now.

        Args:
            now_us: An event later than this is of a clock that is ahead; the watermark does not follow it.
        """
        for report in self.waiting.before(inf):
            # A deadline of the ledger's own says nothing of what has arrived.
            if report.kind < ADOPTION_DUE and report.at_us <= now_us:
                self.watermark_us = max(self.watermark_us, report.at_us)
            self._judge(report)
        self._make_room()

    def set_back(self, watermark_us: int) -> None:
        """Take the watermark back: the clock it came from was ahead."""
        self.watermark_us = min(self.watermark_us, watermark_us)

    def all_judges(self) -> Collection[ScopeJudge]:
        """The judges of all scopes, those that only remember included."""
        return self.judges.values()

    def forget_changes(self) -> None:
        """Note that all changes so far are stored."""
        for judge in self.all_judges():
            judge.forget_changes()
        self.requests.changed = {}
        self.db.changed = False

    def forget_counts(self, born_us: int) -> None:
        """Start all counters anew at `born_us`, keeping what is known of sessions and users."""
        for name, judge in self.judges.items():
            old = judge.tally.totals
            new = ScopeTotals(born_us, active_sessions=old.active_sessions, active_users=old.active_users)
            new.intervals.rebound(old.intervals.bounds_s)
            self.totals.scopes[name] = judge.people.totals = new
            judge.tally.start_anew(new)
        self.totals.events = dict.fromkeys(self.totals.events, 0)
        self.totals.late_events = self.totals.evicted_sessions = 0
        self.totals.db = self.db.totals = DbTotals()

    def _open(self, rules: ScopeRules, interval_bounds_s: tuple[float, ...], born_us: int) -> None:
        number = self.numbers.setdefault(rules.name, len(self.numbers) + 1)
        totals = self.totals.scopes.get(rules.name)
        if totals is None:
            totals = self.totals.scopes[rules.name] = ScopeTotals(born_us=born_us)
        totals.intervals.rebound(interval_bounds_s)
        incidents_max = self.limits.max_incidents
        tally = Tally(rules, totals, self.names, incidents_max=incidents_max, listener=self._listener, trail=self.trail)
        judge = self.judges[rules.name] = ScopeJudge(
            number,
            rules,
            tally,
            known=self._known,
            requests=self.requests,
            lateness_us=self.lateness_us,
            wait=self.waiting.add,
        )
        if top := self.limits.top_users:
            tally.users = TopUsers(top, totals, self.names, judge.people.sessions, born_us=born_us)

    def _take(self, event: wire.Event, judge: ScopeJudge, writer: wire.Writer) -> None:
        self.totals.events[wire.KINDS[type(event)]] += 1
        if isinstance(event, wire.LookedUp):
            report = self._report(event, LOOKED_UP, judge, writer)
            judge.looked_up(structs.replace(report, first=False) if event.again else report, event.duration_us)
        elif isinstance(event, wire.Created):
            report = self._report(event, CREATED, judge, writer)
            judge.is_first(report)
            self._queue(report)
        elif isinstance(event, wire.Observed):
            report = self._report(event, OBSERVED, judge, writer)
            if event.origin == wire.RESULT:
                judge.count_lookup(report, event.duration_us)
            self._queue(structs.replace(report, first=judge.is_first(report)))
        elif (kind := _QUEUED.get(type(event))) is not None:
            self._queue(self._report(event, kind, judge, writer))
        else:
            self._count(event, judge, writer)

    def _count(self, event: wire.Event, judge: ScopeJudge, writer: wire.Writer) -> None:
        """What is counted as it is, whatever happens to sessions."""
        if isinstance(event, wire.ContextLost):
            report = self._report(event, CONTEXT_LOST, judge, writer)
            judge.tally.loss(report, "reported", self.names[event.expected], self.names[event.actual])
        elif isinstance(event, wire.Conflicted):
            judge.tally.conflict(self._report(event, CONFLICTED, judge, writer))
        elif isinstance(event, wire.CreateFailed):
            reason = event.reason if event.reason in FAILURES else "other"
            judge.tally.failure(self._report(event, CREATE_FAILED, judge, writer), reason)
        elif isinstance(event, wire.DbSession):
            self.db.add(event, writer)
        elif isinstance(event, wire.Identified):
            self._ids.identified(event, self._report(event, IDENTIFIED, judge, writer), judge)
        elif isinstance(event, wire.Violated) and event.kind in VIOLATIONS:
            report = self._report(event, VIOLATED, judge, writer)
            judge.tally.violation(report, event.kind, self.names[event.other_user], self.names[event.other_request])

    def _take_turn(self, report: Report) -> None:
        """Let a report wait until the watermark has passed it; judge it at once when it has."""
        if report.at_us < self.watermark_us:
            self._judge(report)
        else:
            self.waiting.add(report)

    def _queue(self, report: Report) -> None:
        if report.at_us < self.watermark_us:
            self.totals.late_events += 1
        self._take_turn(report)

    def _judge(self, report: Report, until_us: int = 0) -> None:
        judge = self._by_number.get(report.scope, self._other)
        if report.kind < ADOPTION_DUE:
            self._expire(judge, min(report.at_us, max(self.watermark_us, until_us)))
        self._decide(judge, report)

    def _expire(self, judge: ScopeJudge, now_us: int) -> None:
        judge.expire(now_us)

    def _decide(self, judge: ScopeJudge, report: Report) -> None:
        judge.judge(report)

    def _report(self, event: wire.Event, kind: int, judge: ScopeJudge, writer: wire.Writer) -> Report:
        report = self._reports.of(event, kind, judge.number, self._place(event.scope, judge), writer)
        if judge.rules.id_formats:
            self._ids.check(event, report, judge)
        return report

    def _place(self, scope: str, judge: ScopeJudge) -> str:
        """What keeps undeclared scopes apart, which share the judge of `other`; `""` for a declared one."""
        return f"{scope}/" if judge is self._other and scope != OTHER_SCOPE else ""

    def _tracked(self) -> int:
        return sum(len(judge.people.sessions) for judge in self.all_judges())

    def _judge_surplus(self) -> None:
        """Judge what has waited longest when too much waits, as when a clock was an hour ahead for a while."""
        if len(self.waiting) <= WAITING_MAX:
            return
        for report in self.waiting.before(inf):
            self._judge(report)
            if len(self.waiting) <= WAITING_MAX:
                return

    def _make_room(self) -> None:
        for _ in range(self._tracked() - self.limits.max_tracked_sessions):
            ages = [
                (oldest, judge) for judge in self.all_judges() if (oldest := judge.people.idle.oldest_us()) is not None
            ]
            if not ages:
                return
            _, judge = min(ages, key=lambda entry: entry[0])
            session = judge.people.idle.least_recent()
            if session is not None:
                judge.people.leave(session, ended=not session.flags & LIVE)
                self.totals.evicted_sessions += 1


def _forget(_events: Sequence[wire.Event], _writer: wire.Writer) -> None:
    """Remember nothing."""
