"""Which sessions were there before a test began.

A test is judged by itself: what an earlier one did cannot make a rapid duplicate of what it does, nor lose it anything.
But a session that is older than the test, because a fixture of the module or an earlier test has made it, is no new one
either when it is met.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from session_exporter.core.events import Attributed, Created, Ended, Event, LookedUp, Observed, Reused
from session_exporter.core.population import Known
from session_exporter.core.scopes import OTHER_SCOPE

IDS_MAX: Final = 200_000
# Shorter ids, such as the 1, 2 and 3 of a fresh database, are given again by the next test.
UNREPEATED_CHARS: Final = 16

# Ended long ago, so that a create of the same id is another create.
_LONG_AGO: Final = Known(0, ended=True, born=True)


class KnownSessions:
    """The ids of a run, by scope."""

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}

    def learn(self, events: Iterable[Event], *, lasting: bool) -> None:
        """Remember the sessions of events.

        Args:
            events: Of a fixture or an earlier test.
            lasting: Whether what made them is there for several tests.
        """
        for event in events:
            is_sight = isinstance(event, Created | Reused | LookedUp | Observed | Ended | Attributed)
            if is_sight and event.session and (lasting or len(event.session) >= UNREPEATED_CHARS):
                self._ids[f"{event.scope}/{event.session}"] = None
        while len(self._ids) > IDS_MAX:
            del self._ids[next(iter(self._ids))]

    def of(self, numbers: Mapping[str, int]) -> "Acquaintance":
        """The long memory of a ledger that numbers its scopes so, as it goes on."""
        return Acquaintance(self._ids, numbers)


class Acquaintance:
    """Answers a ledger whose digests are the ids themselves."""

    def __init__(self, ids: Mapping[str, None], numbers: Mapping[str, int]) -> None:
        self._ids = ids
        self._numbers = numbers

    def find(self, scope: int, session: bytes) -> Known | None:
        """What is known of a session; all that are not the test's own were over before it."""
        name = next((each for each, number in self._numbers.items() if number == scope), "")
        text = session.decode("utf-8", "surrogatepass")
        # Those of undeclared scopes share a number, and have the name of theirs in the digest.
        is_known = f"{name}/{text}" in self._ids or (name == OTHER_SCOPE and text in self._ids)
        return _LONG_AGO if is_known else None
