"""A ledger for the process that asks it: nothing is stored, and it ends with the process."""

from collections.abc import Mapping, Sequence
from math import inf

from session_exporter.core.checkpoint import take_changes
from session_exporter.core.events import Event, Writer
from session_exporter.core.incidents import Incident
from session_exporter.core.ledger import Ledger
from session_exporter.core.population import Known, KnownIds
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.scopes import Limits, ScopeRules
from session_exporter.core.totals import ScopeTotals
from session_exporter.core.trail import Trail


class NothingKnown:
    """The long memory of a ledger that has none."""

    def find(self, scope: int, session: bytes) -> Known | None:  # noqa: ARG002 - as `KnownIds` has it
        """None."""
        return None


class InProcessLedger:
    """The ledger of the sidecar, without what the sidecar keeps of it.

    One thread at a time may call.

    Args:
        rules: How each declared scope is judged.
        names: Digests of ids.
        known: What is known of ids that the ledger has not met.
        numbers: Filled with the numbers by which `known` is asked for scopes.
        limits: What bounds it.
        lateness_us: How late an event may come and still be judged in order, microseconds.
        with_story: Whether incidents are told what led to them; that costs memory for each event.
    """

    def __init__(
        self,
        rules: Mapping[str, ScopeRules],
        names: Pseudonyms,
        *,
        known: KnownIds | None = None,
        numbers: dict[str, int] | None = None,
        limits: Limits | None = None,
        lateness_us: int = 0,
        with_story: bool = False,
    ) -> None:
        limits = limits or Limits()
        self._ledger = Ledger(
            rules,
            names=names,
            known=known or NothingKnown(),
            numbers=numbers,
            limits=limits,
            lateness_us=lateness_us,
            trail=Trail(names, limits) if with_story else None,
        )

    @property
    def totals(self) -> Mapping[str, ScopeTotals]:
        """What has been judged until now, by scope; complete after `judge`."""
        return self._ledger.totals.scopes

    def take(self, events: Sequence[Event], writer: Writer) -> None:
        """Take in events of one writer, in the order in which it recorded them."""
        self._ledger.apply(events, writer)

    def judge(self, until_us: float = inf) -> list[Incident]:
        """Judge what happened before `until_us`, microseconds; for inf everything, whatever its time.

        Returns:
            The incidents found since the last call, by scope, in the order found.
        """
        if until_us == inf:
            self._ledger.finish()
        else:
            self._ledger.set_back(int(until_us))  # a clock that was ahead for a moment must not rule for an hour
            self._ledger.advance(int(until_us))
        return take_changes(self._ledger).incidents
