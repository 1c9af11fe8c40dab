"""A ledger with one scope, `chat`, told what happened in seconds."""

from collections.abc import Mapping
from typing import Any

from session_exporter.core import events as wire
from session_exporter.core.checkpoint import Changes, take_changes
from session_exporter.core.incidents import Incident
from session_exporter.core.ledger import Ledger
from session_exporter.core.population import Known
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.scopes import Limits, ScopeRules
from session_exporter.core.tally import Listener
from session_exporter.core.totals import LedgerTotals, ScopeTotals
from session_exporter.core.trail import Trail

SECOND = 1_000_000
START = 1_800_000_000 * SECOND
WINDOW_S = 10
IDLE_S = 1800
LATENESS_S = 2

WORKER = wire.Writer("w0", "pod-a", 10)
NEIGHBOUR = wire.Writer("w1", "pod-a", 11)
REMOTE = wire.Writer("w2", "pod-b", 12)


def at(seconds: float) -> int:
    return START + round(seconds * SECOND)


class Memory:
    """A long memory that forgets nothing."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, bytes], Known] = {}

    def find(self, scope: int, session: bytes) -> Known | None:
        return self.known.get((scope, session))


class Book:
    """A ledger and what came of its commits; times are seconds since `START`.

    Args:
        limits: What bounds the ledger.
        scopes: More scopes, beside `chat`.
        show_ids: Incidents and labels show ids as they are.
        totals: The counts to go on from.
        listener: Told every verdict.
        trail: Incidents are told with what led to them.
        rules: Of the scope `chat`.
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        scopes: Mapping[str, ScopeRules] | None = None,
        show_ids: bool = True,
        totals: LedgerTotals | None = None,
        listener: Listener | None = None,
        trail: bool = False,
        **rules: Any,
    ) -> None:
        self.memory = Memory()
        self.names = Pseudonyms(b"k" * 32, show_ids=show_ids)
        self.ledger = Ledger(
            {"chat": ScopeRules("chat", **rules), **(scopes or {})},
            names=self.names,
            known=self.memory,
            limits=limits,
            lateness_us=LATENESS_S * SECOND,
            totals=totals,
            listener=listener,
            trail=Trail(self.names, limits or Limits()) if trail else None,
        )
        self.incidents: list[Incident] = []

    def tell(self, kind: type, at_s: float, /, session: str = "", user: str = "ann", **more: Any) -> None:
        writer = more.pop("writer", WORKER)
        self.ledger.apply([kind(at(at_s), more.pop("scope", "chat"), session, user, **more)], writer)

    def created(self, at_s: float, session: str, user: str = "ann", **more: Any) -> None:
        self.tell(wire.Created, at_s, session, user, **more)

    def reused(self, at_s: float, session: str, user: str = "ann", **more: Any) -> None:
        self.tell(wire.Reused, at_s, session, user, **more)

    def looked_up(self, at_s: float, session: str = "", user: str = "ann", **more: Any) -> None:
        self.tell(wire.LookedUp, at_s, session, user, **more)

    def observed(self, at_s: float, session: str, user: str = "ann", age_s: float | None = None, **more: Any) -> None:
        created_at_us = 0 if age_s is None else at(at_s - age_s)
        self.tell(wire.Observed, at_s, session, user, created_at_us=created_at_us, **more)

    def ended(self, at_s: float, session: str, reason: str = "completed", user: str = "", **more: Any) -> None:
        self.tell(wire.Ended, at_s, session, user, reason=reason, **more)

    def attributed(self, at_s: float, session: str, user: str, **more: Any) -> None:
        self.tell(wire.Attributed, at_s, session, user, **more)

    def context_lost(self, at_s: float, expected: str, actual: str, user: str = "ann", **more: Any) -> None:
        self.tell(wire.ContextLost, at_s, "", user, expected=expected, actual=actual, **more)

    def advance(self, at_s: float) -> None:
        self.ledger.advance(at(at_s))

    def commit(self) -> Changes:
        changes = take_changes(self.ledger)
        for scope, session, known in changes.left_sessions:
            self.memory.known[scope, session] = known
        self.incidents += changes.incidents
        return changes

    def judged(self, scope: str = "chat") -> ScopeTotals:
        """The counts of a scope once all that waits has been judged."""
        self.ledger.finish()
        return self.committed(scope)

    def committed(self, scope: str = "chat") -> ScopeTotals:
        """The counts of a scope so far."""
        self.commit()
        return self.ledger.totals.scopes[scope]

    def incident(self) -> Incident:
        """The only incident there was."""
        self.judged()
        (incident,) = self.incidents
        return incident

    def duplicates(self) -> dict[str, int]:
        return nonzero(self.judged().duplicates)

    def ends(self) -> dict[str, int]:
        return nonzero(self.judged().ends)


def nonzero(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}
