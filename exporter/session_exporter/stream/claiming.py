"""Whose sessions are: what the keeper of each session is told of its users.

The partition of a session's digest keeps the session, but what its users do is sent to theirs. So the keeper is told
of each user of a session when the user is first seen with it, and again before the session would have expired there.
"""

from typing import Final, TypeAlias

import msgspec

from session_exporter.core import events as wire
from session_exporter.stream.bounded import BoundedDict

# Some 600 bytes each. One that is forgotten is told once more.
CLAIMS_MAX: Final = 1 << 17
# What tells that a user uses a session.
CLAIMING: Final = frozenset((wire.Created, wire.Reused, wire.LookedUp, wire.Observed, wire.Attributed))

Pair: TypeAlias = tuple[str, str, str]


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What is remembered of a session and its user, with all that is needed to send on an event of both.

    Attributes:
        session: Of the session, what travels.
        user: Of the user, what travels.
        home: The user's partition.
        begin_us: The keeper was told that they met at this time: an earlier meeting is news.
        renew_us: From this time on, a meeting is news again.
    """

    session: str
    user: str
    home: int
    begin_us: int
    renew_us: int


class SentClaims(BoundedDict[Pair, Claim]):
    """The users that keepers of sessions were told of: by scope, session and user, as the application calls them."""

    def __init__(self) -> None:
        super().__init__(CLAIMS_MAX)

    def is_news(self, pair: Pair, at_us: int) -> bool:
        """Whether the keeper has yet to be told that these met at this time."""
        known = self.get(pair)
        return known is None or not known.begin_us <= at_us < known.renew_us

    def note(self, pair: Pair, told: wire.Event, home: int, lasting_us: int) -> None:
        """Remember that the keeper is told by this event, and need not be told again for so long."""
        known, begin_us = self.get(pair), told.at_us
        renew_us = begin_us + lasting_us
        if known is not None and begin_us < known.begin_us <= renew_us:
            renew_us = known.renew_us
        self.keep(pair, Claim(told.session, told.user, home, begin_us, min(renew_us, wire.TIME_MAX_US)))


def claim_of(told: wire.Event) -> wire.Claimed:
    """What the keeper of the session is told, of an event as it travels."""
    base = (told.at_us, told.scope, told.session, told.user, told.key, told.request, told.trace)
    return wire.Claimed(*base, getattr(told, "sites", ()), int(told.__struct_config__.tag or 0))
