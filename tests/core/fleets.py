"""A fleet without its transport: events told as forwarders tell them, and what all consumers have counted."""

from collections import Counter
from functools import partial

import msgspec
from rows import Memory, Rows

from session_exporter.core import events as wire
from session_exporter.core.checkpoint import take_changes
from session_exporter.core.fleet import FleetLedger, is_shared
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.scopes import ScopeRules
from session_exporter.core.shares import Share, partition_of
from session_exporter.core.travelling import TravelledNames, text_of

KEY = b"k" * 32
PARTITIONS = 8
IDS = ("session", "user", "key", "request", "expected", "asked", "actual", "generation", "other_user", "other_request")
OF_THE_DAY = ("born_us", "day", "creates_today", "reuses_today")
CLAIMING = (wire.Created, wire.Reused, wire.LookedUp, wire.Observed, wire.Attributed)


class Fleet:
    """Consumers, and forwarders that claim again and again.

    Args:
        rules: Of the scopes.
        shares: Of each consumer, the partitions that it owns.
        lateness_us: As of a ledger.
    """

    def __init__(self, rules, shares, lateness_us):
        self.names = Pseudonyms(KEY)
        self.rules, self.lateness_us = rules, lateness_us
        self.met = set()  # by replica: who was seen with which session
        self.memories = [Memory() for _ in shares]
        self.numbers = [{} for _ in shares]
        self.rows = [Rows() for _ in shares]
        self.shares = [Share(owned, PARTITIONS) for owned in shares]
        self.consumers = [self.consumer(index) for index in range(len(shares))]

    def consumer(self, index, totals=None):
        return FleetLedger(
            self.rules,
            share=self.shares[index],
            names=TravelledNames(KEY),
            known=self.memories[index],
            lateness_us=self.lateness_us,
            numbers=self.numbers[index],
            totals=totals,
        )

    def restart(self, index):
        """Commit what one consumer has, and let it go on from there."""
        rows, memory = self.rows[index], self.memories[index]
        rows.store(take_changes(self.consumers[index]), memory)
        self.consumers[index] = rows.restored(partial(self.consumer, index))

    def tell(self, event, writer):
        """Have an event forwarded to those whom it concerns."""
        for partition, told in self.routed(event, writer):
            for share, ledger in zip(self.shares, self.consumers, strict=True):
                if partition is None or partition in share.owned:
                    ledger.apply([told], writer)

    def routed(self, event, writer):
        told = msgspec.structs.replace(
            event, **{name: text_of(self.names.digest(getattr(event, name))) for name in IDS if hasattr(event, name)}
        )
        met = (writer.replica, event.scope, event.session, event.user)
        if isinstance(event, wire.Ended) and event.user and met not in self.met:  # one may end what is another's
            counted = msgspec.structs.replace(told, halved=True)
            judged = msgspec.structs.replace(counted, user="", key="")
            return [(self.partition(event.user), counted), (None, judged)]
        if is_shared(told):
            return [(None, told)]
        if isinstance(event, wire.Unmet):
            kept = msgspec.structs.replace(told, kept=True)
            return [(self.partition(event.user), told), (self.partition(event.session), kept)]
        stands_for = event.user or event.request or writer.id
        routes = [(self.partition(stands_for), told)]
        if event.session and isinstance(event, CLAIMING):
            base = (getattr(told, name) for name in ("at_us", "scope", "session", "user", "key", "request", "trace"))
            claim = wire.Claimed(*base, of=told.__struct_config__.tag)
            routes.append((self.partition(event.session), claim))
            self.met.add(met)
        return routes

    def partition(self, identifier):
        return partition_of(self.names.digest(identifier), PARTITIONS)

    def advance(self, watermark_us):
        for ledger in self.consumers:
            ledger.advance(watermark_us)

    def finish(self):
        for ledger in self.consumers:
            ledger.finish()

    def counts(self, scope="chat"):
        """What all consumers have counted of a scope, together."""
        return sum((counts_of(ledger, scope) for ledger in self.consumers), Counter())


def counts_of(ledger, scope="chat"):
    """Everything that a ledger has counted of a scope, by name; what is 0 is not there."""
    totals = ledger.totals.scopes[scope]
    found = Counter(
        {
            name: value
            for name in totals.__struct_fields__
            if isinstance(value := getattr(totals, name), int) and name not in OF_THE_DAY
        }
    )
    for name in ("ends", "duplicates", "losses", "violations", "failures", "ids_checked"):
        found.update({f"{name}/{word}": count for word, count in getattr(totals, name).items()})
    found["reuses"] = totals.reuses + sum(minute.reuses for minute in ledger.judges[scope].tally.minutes.values())
    for name in ("intervals", "durations", "lookup_durations"):
        found.update({f"{name}/{index}": count for index, count in enumerate(getattr(totals, name).counts)})
    found.update({f"events/{kind}": count for kind, count in ledger.totals.events.items()})
    return +found


def rules_of(**rules):
    return {"chat": ScopeRules("chat", **rules)}
