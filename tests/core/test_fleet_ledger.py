"""The ledgers of a fleet, together, against one ledger that is told everything."""

from itertools import pairwise

from fleets import KEY, PARTITIONS, Fleet, counts_of, rules_of
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import Memory

from session_exporter.core import events as wire
from session_exporter.core.ledger import Ledger
from session_exporter.core.pseudonyms import Pseudonyms

SECOND = 1_000_000
LATENESS = 2 * SECOND
IDLE = 1800 * SECOND
START = 1_800_000_000 * SECOND
WRITERS = [wire.Writer(f"w{number}", f"replica-{number // 2}", number) for number in range(4)]
EXAMPLES = settings().max_examples
KINDS = ["created", "created", "reused", "looked_up", "missed", "observed", "ended", "attributed", "unmet"]
SHARES = [range(3), range(3, 5), range(5, PARTITIONS)]

offsets = st.integers(0, 160).map(lambda step: step * SECOND // 8)


@st.composite
def histories(draw):
    """Events of every kind, of sessions that one user has each; some name no user."""
    sessions = [f"s{number}" for number in range(draw(st.integers(1, 5)))]
    owner = {session: draw(st.sampled_from(["ann", "bob", "cy"])) for session in sessions}
    key = {session: draw(st.sampled_from(["", "", "phone"])) for session in sessions}
    # What happens at one instant has no order of its own.
    instants = draw(st.sets(st.tuples(st.integers(0, 2), offsets), max_size=24))
    reports, made, named = [], set(), set()
    for hour, offset in sorted(instants):
        at_us = START + hour * 2 * IDLE + offset
        session = draw(st.sampled_from(sessions))
        writer = draw(st.sampled_from(WRITERS))
        kind = draw(st.sampled_from(KINDS))
        # What was only used or ended before anybody made it, without a user, is forgotten once it has expired.
        if kind == "ended" and session not in made:
            continue
        is_named = (session not in made and kind != "created") or draw(st.integers(0, 2)) > 0
        made.update([session] if kind == "created" else [])
        named.update([(hour, session)] if is_named and kind in {"created", "reused", "observed"} else [])
        user = owner[session] if is_named else ""
        request = draw(st.sampled_from(["", f"{writer.id}-{hour}-r1", f"{writer.id}-{hour}-r2"]))
        base = (at_us, "chat", session, user, key[session] if is_named else "", request)
        if kind == "created":
            expected = draw(
                st.sampled_from(["", *(each for each in sessions if owner[each] == owner[session] and each != session)])
            )
            event = wire.Created(*base, expected=expected)
        elif kind == "reused":
            event = wire.Reused(*base)
        elif kind == "looked_up":
            event = wire.LookedUp(*base, duration_us=draw(st.integers(0, 9000)))
        elif kind == "missed":
            event = wire.LookedUp(at_us, "chat", "", user, base[4], request)
        elif kind == "observed":
            age = draw(st.sampled_from([None, 1, 9, 11]))
            origin = draw(st.sampled_from([wire.RESULT, wire.UPSERT, wire.ROW]))
            event = wire.Observed(*base, created_at_us=0 if age is None else at_us - age * SECOND, origin=origin)
        elif kind == "ended":
            ender = draw(st.sampled_from([user, user, "cy"]))
            event = wire.Ended(
                at_us,
                "chat",
                session,
                ender,
                "",
                request,
                reason=draw(st.sampled_from(["completed", "deleted", "rotated"])),
            )
        elif kind == "unmet":
            # Who misses a session of nobody is the one whose it turns out to be.
            who = draw(st.sampled_from([owner[session], "", *(["dan"] if (hour, session) in named else [])]))
            missed, shared = draw(st.integers(0, 2)), draw(st.booleans())
            since_us = at_us - draw(st.integers(1, 20)) * SECOND // 16
            event = wire.Unmet(at_us, "chat", session, who, "", request, b"", missed, since_us, "", shared)
        else:
            event = wire.Attributed(at_us, "chat", session, owner[session], key[session], request)
        reports.append((event, writer))
    return reports


def arrivals(data, reports):
    """The reports in an order of arrival within the lateness; each writer's own stay in their order."""
    clock = dict.fromkeys(WRITERS, 0)
    timed = []
    for number, (event, writer) in enumerate(reports):
        arrives = event.at_us + data.draw(st.integers(0, 15)) * LATENESS // 16
        clock[writer] = arrives = max(arrives, clock[writer])
        timed.append((arrives, number, event, writer))
    return sorted(timed, key=lambda each: each[:2])


@settings(max_examples=3 * EXAMPLES, deadline=None)
@given(histories(), st.sampled_from(["one", "many"]), st.data())
def test_a_fleet_counts_what_one_ledger_counts_that_is_told_everything(reports, sessions_per_user, data):
    rules = rules_of(sessions_per_user=sessions_per_user)
    alone = Ledger(rules, names=Pseudonyms(KEY), known=Memory(), lateness_us=LATENESS)
    fleet = Fleet(rules, SHARES, LATENESS)
    for arrives, _, event, writer in arrivals(data, reports):
        if data.draw(st.booleans()):
            alone.advance(arrives - LATENESS)
            fleet.advance(arrives - LATENESS)
        alone.apply([event], writer)
        fleet.tell(event, writer)
    for ledger in (alone, fleet):
        ledger.finish()
        ledger.advance(START + 6 * IDLE)  # whoever is told nothing more learns of the time all the same
    assert fleet.counts() == counts_of(alone)


@settings(max_examples=EXAMPLES, deadline=None)
@given(histories(), st.data())
def test_consumers_that_start_again_from_any_commit_go_on_as_if_nothing_had_happened(reports, data):
    rules = rules_of()
    alone = Ledger(rules, names=Pseudonyms(KEY), known=Memory(), lateness_us=LATENESS)
    fleet = Fleet(rules, SHARES, LATENESS)
    for arrives, _, event, writer in arrivals(data, reports):
        for ledger in (alone, fleet):
            ledger.advance(arrives - LATENESS)
        alone.apply([event], writer)
        fleet.tell(event, writer)
        if (index := data.draw(st.integers(0, 5))) < len(SHARES):
            fleet.restart(index)
    for ledger in (alone, fleet):
        ledger.finish()
        ledger.advance(START + 6 * IDLE)
    assert fleet.counts() == counts_of(alone)


def at(seconds):
    return START + round(seconds * SECOND)


def fleet_of(*events, **rules):
    fleet = Fleet(rules_of(**rules), SHARES, LATENESS)
    for event in events:
        fleet.tell(event, WRITERS[0])
    fleet.finish()
    return fleet


def test_a_session_that_two_users_use_is_found_once_wherever_they_are_counted():
    users = [f"user-{number}" for number in range(12)]
    for first, second in pairwise(users):
        fleet = fleet_of(
            wire.Created(at(0), "chat", "s", first),
            wire.LookedUp(at(1), "chat", "s", second),
            wire.Reused(at(2), "chat", "s", second),
            wire.Reused(at(3), "chat", "s", first),
        )
        assert fleet.counts()["violations/session_of_two_users"] == 1
        assert fleet.counts()["creates"] == 1


def test_an_end_that_is_seen_by_id_only_counts_once_whoever_it_is_of():
    for number in range(12):
        fleet = fleet_of(
            wire.Created(at(0), "chat", "s", f"user-{number}"),
            wire.Ended(at(1), "chat", "s", reason="completed"),
            wire.Ended(at(2), "chat", "s", reason="deleted"),
        )
        assert fleet.counts()["ends/completed"] == 1
        assert sum(count for name, count in fleet.counts().items() if name.startswith("ends/")) == 1
        assert fleet.counts()["active_sessions"] == 0


def test_who_ends_the_session_of_another_ends_it_once_and_is_no_second_user_of_it():
    for number in range(12):
        fleet = fleet_of(
            wire.Created(at(0), "chat", "s", f"user-{number}"),
            wire.Ended(at(1), "chat", "s", "admin", reason="escalated"),
        )
        assert fleet.counts()["ends/escalated"] == 1
        assert fleet.counts()["active_sessions"] == fleet.counts()["violations/session_of_two_users"] == 0


def test_two_sessions_of_nobody_turn_out_to_be_a_race_of_one_user_on_two_hosts():
    fleet = Fleet(rules_of(), SHARES, LATENESS)
    fleet.tell(wire.Created(at(0), "chat", "s1"), WRITERS[0])
    fleet.tell(wire.Created(at(0.2), "chat", "s2"), WRITERS[2])
    fleet.tell(wire.Attributed(at(1), "chat", "s1", "ann"), WRITERS[0])
    fleet.tell(wire.Attributed(at(1.1), "chat", "s2", "ann"), WRITERS[2])
    fleet.finish()
    assert fleet.counts()["duplicates/cross_replica"] == 1
    assert fleet.counts()["creates"] == 2
    assert fleet.counts()["active_users"] == 1


def test_shadows_are_bounded(monkeypatch):
    monkeypatch.setattr("session_exporter.core.fleet.SHADOWS_MAX", 3)
    fleet = fleet_of(*(wire.Created(at(number), "chat", f"s{number}") for number in range(50)))
    assert fleet.counts()["creates"] == 50
    for ledger in fleet.consumers:
        assert len(ledger.all_judges()) == 9
        assert sum(len(shadow.people.sessions) for shadow in ledger._shadows.values()) <= 3


def test_of_what_has_one_time_a_use_that_names_no_user_counts_once_whoever_is_told_what_first():
    for number in range(12):
        for kind in (wire.Created, wire.LookedUp, wire.Attributed):
            fleet = fleet_of(
                kind(at(0), "chat", "s", f"user-{number}", "", "r1"), wire.LookedUp(at(0), "chat", "s", "", "", "r2")
            )
            assert fleet.counts()["reuses"] == (2 if kind is wire.LookedUp else 1)
