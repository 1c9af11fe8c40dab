"""What the database says, told to every consumer of a fleet: each counts what falls into its partitions."""

from fleets import KEY, Fleet, counts_of, rules_of
from hypothesis import given
from hypothesis import strategies as st
from ledgers import LATENESS_S, SECOND, START, at
from rows import Memory

from session_exporter.core import events as wire
from session_exporter.core.ledger import Ledger
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.rows import NEW, OLD, OVER, USED, Row, take_rows

SHARES = ((0, 1, 2), (3, 4, 5), (6, 7))
WORKER = wire.Writer("w0", "pod-a", 1)
SESSIONS = ("s1", "s2", "s3", "s4", "s5")
USERS = ("ann", "bob", "cid", "")
TIMES_S = st.integers(0, 60)
ROWS = st.builds(
    lambda at_s, what, session, user: (at_s, Row(what, START + at_s * SECOND, session, user, reason="completed")),
    TIMES_S,
    st.sampled_from((NEW, NEW, NEW, USED, OVER)),
    st.sampled_from(SESSIONS),
    st.sampled_from(USERS),
)
EVENTS = st.builds(
    lambda at_s, kind, session, user: (at_s, kind(START + at_s * SECOND, "chat", session, user)),
    TIMES_S,
    st.sampled_from((wire.Created, wire.Reused, wire.Ended)),
    st.sampled_from(SESSIONS),
    st.sampled_from(USERS[:3]),
)


def owned_by_one(happened):
    """A session is one user's, whoever tells."""
    whose = {}
    for at_s, each in happened:
        user = whose.setdefault(each.session, each.user)
        if isinstance(each, Row):
            yield at_s, Row(each.what, each.at_us, each.session, user, reason=each.reason)
        else:
            yield at_s, type(each)(each.at_us, each.scope, each.session, user)


@given(st.lists(ROWS | EVENTS, max_size=14), st.lists(st.tuples(TIMES_S, st.integers(0, 2)), max_size=3))
def test_a_fleet_counts_rows_as_one_ledger_does(happened, restarts) -> None:
    rules = rules_of()
    fleet = Fleet(rules, SHARES, LATENESS_S * SECOND)
    alone = Ledger(rules, names=Pseudonyms(KEY), known=Memory(), lateness_us=LATENESS_S * SECOND)
    steps = [(at_s, 0, each) for at_s, each in owned_by_one(sorted(happened, key=lambda step: step[0]))]
    steps += [(at_s, 1, index) for at_s, index in restarts]
    for at_s, kind, what in sorted(steps, key=lambda step: step[:2]):
        for ledger in (alone, *fleet.consumers):
            ledger.advance(at(at_s - LATENESS_S))
        if kind:
            fleet.restart(what)
        elif isinstance(what, Row):
            for ledger in (alone, *fleet.consumers):
                take_rows(ledger, "chat", [what], since_us=START, due_us=at(at_s + 15))
        else:
            alone.apply([what], WORKER)
            fleet.tell(what, WORKER)
    alone.finish()
    fleet.finish()
    for ledger in (alone, *fleet.consumers):
        # Whether there are hooks, a ledger knows from its own last commit.
        ledger.totals.scopes["chat"].watched_since_us = ledger.totals.scopes["chat"].unreported = 0
    assert fleet.counts() == counts_of(alone)


def test_what_was_there_before_is_known_where_its_user_is() -> None:
    fleet = Fleet(rules_of(), SHARES, LATENESS_S * SECOND)
    old = Row(OLD, START - SECOND, "s1", "ann")
    for index, ledger in enumerate(fleet.consumers):
        take_rows(ledger, "chat", [old], since_us=START, due_us=at(15))
        fleet.restart(index)
    fleet.tell(wire.Observed(at(30), "chat", "s1", "ann"), WORKER)
    fleet.finish()
    assert (fleet.counts()["adopted"], fleet.counts()["reuses"]) == (0, 1)
