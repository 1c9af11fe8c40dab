"""Real journal writers, with events whose times are chosen."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

from session_exporter.journal import JournalLimits, JournalWriter

CREATED: Final = 1
REUSED: Final = 2
SCOPE: Final = "conversation"
SITES: Final = (
    "app/services/session.py:41:SessionService.get_or_create_session",
    "app/handlers/message.py:112:MessageHandler.handle",
    "app/main.py:77:websocket_endpoint",
)
WIDE_LIMITS: Final = JournalLimits(worker_limit_bytes=1 << 34, directory_limit_bytes=1 << 34)

Fields = tuple[object, ...]


class Clock:
    """The time that the writers of one journal see; microseconds since the epoch."""

    def __init__(self, at_us: int) -> None:
        self.at_us = at_us

    def __call__(self) -> int:
        return self.at_us


def session_of(user: int) -> str:
    return str(UUID(int=(1 << 100) + user))


def user_of(user: int) -> str:
    return str(UUID(int=(2 << 100) + user))


def created(at_us: int, user: int) -> Fields:
    """The fields that `tracker.created` records outside of a request and a trace."""
    return (CREATED, at_us, SCOPE, session_of(user), user_of(user), "", "", b"", SITES)


def reused(at_us: int, user: int) -> Fields:
    """The fields that `tracker.reused` records outside of a request and a trace."""
    return (REUSED, at_us, SCOPE, session_of(user), user_of(user))


def bursts(users: int, users_per_burst: int, events_per_user: int) -> Iterator[tuple[int, int]]:
    """(user, how many events it had before), burst after burst; the users of a burst take turns."""
    for first in range(0, users, users_per_burst):
        for turn in range(events_per_user):
            for user in range(first, min(first + users_per_burst, users)):
                yield user, turn


def write_backlog(
    directory: Path, steps: Iterable[tuple[int, int]], *, begin_us: int, step_us: int, writers: int
) -> int:
    """Write one event per step, `step_us` apart, each by one of several writers; returns how many.

    A user's events are spread over all writers, as a load balancer would.
    """
    clock = Clock(begin_us)
    made = [JournalWriter(directory, limits=WIDE_LIMITS, clock_us=clock) for _ in range(writers)]
    count = 0
    for user, turn in steps:
        fields = reused(clock.at_us, user) if turn else created(clock.at_us, user)
        made[(user * 7 + turn * 3) % writers].append(fields)
        clock.at_us += step_us
        count += 1
    for writer in made:
        require_nothing_lost(writer)
        writer.close()
    return count


def require_nothing_lost(writer: JournalWriter) -> None:
    lost = writer.lost()
    if any(lost.values()):
        raise RuntimeError(f"a measurement that lost events is none: {lost}")


class Feeder:
    """Feeds a running sidecar through the default limits: waits whenever it has fallen behind."""

    def __init__(self, directory: Path, deadline_s: float = 600.0) -> None:
        self._directory = directory
        self._until_s = time.monotonic() + deadline_s
        self._writer = JournalWriter(directory)
        self._limit_bytes = JournalLimits().worker_limit_bytes // 2

    def append(self, fields: Fields) -> None:
        self._writer.append(fields)

    def make_room(self) -> None:
        """Wait until less than half of what one worker may leave unread is there."""
        while self._unread_bytes() > self._limit_bytes:
            if time.monotonic() > self._until_s:
                raise RuntimeError(f"{self._directory}: the sidecar does not drain the journal")
            time.sleep(0.01)

    def close(self) -> None:
        require_nothing_lost(self._writer)
        self._writer.close()

    def _unread_bytes(self) -> int:
        segments = [path for path in self._directory.iterdir() if path.suffix == ".seg"]
        return len(segments) * JournalLimits().segment_bytes
