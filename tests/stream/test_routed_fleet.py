"""Consumers count the same, whether forwarders claim again and again or remember what they claimed, and start anew."""

from collections import defaultdict

import happenings
from fleets import KEY, PARTITIONS, Fleet, rules_of
from happenings import SECOND, START
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from session_exporter.core import events as wire
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.stream.keys import SHARED
from session_exporter.stream.routing import Router

WRITERS = [wire.Writer(f"w{number}", f"pod-{number // 2}", number) for number in range(4)]
LATENESS = 2 * SECOND
RULES = rules_of()
SHARES = [range(3), range(3, PARTITIONS)]
# Within this time, nobody has to be told of a session twice.
SPAN_S = 899
NAMES = ["", "ann", "bob", "cy"]
SESSIONS = ["s-1", "s-2", "s-3"]


class RoutedFleet(Fleet):
    """A fleet with a forwarder for each replica, and consumers that drop what they have."""

    def __init__(self):
        super().__init__(RULES, SHARES, LATENESS)
        self.routers = {}
        self.written = defaultdict(list)
        self.applied = defaultdict(int)

    def tell(self, event, writer):
        self.written[writer].append(event)
        self.send(writer, len(self.written[writer]) - 1)

    def send(self, writer, first):
        """Have a worker's events sent, from one of them on."""
        if writer.replica not in self.routers:
            self.routers[writer.replica] = Router(Pseudonyms(KEY), self.rules, PARTITIONS)
        ends = range(first + 1, len(self.written[writer]) + 1)
        routed = self.routers[writer.replica].route(self.written[writer][first:], ends, writer)
        for stream, each in routed.items():
            new = [told for end, told in zip(*each, strict=True) if end > self.applied[stream, writer]]
            self.applied[stream, writer] = max(each.ends[-1], self.applied[stream, writer])
            for share, ledger in zip(self.shares, self.consumers, strict=True):
                if stream == SHARED or stream in share.owned:
                    ledger.apply(new, writer)

    def kill(self, writer, retained):
        """Start the forwarder of a worker anew, which sends all that is retained."""
        del self.routers[writer.replica]
        self.send(writer, max(len(self.written[writer]) - retained, 0))


@st.composite
def histories(draw):
    """Events of every kind in the order of time, of few users and sessions, with who wrote them."""
    told = []
    for second in sorted(draw(st.sets(st.integers(0, SPAN_S), max_size=16))):
        event = draw(happenings.events)
        ids = {
            "session": draw(st.sampled_from([*SESSIONS, "", ""] if isinstance(event, wire.LookedUp) else SESSIONS)),
            "user": draw(st.sampled_from(NAMES[isinstance(event, wire.Attributed) :])),
            "request": draw(st.sampled_from(NAMES)),
        }
        event = structs.replace(event, at_us=START + second * SECOND, scope="chat", key="", trace=b"", **ids)
        told.append((event, draw(st.sampled_from(WRITERS))))
    return told


@given(histories(), st.data())
def test_what_forwarders_remember_changes_nothing_that_consumers_count(told, data) -> None:
    patient, routed = Fleet(RULES, SHARES, LATENESS), RoutedFleet()
    for event, writer in told:
        for fleet in (patient, routed):
            fleet.tell(event, writer)
            fleet.advance(event.at_us - LATENESS)
        if data.draw(st.booleans()):
            routed.kill(writer, data.draw(st.integers(0, 4)))
    for fleet in (patient, routed):
        fleet.finish()
    assert routed.counts() == patient.counts()
