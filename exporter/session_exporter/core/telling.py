"""What consumers of a fleet are told of sessions: what all of them hear, and what a claim stands for."""

from typing import Final

from session_exporter.core import events as wire
from session_exporter.core.records import CREATED, ENDED, LOOKED_UP, OBSERVED, REUSED, UNMET

# What can be said of a session by its id alone.
SHARED: Final[dict[type, int]] = {
    wire.Created: CREATED,
    wire.Reused: REUSED,
    wire.LookedUp: LOOKED_UP,
    wire.Observed: OBSERVED,
    wire.Ended: ENDED,
    wire.Unmet: UNMET,
}


def is_shared(event: wire.FleetEvent) -> bool:
    """Whether an event says something of a session without naming a user, so that all consumers must hear of it."""
    return not event.user and bool(event.session) and type(event) in SHARED


def as_use(event: wire.FleetEvent) -> wire.FleetEvent:
    """A claim as the use that it tells of; any other event as it is."""
    if not isinstance(event, wire.Claimed):
        return event
    return wire.Reused(event.at_us, event.scope, event.session, event.user, event.key, event.request, event.trace)
