"""The verdicts on requests are those of a plain re-reading of what was reported in them, whatever order it had."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from recorder import Recorder

from session_exporter.core.events import (
    MISSED_BY_ID,
    MISSED_BY_USER,
    OTHER_USED,
    RESULT,
    Attributed,
    Created,
    Ended,
    Event,
    LookedUp,
    Observed,
    Reused,
    Unmet,
)
from session_exporter.reporter import ROW, UPSERT
from session_exporter.tracker import SessionTracker

SCOPES = ("chat", "form")
SESSIONS = ("e", "f", "x", "y")
Told = tuple[str, str, str, int, str, bool]


@dataclass
class Job:
    """A request and what is done in it: deeds, and requests inside of it."""

    expected: str
    deeds: "list[tuple[Any, ...] | Job]" = field(default_factory=list)


DEED = st.tuples(
    st.sampled_from(
        ["reused", "found", "missed", "missed by user", "created", "result", "upsert", "row", "ended", "attributed"]
    ),
    st.sampled_from(SCOPES),
    st.sampled_from(SESSIONS),
)
JOB = st.recursive(
    st.builds(Job, st.sampled_from(["", "e", "f"]), st.lists(DEED, max_size=8)),
    lambda inner: st.builds(Job, st.sampled_from(["", "e", "f"]), st.lists(DEED | inner, max_size=8)),
    max_leaves=6,
)


def work(tracker: SessionTracker, job: Job) -> None:
    with tracker.request(user_id="ann", session_id=job.expected or None):
        for deed in job.deeds:
            if isinstance(deed, Job):
                work(tracker, deed)
            else:
                _do(tracker, *deed)


def _do(tracker: SessionTracker, what: str, scope: str, session: str) -> None:
    reporter = tracker.reporter("test")
    if what in {"upsert", "row"}:
        origin = UPSERT if what == "upsert" else ROW
        reporter.observed(session, scope=scope, origin=origin, where=reporter.surroundings())
        return
    calls: dict[str, Any] = {
        "reused": lambda: tracker.reused(None, session, scope=scope),
        "found": lambda: tracker.looked_up(None, session, scope=scope),
        "missed": lambda: tracker.looked_up(None, None, scope=scope, asked=session),
        "missed by user": lambda: tracker.looked_up(None, None, scope=scope),
        "created": lambda: tracker.created(None, session, scope=scope),
        "result": lambda: tracker.observed(None, session, scope=scope),
        "ended": lambda: tracker.ended(session, scope=scope),
        "attributed": lambda: tracker.attributed(session, None, scope=scope),
    }
    calls[what]()


class Rereading:
    """Reads the events of a request, and of those inside of it, once more from the beginning."""

    def __init__(self, job: Job, events: list[Event], outer: "Rereading | None" = None) -> None:
        self.outer = outer
        self.expected = job.expected or ("" if outer is None else outer.expected)
        self.own: list[Event] = []
        self.all: list[Event] = []
        self.inner: list[Rereading] = []
        for deed in job.deeds:
            if isinstance(deed, Job):
                inside = Rereading(deed, events, self)
                self.inner.append(inside)
                self.all += inside.all
            else:
                self.own.append(events.pop(0))
                self.all.append(self.own[-1])
        self.request = self.own[0].request if self.own else ""

    def is_got(self, upto: int | None = None, scope: str = "") -> bool:
        """Whether the session was there, in a scope or in any, among the first so many events."""
        return any(self._is_there(at) for at in range(len(self.all))[:upto] if scope in {"", self.all[at].scope})

    def _is_there(self, at: int) -> bool:
        event, before = self.all[at], [each for each in self.all[:at] if each.scope == self.all[at].scope]
        if not self.expected or event.session != self.expected or self._is_remade(before):
            return False
        return not (_is_made(event) and any(self._is_miss(each) for each in before))

    def _is_remade(self, events: list[Event]) -> bool:
        """Whether the session was missed, and made by something that says so, or missed by its very id."""
        for at, event in enumerate(events):
            misses = [each for each in events[:at] if self._is_miss(each)]
            if event.session != self.expected or not misses or not _is_made(event):
                continue
            if isinstance(event, Created) or any(miss.asked for miss in misses):  # type: ignore[union-attr]
                return True
        return False

    def _is_miss(self, event: Event) -> bool:
        return isinstance(event, LookedUp) and not event.session and event.asked in {"", self.expected}

    def losses(self) -> list[Told]:
        if not self.expected or self.is_got():
            return []
        touched = {event.scope for event in self.own}
        found = {scope: loss for scope in touched if (loss := self._loss(scope)) is not None}
        if any(missed == MISSED_BY_ID for missed, _ in found.values()):
            found = {scope: loss for scope, loss in found.items() if loss[0] == MISSED_BY_ID}
        return [(self.request, self.expected, scope, *loss, len(touched) > 1) for scope, loss in found.items()]

    def _loss(self, scope: str) -> tuple[int, str] | None:
        events = [event for event in self.own if event.scope == scope]
        others = [event.session for event in events if event.session != self.expected and _is_use(event)]
        misses = [event.asked for event in events if isinstance(event, LookedUp) and self._is_miss(event)]
        news = [other for at, other in enumerate(others) if other not in others[:at]]
        actual = news[-1] if news else ""
        if self.expected in misses:
            return MISSED_BY_ID, actual
        if misses:
            return MISSED_BY_USER, actual
        return (OTHER_USED, actual) if others else None

    def told(self) -> list[Told]:
        """What is told of it and of all inside: not where one around that expects the same got it."""
        found = [loss for inside in self.inner for loss in inside.told()]
        around, is_excused = self.outer, self.is_got()
        while around is not None:
            is_excused = is_excused or (around.expected == self.expected and around.is_got())
            around = around.outer
        return found if is_excused else [*found, *self.losses()]


def _is_made(event: Event) -> bool:
    return isinstance(event, Created) or (isinstance(event, Observed) and event.origin != RESULT)


def _is_use(event: Event) -> bool:
    return bool(event.session) and isinstance(event, Created | Observed | Reused | LookedUp | Attributed)


@given(job=JOB)
@settings(max_examples=400)
def test_what_is_told_of_requests_is_what_their_events_say(job: Job) -> None:
    journal = Recorder()
    work(SessionTracker(journal=journal), job)
    rereading = Rereading(job, journal.reports)
    told = [event for event in journal.events if isinstance(event, Unmet)]
    found = [(each.request, each.session, each.scope, each.missed, "", each.shared) for each in told]
    assert sorted(found) == sorted((*loss[:4], "", loss[5]) for loss in rereading.told())
    used = {(request, scope): actual for request, _, scope, _, actual, _ in rereading.told()}
    for each in told:
        assert bool(each.actual) == bool(used[each.request, each.scope])
        assert each.actual in {"", *(event.session for event in journal.reports if event.request == each.request)}
    assert not journal.errors


@given(job=JOB)
def test_a_create_names_the_expected_session_where_it_was_there_before(job: Job) -> None:
    journal = Recorder()
    work(SessionTracker(journal=journal), job)
    rereadings = [Rereading(job, journal.reports)]
    for rereading in rereadings:
        rereadings += rereading.inner
        for event in rereading.own:
            if isinstance(event, Created | Observed):
                around: Rereading | None = rereading
                had = False
                while around is not None:
                    at = next(at for at, each in enumerate(around.all) if each is event)
                    same = around.expected == rereading.expected
                    had = had or (same and around.is_got(at, event.scope))
                    around = around.outer
                expected = rereading.expected if had and rereading.expected != event.session else ""
                assert event.expected == expected


def test_the_oracle_knows_the_end_of_another_session_from_a_use() -> None:
    assert not _is_use(Ended(1, "chat", "x"))
