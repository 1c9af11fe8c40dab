"""What an audit has found, with the ids as the database has them: for whoever shows it to decide what becomes of them.

All times are microseconds, those of the clock by the database's since the Unix epoch.
"""

from collections.abc import Sequence
from typing import NamedTuple


class AuditedSession(NamedTuple):
    """A session, and when it was created; None when the table does not say."""

    id: str
    created_us: int | None


class CrowdedUser(NamedTuple):
    """A user (and key) with more than one active session; of these at most ten, the newest first."""

    user: str
    key: str
    rows: int
    sessions: Sequence[AuditedSession]


class ActiveFindings(NamedTuple):
    """What is active now.

    Attributes:
        rows: Active rows, also those without a user.
        users: Users (and keys) with more than one.
        surplus: How many rows would be left over if each of these had one.
        worst: The users with the most, at most ten.
    """

    rows: int
    users: int
    surplus: int
    worst: Sequence[CrowdedUser]


class RapidDay(NamedTuple):
    """What happened on one day (UTC, such as `2026-11-21`)."""

    day: str
    duplicates: int
    users: int


class RapidUser(NamedTuple):
    """A user with rapid duplicates."""

    user: str
    duplicates: int
    smallest_gap_us: int


class RapidPair(NamedTuple):
    """Two sessions that follow each other."""

    user: str
    key: str
    first: AuditedSession
    second: AuditedSession
    gap_us: int


class CreateHistory(NamedTuple):
    """What the times of creation say.

    Attributes:
        creates: Rows of the period with a user and a time.
        first_us: The oldest of them; None without any.
        last_us: The newest.
        duplicates: Creates less than the window after another one of their user (and key).
        users: Users who had some.
        days: Those with duplicates, ascending.
        worst: The users with the most, at most ten.
        smallest: The smallest gaps, at most ten; all of duplicates.
        intervals: Between creates of one user (and key), per bound of `INTERVAL_BUCKETS_S` and one for what is beyond;
            not cumulative.
    """

    creates: int
    first_us: int | None
    last_us: int | None
    duplicates: int
    users: int
    days: Sequence[RapidDay]
    worst: Sequence[RapidUser]
    smallest: Sequence[RapidPair]
    intervals: Sequence[int]


class Guards(NamedTuple):
    """The indexes that matter.

    Attributes:
        unique: The name of a unique index that refuses a second active row; `""` when there is none.
        invalid: The name of one that would, if it were valid: what an interrupted CREATE INDEX CONCURRENTLY leaves.
        created_at: The name of an index that begins with the time of creation; `""` when there is none.
    """

    unique: str = ""
    invalid: str = ""
    created_at: str = ""


class Remedy(NamedTuple):
    """SQL for the owner of the database to run; texts of one or more statements.

    Attributes:
        look: Shows what would be ended.
        clean_up: Ends all active rows of each user (and key) but the newest; `""` where that takes a decision.
        guard: Makes the database refuse a second active row; `""` when it does so already.
        notes: What to know before.
    """

    look: str
    clean_up: str
    guard: str
    notes: Sequence[str] = ()


class TableAudit(NamedTuple):
    """What was found of one table.

    Attributes:
        table: Its name, as the mapping has it.
        scope: The kind of session that it keeps.
        window_us: What a rapid duplicate is less than.
        is_many: Whether users may have many sessions of this scope.
        problem: Why it could not be read; `""` when it could.
        gaps: What could not be told, and what is missing for it.
        rows: All rows; of messages, sessions.
        without_user: Rows without a user.
        undated: Rows without a time of creation.
        active: None when it cannot be told.
        history: None when it cannot be told.
        guards: None when there is nothing to guard.
        remedy: None when there is nothing to do.
    """

    table: str
    scope: str
    window_us: int
    is_many: bool = False
    problem: str = ""
    gaps: Sequence[str] = ()
    rows: int = 0
    without_user: int = 0
    undated: int = 0
    active: ActiveFindings | None = None
    history: CreateHistory | None = None
    guards: Guards | None = None
    remedy: Remedy | None = None

    @property
    def is_told(self) -> bool:
        """Whether it can be told at all if the race is here; where users may have many sessions, it is no race."""
        return not self.problem and (self.is_many or self.active is not None or self.history is not None)

    @property
    def is_found(self) -> bool:
        """Whether the race has left its traces here."""
        return bool(self.active and self.active.users) or bool(self.history and self.history.duplicates)
