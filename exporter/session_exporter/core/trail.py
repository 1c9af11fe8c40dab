"""The newest events of all users, kept for a while: what tells the story of an incident."""

from collections.abc import Sequence

from session_exporter.core.events import Event, Writer
from session_exporter.core.incidents import Incident
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.scopes import Limits


class Trail:
    """Remembers events, and adds to each incident those of its users and sessions.

    Args:
        names: Digests of ids.
        limits: How many events of a user are told, and how long events are remembered.
    """

    def __init__(self, names: Pseudonyms, limits: Limits) -> None:
        self._names = names
        self._limits = limits
        self._wanted: list[Incident] = []

    def add(self, events: Sequence[Event], writer: Writer) -> None:
        """Remember events of one writer."""

    def want(self, incident: Incident) -> None:
        """Have an incident told with the next `tell`."""
        self._wanted.append(incident)

    def tell(self) -> None:
        """Add to each incident that was wanted what is remembered of its users and sessions."""
        self._wanted.clear()
