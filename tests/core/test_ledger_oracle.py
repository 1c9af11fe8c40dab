"""The ledger against an offline oracle that sees the whole history at once."""

from collections import Counter
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import judge
from rows import Memory, Rows

from session_exporter.core import events as wire
from session_exporter.core.checkpoint import take_changes
from session_exporter.core.ledger import Ledger
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.scopes import ScopeRules

SECOND = 1_000_000
WINDOW = 10 * SECOND
IDLE = 1800 * SECOND
LATENESS = 2 * SECOND
START = 1_800_000_000 * SECOND
WRITERS = [wire.Writer(f"w{number}", f"replica-{number // 2}", number) for number in range(4)]
# A hundred, or as many as the profile of a campaign says.
EXAMPLES = settings().max_examples

# 300 in a test run; `make fuzz` takes its profile's number three times.
MANY = 3 * settings().max_examples


def make_ledger(known=None, sessions_per_user="one", **keywords):
    rules = {"chat": ScopeRules("chat", sessions_per_user, WINDOW, IDLE)}
    names = Pseudonyms(b"k" * 32)
    return Ledger(rules, names=names, known=known or Memory(), lateness_us=LATENESS, **keywords)


def totals(ledger):
    scope = ledger.totals.scopes["chat"]
    reuses = scope.reuses + sum(minute.reuses for minute in ledger.judges["chat"].tally.minutes.values())
    return {
        "creates": scope.creates,
        "reuses": reuses,
        "adopted": scope.adopted,
        "lookups": scope.lookups,
        "redundant_lookups": scope.redundant_lookups,
        "losses": scope.losses["reported"],
        "ends": {reason: count for reason, count in scope.ends.items() if count},
        "duplicates": {cause: count for cause, count in scope.duplicates.items() if count},
    }


def expected(reports, sessions_per_user="one"):
    verdict = judge(reports, window_us=WINDOW, idle_us=IDLE, lateness_us=LATENESS, sessions_per_user=sessions_per_user)
    found = dict(vars(verdict))
    return {**found, "ends": dict(+found["ends"]), "duplicates": dict(+found["duplicates"])}


# Lives of sessions: a few users, each session id of one user, its generations never overlapping.

offsets = st.integers(0, 400).map(lambda step: step * SECOND // 8)


@st.composite
def lives(draw):
    """Events whose totals may not depend on the order of arrival at all."""
    reports = []
    for number in range(draw(st.integers(1, 7))):
        user = draw(st.sampled_from(["ann", "bob"]))
        key = draw(st.sampled_from(["", "", "phone"]))
        session = f"s{number}"
        times = sorted(draw(st.sets(offsets, min_size=1, max_size=5)))
        for turn, offset in enumerate(times):
            at_us = START + offset
            request = draw(st.sampled_from(["", "r1", "r2"]))
            copies = draw(st.integers(1, 2))
            for writer in draw(st.permutations(WRITERS))[:copies]:
                if turn % 2 == 0:
                    reports.append((wire.Created(at_us, "chat", session, user, key, request), writer))
                else:
                    reports.append((wire.Ended(at_us, "chat", session, reason="completed"), writer))
    for _ in range(draw(st.integers(0, 6))):
        at_us = START + draw(offsets)
        user = draw(st.sampled_from(["ann", "bob"]))
        event = draw(
            st.sampled_from(
                [
                    wire.ContextLost(at_us, "chat", "", user, expected="a", actual="b"),
                    wire.LookedUp(at_us, "chat", "", user, request="r3"),
                    wire.LookedUp(at_us, "chat", "", user),
                ]
            )
        )
        reports.append((event, draw(st.sampled_from(WRITERS))))
    return reports


def without_causes(found):
    return {**found, "duplicates": sum(found["duplicates"].values())}


@settings(max_examples=4 * EXAMPLES, deadline=None)
@given(lives(), st.data())
def test_totals_are_those_of_the_sorted_history_for_any_order_of_arrival_whatsoever(reports, data):
    ledger = make_ledger()
    for event, writer in data.draw(st.permutations(reports)):
        ledger.apply([event], writer)
        if data.draw(st.booleans()):
            ledger.advance(START + data.draw(offsets))
    ledger.finish()
    assert without_causes(totals(ledger)) == without_causes(expected(reports))


@st.composite
def histories(draw):
    """Events of every kind with the delay after which each arrives, within the lateness."""
    reports = []
    sessions = [f"s{number}" for number in range(draw(st.integers(1, 6)))]
    owner = {session: draw(st.sampled_from(["ann", "bob"])) for session in sessions}
    key = {session: draw(st.sampled_from(["", "", "phone"])) for session in sessions}
    quiet = {}  # an ended session is left alone until the next hour: what comes right after an end has no order
    hours = draw(st.integers(1, 3))
    for hour in range(hours):
        for offset in sorted(draw(st.lists(st.integers(0, 200), max_size=10, unique=True))):
            at_us = START + hour * 3600 * SECOND + offset * SECOND // 8
            session = draw(st.sampled_from(sessions))
            writer = draw(st.sampled_from(WRITERS))
            user = owner[session] if draw(st.integers(0, 4)) else ""
            request = draw(st.sampled_from(["", f"{writer.id}-{hour}-r1", f"{writer.id}-{hour}-r2"]))
            base = (at_us, "chat", session, user, key[session], request)
            owned = (at_us, "chat", session, owner[session], key[session], request)
            kind = draw(
                st.sampled_from(["created", "created", "reused", "looked_up", "observed", "ended", "attributed"])
            )
            if quiet.get(session) == hour and kind != "created":
                continue
            if kind == "created":
                quiet.pop(session, None)
                event = wire.Created(*base)
            elif kind == "reused":
                event = wire.Reused(*owned)
            elif kind == "looked_up":
                event = wire.LookedUp(*owned)
            elif kind == "observed":
                age = draw(st.sampled_from([None, 1, 9, 11]))
                event = wire.Observed(*owned, created_at_us=0 if age is None else at_us - age * SECOND)
            elif kind == "ended":
                quiet[session] = hour
                reason = draw(st.sampled_from(["completed", "deleted", "user_request"]))
                event = wire.Ended(*base, reason=reason)
            else:
                event = wire.Attributed(*owned)
            reports.append((event, writer))
    return reports


def arrivals(data, reports):
    """The reports in an order of arrival within the lateness; each writer's own stay in their order."""
    clock = {writer.id: 0 for writer in WRITERS}
    timed = []
    for number, (event, writer) in enumerate(sorted(reports, key=lambda each: each[0].at_us)):
        arrives = event.at_us + data.draw(st.integers(0, 15)) * LATENESS // 16
        clock[writer.id] = arrives = max(arrives, clock[writer.id])
        timed.append((arrives, number, event, writer))
    return sorted(timed, key=lambda each: each[:2])


@settings(max_examples=6 * EXAMPLES, deadline=None)
@given(histories(), st.sampled_from(["one", "many"]), st.data())
def test_counts_and_causes_are_the_oracles_for_any_order_within_the_lateness(reports, sessions_per_user, data):
    ledger = make_ledger(sessions_per_user=sessions_per_user)
    for arrives, _, event, writer in arrivals(data, reports):
        if data.draw(st.booleans()):
            ledger.advance(arrives - LATENESS)
        ledger.apply([event], writer)
    ledger.finish()
    assert ledger.totals.late_events == 0
    assert totals(ledger) == expected(reports, sessions_per_user)


@settings(max_examples=3 * EXAMPLES, deadline=None)
@given(histories(), st.data())
def test_a_ledger_restored_from_any_commit_goes_on_as_if_nothing_had_happened(reports, data):
    memory, rows, numbers = Memory(), Rows(), {}
    ledger = make_ledger(memory, numbers=numbers)
    for arrives, _, event, writer in arrivals(data, reports):
        ledger.advance(arrives - LATENESS)
        ledger.apply([event], writer)
        if data.draw(st.integers(0, 2)) == 0:
            rows.store(take_changes(ledger), memory)
            ledger = rows.restored(partial(make_ledger, memory, numbers=numbers))
    ledger.finish()
    assert totals(ledger) == expected(reports)


@settings(max_examples=2 * EXAMPLES, deadline=None)
@given(histories(), st.data())
def test_live_sessions_and_users_are_those_that_a_recount_finds(reports, data):
    ledger = make_ledger()
    for arrives, _, event, writer in arrivals(data, reports):
        ledger.advance(arrives - LATENESS)
        ledger.apply([event], writer)
        people = ledger.judges["chat"].people
        live = [session for session in people.sessions.values() if session.last_us > session.ended_us]
        assert people.totals.active_sessions == len(live)
        assert people.totals.active_users == len({session.owner.user for session in live if session.owner})
        assert Counter(session.owner.id for session in people.sessions.values() if session.owner) == {
            owner.id: owner.tracked for owner in people.owners.values()
        }


def test_undeclared_scopes_share_one_label_and_nothing_else():
    ledger = make_ledger()
    events = [
        wire.Created(START, "cart", "7", "ann"),
        wire.Created(START + 1, "wizard", "7", "ann"),
        wire.Reused(START + 2, "wizard", "7", "ann"),
    ]
    ledger.apply(events, WRITERS[0])
    ledger.finish()
    other = ledger.totals.scopes["other"]
    assert (other.creates, other.duplicate_creates, other.active_sessions, other.active_users) == (2, 0, 2, 1)


def test_events_from_a_clock_far_ahead_wait_in_bounded_numbers_and_count_all_the_same(monkeypatch):
    monkeypatch.setattr("session_exporter.core.ledger.WAITING_MAX", 10)
    ledger = make_ledger()
    for number in range(100):
        ledger.apply([wire.Created(START + 3600 * SECOND + number, "chat", f"s{number}", "ann")], WRITERS[0])
        ledger.advance(START)
    assert len(ledger.waiting) <= 10
    ledger.finish()
    assert totals(ledger)["creates"] == 100


def test_a_create_that_comes_after_its_end_does_not_change_how_long_the_next_generation_lasts():
    ledger = make_ledger()
    ledger.apply([wire.Ended(START + 5 * SECOND, "chat", "s", reason="completed")], WRITERS[0])
    ledger.apply([wire.Created(START + 9 * SECOND, "chat", "s", "ann")], WRITERS[0])
    ledger.finish()
    ledger.apply([wire.Created(START, "chat", "s", "ann")], WRITERS[1])
    ledger.apply([wire.Ended(START + 12 * SECOND, "chat", "s", reason="completed")], WRITERS[0])
    ledger.finish()
    scope = ledger.totals.scopes["chat"]
    assert (scope.creates, scope.ends["completed"], scope.durations.sum_s) == (2, 2, 3.0)


def test_an_event_of_a_clock_that_is_ahead_moves_no_watermark():
    ledger = make_ledger()
    day = 86_400 * SECOND
    ledger.apply([wire.Created(START, "chat", "s1", "ann"), wire.Created(START + day, "chat", "s2", "bob")], WRITERS[0])
    ledger.finish(START + LATENESS)
    assert ledger.watermark_us == START
    ledger.apply([wire.Created(START + SECOND, "chat", "s3", "ann")], WRITERS[0])
    ledger.finish(START + LATENESS)
    found = totals(ledger)
    assert (found["creates"], sum(found["duplicates"].values()), found["ends"]) == (3, 1, {})
