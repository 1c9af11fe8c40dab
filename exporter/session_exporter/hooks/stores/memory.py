"""What this process knows of sessions that it has read or written: bounded, and trusted for a while only."""

from typing import Final, NamedTuple

KNOWN_MAX: Final = 10_000
# Another process may have ended a session since, and the ledger lets one expire of which it hears nothing.
TRUSTED_US: Final = 300_000_000


class KnownSession(NamedTuple):
    """What is known of one session.

    Attributes:
        alive: Whether it was there.
        user: The user found in its value; `""` for none yet.
        at_us: When something was last reported of it; microseconds since the epoch.
        emptied: Whether its key is there all the same, with an empty value.
    """

    alive: bool
    user: str
    at_us: int
    emptied: bool = False


class StoreMemory:
    """Remembers the sessions met last.

    No lock that a signal handler, or a forked child, could find held: every step is atomic, and a step that another
    thread was quicker with is left out.
    """

    def __init__(self, size: int = KNOWN_MAX) -> None:
        self._size = size
        self._known: dict[tuple[str, str], KnownSession] = {}

    def __len__(self) -> int:
        return len(self._known)

    def get(self, scope: str, session: str) -> KnownSession | None:
        """What was remembered of a session."""
        return self._known.get((scope, session))

    def put(self, scope: str, session: str, known: KnownSession) -> None:
        """Remember a session; the one met longest ago leaves when there are too many."""
        self._known.pop((scope, session), None)
        self._known[scope, session] = known
        while len(self._known) > self._size:
            try:
                del self._known[next(iter(self._known))]
            except (KeyError, RuntimeError, StopIteration):
                return

    def forget(self, scope: str, session: str) -> None:
        """Know nothing of a session any more."""
        self._known.pop((scope, session), None)
