"""The same lives as of one ledger, told by forwarders of all hosts to three consumers."""

from collections import Counter

import msgspec
import pytest
from fleets import KEY, PARTITIONS
from ledgers import Memory
from lives import LATENESS_US
from precision import SCOPES, Campaign

from session_exporter.core.checkpoint import take_changes
from session_exporter.core.fleet import FleetLedger
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.shares import Share
from session_exporter.core.travelling import TravelledNames
from session_exporter.stream.keys import SHARED
from session_exporter.stream.routing import Router

pytestmark = pytest.mark.slow

SHARES = [range(3), range(3, 5), range(5, PARTITIONS)]
IDS = ("session", "user", "expected", "actual")


class FleetCampaign(Campaign):
    """A campaign whose hosts have a forwarder each; the truth is in plain ids, what is found in their digests."""

    def __init__(self, users):
        super().__init__(users)
        self.names = Pseudonyms(KEY)
        self.plain = {b"": ""}
        self.routers = {}
        self.memories = [Memory() for _ in SHARES]
        self.consumers = [
            FleetLedger(
                SCOPES,
                share=Share(owned, PARTITIONS),
                names=TravelledNames(KEY),
                known=memory,
                lateness_us=LATENESS_US,
                listener=self._hear,
            )
            for owned, memory in zip(SHARES, self.memories, strict=True)
        ]
        self.ledger = self

    def apply(self, events, writer):
        """Have events forwarded as those who count expect them."""
        for event in events:
            ids = {getattr(event, name, "") for name in IDS}
            self.plain.update({self.names.digest(each): each for each in ids})
        router = self.routers.get(writer.replica)
        if router is None:
            router = self.routers[writer.replica] = Router(Pseudonyms(KEY), SCOPES, PARTITIONS)
        for stream, routed in router.route(events, range(1, len(events) + 1), writer).items():
            for ledger in self.consumers:
                if stream == SHARED or stream in ledger.share.owned:
                    ledger.apply(routed.events, writer)

    def advance(self, watermark_us):
        for ledger in self.consumers:
            ledger.advance(watermark_us)

    def counts(self):
        """What all consumers have counted, of all scopes, together."""
        found = Counter()
        for ledger in self.consumers:
            for scope in (ledger.totals.scopes[name] for name in SCOPES):
                found.update({name: getattr(scope, name) for name in ("creates", "reuses", "lookups", "adopted")})
                found.update(active_sessions=scope.active_sessions, active_users=scope.active_users)
            found.update(late_events=ledger.totals.late_events)
        return +found

    def _hear(self, verdict):
        session, user = (self.plain[each].encode() for each in (verdict.session, verdict.user))
        self.found.hear(verdict._replace(session=session, user=user))

    def _commit(self):
        labels = {self.names.label(prefix, digest): each for digest, each in self.plain.items() for prefix in "su"}
        for ledger, memory in zip(self.consumers, self.memories, strict=True):
            changes = take_changes(ledger)
            for scope, session, known in changes.left_sessions:
                memory.known.pop((scope, session), None)
                if known is not None:
                    memory.known[scope, session] = known
            for incident in changes.incidents:
                told = incident.detail
                ids = {name: labels[told[name]] for name in ("user", "session", "expected", "actual") if name in told}
                ids |= {"sessions": [labels[each] for each in told["sessions"]]} if "sessions" in told else {}
                self.found.read(msgspec.structs.replace(incident, detail={**told, **ids}))


def test_a_fleet_finds_every_incident_and_nothing_else():
    campaign = FleetCampaign(3_000)
    campaign.run()

    truth, found = campaign.world.truth, campaign.found.stories
    # What two users use is new to the partition of the second, lives there as well, and is over there once more.
    shared = {session for _, session in truth["violation/session_of_two_users"]}
    invented = {(kind, story) for kind in found for story in found[kind] - truth[kind]}
    assert {(kind, story) for kind, story in invented if kind.partition("/")[0] not in {"adopted", "end"}} == set()
    assert {story[-1] for _, story in invented} <= shared
    assert {kind: stories - found[kind] for kind, stories in truth.items() if stories - found[kind]} == {}

    counts = campaign.counts()
    assert counts["creates"] == truth["create"].total()
    assert counts["lookups"] == campaign.world.lookups
    assert counts["reuses"] + counts["adopted"] == campaign.world.reuses + truth["adopted"].total()
    assert counts["late_events"] == counts["active_sessions"] == counts["active_users"] == 0
