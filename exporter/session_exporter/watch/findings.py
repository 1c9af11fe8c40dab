"""What a watch hands over: rows, how far it has read with them, and what it has counted."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from session_exporter.core.rows import Row

# Why a look failed: the database is not there; it lets nobody in, or not there; it took too long, or something was
# locked; the table is not as the configuration says.
REASONS: Final = ("connection", "refused", "timeout", "table", "other")


def place_of(watch: str, table: str, scope: str) -> str:
    """What positions and counts of one table are kept under."""
    return f"{watch}/{table}/{scope}"


class TablePosition(msgspec.Struct, frozen=True):
    """How far one table was read; kept with what was made of its rows. Times by the database's clock, microseconds.

    Attributes:
        since_us: When it was looked at for the first time: rows created before that are known, and not counted.
        created_us: Every row created before this was found, or is `OLD`, unless its transaction was open for longer
            than is looked back.
        updated_us: Likewise for what was changed in rows, where the table says when.
        is_known: Whether the rows of before have been read.
    """

    since_us: int
    created_us: int
    updated_us: int
    is_known: bool = False


class Twin(NamedTuple):
    """A user with more than one active row, newest first.

    Attributes:
        user: The user's id.
        key: As of a row.
        sessions: The ids of these sessions, at most ten.
        created_us: When they were created; 0 where the table does not say.
        rows: How many there are.
    """

    user: str
    key: str
    sessions: tuple[str, ...]
    created_us: tuple[int, ...]
    rows: int


class Census(NamedTuple):
    """What was counted of one table at one moment.

    Attributes:
        at_us: When.
        active_rows: Rows that are active; None where the table does not say which are.
        duplicate_users: Users with more than one active row; None where that is no fault, or not to be told.
        twins: Some of these users, those with the newest rows first.
    """

    at_us: int
    active_rows: int | None
    duplicate_users: int | None
    twins: Sequence[Twin] = ()


class Findings(NamedTuple):
    """What one look at one table has brought.

    Attributes:
        watch: The name of the watch.
        table: The name of the table.
        scope: The kind of session that it keeps.
        rows: To be taken in before `position` is committed; may be none.
        position: How far it was read with these rows.
        seen_us: When, by the sidecar's clock.
        census: None when nothing was counted this time.
        look_us: For how long the look had gone on by then.
    """

    watch: str
    table: str
    scope: str
    rows: Sequence[Row]
    position: TablePosition
    seen_us: int
    census: Census | None = None
    look_us: int = 0


class WatchFigures(NamedTuple):
    """What is to be shown of one watch.

    Attributes:
        up: Whether its last look at every table succeeded.
        last_success_at_s: When it last succeeded, seconds since the epoch; 0 for never.
        errors: Failed looks, by reason: one of `REASONS`.
        rows: Rows handed over.
        clock_skew_s: The database's clock less this host's, seconds.
    """

    up: bool = False
    last_success_at_s: float = 0.0
    errors: Mapping[str, int] = {}
    rows: int = 0
    clock_skew_s: float = 0.0
