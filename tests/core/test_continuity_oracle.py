"""The rules of lost contexts, rotations and shared sessions against an offline oracle that sees the whole history."""

from functools import partial

from continuity_oracle import Found, judge
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import Memory, Rows
from test_ledger_oracle import lives, offsets

from session_exporter.core import events as wire
from session_exporter.core.checkpoint import take_changes
from session_exporter.core.ledger import Ledger
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.scopes import LEGITIMATE_END_REASONS, ScopeRules

SECOND = 1_000_000
STEP = SECOND // 8
WINDOW = 10 * SECOND
IDLE = 1800 * SECOND
LATENESS = 2 * SECOND
START = 1_800_000_000 * SECOND
WORKERS = [wire.Writer(f"w{number}", f"replica-{number // 2}", number) for number in range(4)]
WATCH = wire.Writer(wire.WATCH)
EXAMPLES = settings().max_examples

REASONS = ["completed", "user_request", "deleted", "rotated", "replaced", "other", "expired"]
# From one burst of events to the next.
GAPS_S = [12, 30, 300, 1795, 1801, 3600]
SESSIONS = [f"s{number}" for number in range(6)]


def rules(sessions_per_user):
    return ScopeRules("chat", sessions_per_user, WINDOW, IDLE)


def make_ledger(memory, sessions_per_user, **keywords):
    names = Pseudonyms(b"k" * 32)
    scopes = {"chat": rules(sessions_per_user)}
    return Ledger(scopes, names=names, known=memory, lateness_us=LATENESS, **keywords)


def found_by(ledger):
    scope = ledger.totals.scopes["chat"]
    reuses = scope.reuses + sum(minute.reuses for minute in ledger.judges["chat"].tally.minutes.values())
    return Found(
        scope.creates,
        scope.adopted,
        reuses,
        nonzero(scope.ends),
        nonzero(scope.duplicates),
        nonzero(scope.losses),
        scope.rotations,
        scope.stale_expected,
        scope.violations["session_of_two_users"],
    )


def nonzero(counts):
    return {name: count for name, count in counts.items() if count}


def expected(reports, sessions_per_user):
    return judge(
        reports,
        window_us=WINDOW,
        idle_us=IDLE,
        lateness_us=LATENESS,
        sessions_per_user=sessions_per_user,
        end_reasons=frozenset(LEGITIMATE_END_REASONS),
    )


class Traffic:
    """Chooses what happens, each event at a microsecond of its own: what has one time has no order.

    Args:
        choose: One of a sequence.
    """

    def __init__(self, choose):
        self.choose = choose
        self.reports = []
        self.requests = 0
        self.taken = set()
        self.owners = {session: choose(["ann", "ann", "bob"]) for session in SESSIONS}
        self.keys = {session: choose(["", "", "phone"]) for session in SESSIONS}

    def one_in(self, number):
        return self.choose(range(number)) == number - 1

    def request(self, worker):
        self.requests += 1
        return f"{worker.id}-r{self.requests}"

    def tell(self, writer, kind, at_us, session, *, request="", user=None, **more):
        while at_us in self.taken:
            at_us += 2  # a restart ends what was there before just before its create
        self.taken.add(at_us)
        user = self.owners[session] if user is None else user
        self.reports.append((kind(at_us, "chat", session, user, self.keys[session], request, **more), writer))

    def single(self, at_us):
        """An event of any kind, in no request or in one that does nothing else."""
        session, worker = self.choose(SESSIONS), self.choose(WORKERS)
        request = self.request(worker) if self.one_in(2) else ""
        owner = self.owners[session]
        user = self.choose(["", "ann", "bob"]) if self.one_in(5) else owner
        kind = self.choose([wire.Created, wire.Reused, wire.LookedUp, wire.Observed, wire.Ended, wire.Attributed])
        if kind is wire.Ended:
            self.end(at_us, session)
        elif kind is wire.Created:
            self.create(at_us, session, request, worker, user, generation=self.choose(["", "", "", "t1", "t2"]))
        elif kind is wire.Observed:
            age_s = self.choose([None, 1, 9, 11])
            created_at_us = 0 if age_s is None else at_us - age_s * SECOND
            if self.one_in(3):
                more = {"origin": self.choose([wire.UPSERT, wire.ROW]), "generation": self.choose(["", "", "t1", "t2"])}
                self.tell(worker, kind, at_us, session, request=request, user=user, **more)
            else:
                self.tell(worker, kind, at_us, session, request=request, user=user, created_at_us=created_at_us)
        elif kind is wire.LookedUp:
            self.tell(worker, kind, at_us, session, request=request, user=user)
        else:
            self.tell(worker, kind, at_us, session, request=request, user=user or owner)

    def create(self, at_us, session, request, worker, user=None, **more):
        """Told by a worker, by the watch, or by both."""
        writers = self.choose([[worker], [worker], [worker], [WATCH], [WATCH, worker], [worker, self.choose(WORKERS)]])
        for writer in writers:
            about = {"request": request if writer is worker else "", "user": user, **more}
            self.tell(writer, wire.Created, at_us, session, **about)

    def end(self, at_us, session, reason=""):
        worker = self.choose(WORKERS)
        for writer in self.choose([[worker], [worker], [WATCH], [worker, WATCH], [WATCH, worker]]):
            self.tell(writer, wire.Ended, at_us, session, user="", reason=reason or self.choose(REASONS))

    def visit(self, at_us):
        """A request that expects a session and does not get it."""
        expected, worker = self.choose(SESSIONS), self.choose(WORKERS)
        request = self.request(worker)
        user = self.choose([self.owners[expected], self.owners[expected], "", "ann", "bob"])
        took_us = self.choose(range(1, 24)) * STEP
        missed = self.choose([wire.OTHER_USED, wire.MISSED_BY_USER, wire.MISSED_BY_ID])
        actual = "" if self.one_in(3) else self.choose(SESSIONS)
        if actual and missed and self.one_in(2):
            self.create(at_us + took_us // 2, actual, request, worker)
        elif actual and actual != expected:
            self.tell(worker, wire.LookedUp, at_us + took_us // 2, actual, request=request)
        about = {"missed": missed, "since_us": at_us, "actual": actual, "shared": self.one_in(4)}
        self.tell(worker, wire.Unmet, at_us + took_us, expected, request=request, user=user, **about)

    def login(self, at_us):
        """A request that finds its session, makes another, and ends the first: before, after, too late, or never."""
        expected, new, worker = self.choose(SESSIONS), self.choose(SESSIONS), self.choose(WORKERS)
        request, created_us = self.request(worker), at_us + 9 * STEP
        delay_us = self.choose([-8 * STEP, -1, 1, 8 * STEP, LATENESS, LATENESS + 1, LATENESS + STEP, None])
        self.tell(worker, wire.LookedUp, at_us, expected, request=request)
        more = {"expected": expected} if new != expected and not self.one_in(3) else {}
        if self.one_in(4):
            created_at_us = self.choose([0, created_us - SECOND])
            seen = {"request": request, "created_at_us": created_at_us, **more}
            self.tell(worker, wire.Observed, created_us, new, **seen)
        if not self.one_in(4):
            self.create(created_us, new, request, worker, "" if self.one_in(5) else None, **more)
        if delay_us is not None:
            self.end(created_us + delay_us, expected, self.choose([*REASONS, "rotated", "deleted", "deleted"]))

    def several(self):
        """Bursts of what happens."""
        at_us = START
        for _ in range(self.choose(range(1, 5))):
            for _ in range(self.choose(range(1, 9))):
                at_us += self.choose([1, 2, 4, 9, 30, 79, 80]) * STEP
                happens = self.choose([self.single, self.single, self.visit, self.login])
                happens(at_us)
            at_us += self.choose(GAPS_S) * SECOND
        return self.reports


@st.composite
def histories(draw):
    return Traffic(lambda choices: draw(st.sampled_from(choices))).several()


def arrivals(choose, reports):
    """The reports in an order of arrival within the lateness; each writer's own stay in their order."""
    clock = {}
    timed = []
    for number, (event, writer) in enumerate(sorted(reports, key=lambda each: each[0].at_us)):
        arrives = event.at_us + choose(range(16)) * LATENESS // 16
        clock[writer.id] = arrives = max(arrives, clock.get(writer.id, 0))
        timed.append((arrives, number, event, writer))
    return sorted(timed, key=lambda each: each[:2])


def judged(reports, sessions_per_user, choose, *, restarts=False):
    """What a ledger finds that hears of everything in some order within the lateness."""
    memory, rows, numbers = Memory(), Rows(), {}
    ledger = make_ledger(memory, sessions_per_user, numbers=numbers)
    for arrives, _, event, writer in arrivals(choose, reports):
        if choose([True, False]):
            ledger.advance(arrives - LATENESS)
        ledger.apply([event], writer)
        if restarts and choose([True, False, False]):
            rows.store(take_changes(ledger), memory)
            ledger = rows.restored(partial(make_ledger, memory, sessions_per_user, numbers=numbers))
    ledger.finish()
    ledger.advance(max((event.at_us for event, _ in reports), default=0))
    assert ledger.totals.late_events == 0
    return found_by(ledger)


@settings(max_examples=6 * EXAMPLES, deadline=None)
@given(histories(), st.sampled_from(["one", "one", "many"]), st.randoms(use_true_random=False))
def test_verdicts_are_the_oracles_for_any_order_within_the_lateness(reports, sessions_per_user, random):
    assert judged(reports, sessions_per_user, random.choice) == expected(reports, sessions_per_user)


@settings(max_examples=3 * EXAMPLES, deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def test_a_restart_of_the_ledger_after_any_commit_changes_no_verdict(reports, random):
    assert judged(reports, "one", random.choice, restarts=True) == expected(reports, "one")


@st.composite
def shared_lives(draw):
    """Lives whose totals may not depend on any order, and uses of other sessions by any number of users."""
    reports = draw(lives())
    for _ in range(draw(st.integers(0, 30))):
        user, session = f"guest{draw(st.integers(0, 20))}", draw(st.sampled_from(["shared0", "shared1"]))
        kind = draw(st.sampled_from([wire.Reused, wire.LookedUp, wire.Attributed]))
        reports.append((kind(START + draw(offsets), "chat", session, user), draw(st.sampled_from(WORKERS))))
    return reports


@settings(max_examples=2 * EXAMPLES, deadline=None)
@given(shared_lives(), st.randoms(use_true_random=False))
def test_what_is_exact_for_any_order_of_arrival_whatsoever_still_is(reports, random):
    ledger = make_ledger(Memory(), "one")
    for event, writer in random.sample(reports, len(reports)):
        ledger.apply([event], writer)
        if random.choice([True, False]):
            ledger.advance(START + random.randrange(50) * SECOND)
    ledger.finish()
    found, truth = found_by(ledger), expected(reports, "one")
    for each in (found, truth):
        each.duplicates = sum(each.duplicates.values())
        each.losses = {}  # a replacement is judged in order, or not at all
    reported = sum(type(event) is wire.ContextLost for event, _ in reports)
    assert ledger.totals.scopes["chat"].losses["reported"] == reported
    assert found == truth
