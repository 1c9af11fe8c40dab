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
    """A session came into existence, with evidence.

    Attributes:
        sites: Nearest application frames, innermost first.
        generation: What `restart_on` names, when the scope has it: another value means another session under one id.
        expected: The session that its request expected and had found before; `""` for none, or for this very one.
    """

    sites: Sites = ()
    generation: Id = ""
    expected: Id = ""


class Reused(_Event, tag=2, frozen=True):
    """The application says that work went on with an existing session."""


class LookedUp(_Event, tag=3, frozen=True):
    """The application asked for the session of a user; `session` is what it found, `""` for a miss.

    Attributes:
        sites: Nearest application frames, innermost first.
        duration_us: How long it took; 0 when not measured.
        again: Its transaction or call has found, or made, this session before: a lookup, but no reuse.
        asked: Of a miss: the id that was asked for; `""` when it was the session of a user, whatever its id.
    """

    sites: Sites = ()
    duration_us: Time = 0
    again: bool = False
    asked: Id = ""


# How a session came to be observed.
RESULT: Final = 0
UPSERT: Final = 1
ROW: Final = 2


class Observed(_Event, tag=4, frozen=True):
    """A session was seen; whether it was made just then, the ledger decides.

    Attributes:
        sites: Nearest application frames, innermost first.
        created_at_us: When the result says it was created; 0 when it does not say.
        duration_us: How long the call took.
        origin: `RESULT`: a call returned it, which counts as a lookup as well. `UPSERT`: a statement made or changed
            it. `ROW`: a row that belongs to it was made, the first of which is its create.
        generation: As of a create.
        expected: As of a create.
    """

    sites: Sites = ()
    created_at_us: Time = 0
    duration_us: Time = 0
    origin: Annotated[int, msgspec.Meta(ge=RESULT, le=ROW)] = RESULT
    generation: Id = ""
    expected: Id = ""


class Ended(_Event, tag=5, frozen=True):
    """A session ended; a reason outside of `END_REASONS` counts as `other`.

    Attributes:
        reason: One of `END_REASONS`.
        halved: Told to the user's partition, to be counted, and without the user to all consumers, to be judged.
    """

    reason: Id = "other"
    halved: bool = False


class Attributed(_Event, tag=6, frozen=True):
    """The user of a session that was created without one became known."""


class ContextLost(_Event, tag=7, frozen=True):
    """The application says that the session it got is not the one it expected; both may be any text."""

    expected: Id = ""
    actual: Id = ""
    sites: Sites = ()


class Conflicted(_Event, tag=8, frozen=True):
    """A unique index refused a create. `sites`: nearest application frames, innermost first."""

    sites: Sites = ()


class CreateFailed(_Event, tag=9, frozen=True):
    """A create failed otherwise; a reason outside of `FAILURES` counts as `other`."""

    reason: Id = "other"
    sites: Sites = ()


class Violated(_Event, tag=10, frozen=True):
    """One use of a database session crossed a border; `session` is the use's own id.

    Attributes:
        kind: One of `VIOLATIONS`.
        other_user: Whom it was used for before, when that is another one than `user`.
        other_request: In which request it was used before.
        sites: Nearest application frames, innermost first.
    """

    kind: Id = ""
    other_user: Id = ""
    other_request: Id = ""
    sites: Sites = ()


class DbSession(_Event, tag=11, frozen=True):
    """One use of a database session is over, at `at_us`; `session` is the use's own id.

    Attributes:
        outcome: One of `OUTCOMES`.
        state: A `SessionState`'s value, as it was when the use ended.
        opened_at_us: When its first transaction began.
        last_activity_us: Of its last statement, transaction or error.
        queries: Statements executed.
        transactions: Root transactions.
        errors: By kind, of `DB_ERRORS`; only counts above 0.
        last_error: Class and SQLSTATE of the last error; never parameters.
        total_time_us: From opened to closed.
        sites: Nearest application frames of where it was opened, innermost first.
    """

    outcome: Id = ""
    state: Id = ""
    opened_at_us: Time = 0
    last_activity_us: Time = 0
    queries: Time = 0
    transactions: Time = 0
    errors: Annotated[dict[Id, Time], msgspec.Meta(max_length=16)] = {}
    last_error: Site = ""
    total_time_us: Time = 0
    sites: Sites = ()


# How a request came not to get the session that it expected.
OTHER_USED: Final = 0
MISSED_BY_USER: Final = 1
MISSED_BY_ID: Final = 2


class Unmet(_Event, tag=12, frozen=True):
    """A request is over, at `at_us`, that never got the session it expected, which is `session`.

    Attributes:
        missed: `MISSED_BY_ID`: it asked for that session, and there was none. `MISSED_BY_USER`: it asked for the
            session of the user, and there was none. `OTHER_USED`: it only used others.
        since_us: When it first missed it, or first used another.
        actual: The session of this scope that it used instead; `""` for none.
        shared: It used sessions of other scopes as well, so that the expected one may be of another scope.
        sites: Of the first miss, or the first use of another: nearest application frames, innermost first.
        kept: Told to the keeper of the expected session; the user's partition is told as well.
    """

    missed: Annotated[int, msgspec.Meta(ge=OTHER_USED, le=MISSED_BY_ID)] = OTHER_USED
    since_us: Time = 0
    actual: Id = ""
    shared: bool = False
    sites: Sites = ()
    kept: bool = False


class Identified(_Event, tag=13, frozen=True):
    """A request that has to do with sessions of this scope says to which thread and run it belongs.

    Attributes:
        thread: The thread's id; `""` when not known.
        run: The run's id; `""` when not known.
        mismatched: Who knows only digests of the ids is told: those of thread, run and request were not made together.
    """

    thread: Id = ""
    run: Id = ""
    mismatched: bool = False


Event: TypeAlias = (
    Created
    | Reused
    | LookedUp
    | Observed
    | Ended
    | Attributed
    | ContextLost
    | Conflicted
    | CreateFailed
    | Violated
    | DbSession
    | Unmet
    | Identified
)


# What only travels between machines: no hook reports it.


class Claimed(_Event, tag=101, frozen=True):
    """Somebody used a session, for the keeper of the session: whose it is, and whether it is one user's.

    Attributes:
        sites: Nearest application frames, innermost first.
        of: The number of the kind of event that tells so: among those of one time, the claim takes its place.
    """

    sites: Sites = ()
    of: Annotated[int, msgspec.Meta(ge=0, le=99)] = 0


class Checked(_Event, tag=102, frozen=True):
    """An id of an event was compared with the format of its scope by who still had the id itself.

    Attributes:
        id: Its digest.
        id_kind: One of `ID_KINDS`.
        form: One of `ID_FORMATS`.
        shape: What it looks like, as `core.ids.shape_of` says.
    """

    id: Id = ""
    id_kind: Id = ""
    form: Id = ""
    shape: Id = ""


FleetEvent: TypeAlias = Event | Claimed | Checked

KINDS: Final[dict[type[_Event], str]] = {
    Created: "created",
    Reused: "reused",
    LookedUp: "looked_up",
    Observed: "observed",
    Ended: "ended",
    Attributed: "attributed",
    ContextLost: "context_lost",
    Conflicted: "conflicted",
    CreateFailed: "create_failed",
    Violated: "violated",
    DbSession: "db_session",
    Unmet: "unmet",
    Identified: "identified",
}

# The writer of what nobody but the database told: rows that the sidecar read there.
WATCH: Final = "watch"


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
