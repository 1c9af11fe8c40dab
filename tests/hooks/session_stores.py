"""What the tests of Redis-backed stores share: events in short."""

from session_exporter.core.events import UPSERT, Attributed, Created, CreateFailed, Ended, Event, LookedUp, Observed

Told = tuple[str, ...]


def tell(event: Event) -> Told:
    """An event in short: what happened, to which session, of whom."""
    assert event.scope == "web"
    if isinstance(event, Created):
        return ("created", event.session, event.user)
    if isinstance(event, LookedUp):
        return ("missed" if not event.session else "again" if event.again else "found", event.session, event.user)
    if isinstance(event, Observed):
        assert event.origin == UPSERT
        return ("written", event.session, event.user)
    if isinstance(event, Ended):
        return ("ended", event.session, event.reason)
    if isinstance(event, Attributed):
        return ("attributed", event.session, event.user)
    assert isinstance(event, CreateFailed)
    return ("failed", event.reason, event.user)
