"""What hooks report: frozen, validated, and the same on the wire as in memory.

On the wire an event is a MessagePack array: its kind's number, then the fields below in their order; trailing fields
that have their default may be left out, and a reader ignores fields it does not know. So a kind grows at its end only.

Times are integer microseconds since the Unix epoch (UTC), from the reporting host's clock: when the database commit, or
the call, returned. Ids are texts of at most 256 bytes; `""` stands for "not known".
"""

from typing import Annotated, Final, TypeAlias

import msgspec

ID_BYTES_MAX: Final = 256
SITES_MAX: Final = 4
SITE_CHARS_MAX: Final = 200

Id: TypeAlias = Annotated[str, msgspec.Meta(max_length=ID_BYTES_MAX)]
Site: TypeAlias = Annotated[str, msgspec.Meta(max_length=SITE_CHARS_MAX)]
Sites: TypeAlias = Annotated[tuple[Site, ...], msgspec.Meta(max_length=SITES_MAX)]
# The year 2255, which a signed 64-bit count of microseconds, and a date, hold with room to spare.
TIME_MAX_US: Final = 9_000_000_000_000_000
Time: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=TIME_MAX_US)]


class _Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What all kinds share.

    Attributes:
        at_us: Event time.
        scope: The scope's name as the application gave it.
        session: The session's id; `""` when a lookup found none.
        user: The user's id; `""` when not known.
        key: A device, app or thread added to the user.
        request: The id of the unit of work; `""` when none is known.
        trace: The OpenTelemetry trace id, 16 bytes; empty when none.
    """

    at_us: Time
    scope: Id
    session: Id = ""
    user: Id = ""
    key: Id = ""
    request: Id = ""
    trace: Annotated[bytes, msgspec.Meta(max_length=16)] = b""


class Created(_Event, tag=1, frozen=True):
    """A session came into existence, with evidence. `sites`: nearest application frames, innermost first."""

    sites: Sites = ()


class Reused(_Event, tag=2, frozen=True):
    """The application says that work went on with an existing session."""


class LookedUp(_Event, tag=3, frozen=True):
    """The application asked for the session of a user; `session` is what it found, `""` for a miss."""

    sites: Sites = ()
    duration_us: Time = 0


class Observed(_Event, tag=4, frozen=True):
    """A call returned this session; whether it made it, the ledger decides. Counts as a lookup as well.

    Attributes:
        sites: Nearest application frames, innermost first.
        created_at_us: When the result says it was created; 0 when it does not say.
        duration_us: How long the call took.
    """

    sites: Sites = ()
    created_at_us: Time = 0
    duration_us: Time = 0


class Ended(_Event, tag=5, frozen=True):
    """A session ended; a reason outside of `END_REASONS` counts as `other`."""

    reason: Id = "other"


class Attributed(_Event, tag=6, frozen=True):
    """The user of a session that was created without one became known."""


class ContextLost(_Event, tag=7, frozen=True):
    """The application says that the session it got is not the one it expected; both may be any text."""

    expected: Id = ""
    actual: Id = ""
    sites: Sites = ()


Event: TypeAlias = Created | Reused | LookedUp | Observed | Ended | Attributed | ContextLost

KINDS: Final[dict[type[_Event], str]] = {
    Created: "created",
    Reused: "reused",
    LookedUp: "looked_up",
    Observed: "observed",
    Ended: "ended",
    Attributed: "attributed",
    ContextLost: "context_lost",
}


class Writer(msgspec.Struct, frozen=True):
    """Who wrote events: one worker process.

    Attributes:
        id: Boot id, start time and randomness: unique over hosts, restarts and pids.
        replica: The host or pod name.
        pid: The process id inside its own container; for people only.
    """

    id: str
    replica: str = ""
    pid: int = 0
