"""`get_or_create_session`, twice: with the race in it, and repaired.

Both report to the tracker at the same places: after a lookup, after the commit of a create, after the commit of an end.
"""

import asyncio
from dataclasses import dataclass
from typing import Final, Protocol

from session_exporter.demo.store import CONVERSATION, PROGRESS_UPDATE, ChatDatabase, StoredSession
from session_exporter.tracker import SessionTracker

# SQLite answers in microseconds; the database of a real deployment is a network away.
ROUND_TRIP_S: Final = 0.02


class ProgressServiceError(Exception):
    """The injected failure between the two creates of a new user."""


class Outage:
    """In each worker, the progress service is down once for every user whose name ends in 8."""

    def __init__(self) -> None:
        self._suffered: set[str] = set()

    def strike(self, user: str) -> None:
        """Fail the first time that such a user comes by.

        Raises:
            ProgressServiceError: This is the time.
        """
        if user.endswith("8") and user not in self._suffered:
            self._suffered.add(user)
            raise ProgressServiceError(f"cannot start a progress update for {user}, please send the message again")


@dataclass(frozen=True, slots=True)
class UserSessions:
    """The sessions of one user, as a message finds them.

    Attributes:
        conversation: Id of the session in scope `conversation`.
        progress_update: Id of the session in scope `progress_update`.
        project: What the user picked in this conversation; None before.
    """

    conversation: str
    progress_update: str
    project: str | None


class SessionService(Protocol):
    """What the application asks of either implementation."""

    async def get_or_create_session(self, user: str) -> UserSessions:
        """Return the user's session, a new one when there is none.

        Raises:
            ProgressServiceError: The injected failure.
        """

    def end(self, session: UserSessions) -> None:
        """End a session whose user said goodbye."""


class _TrackedSessions:
    """What both implementations share: looking up, and ending."""

    def __init__(self, database: ChatDatabase, tracker: SessionTracker, outage: Outage) -> None:
        self._database = database
        self._tracker = tracker
        self._outage = outage

    async def _look_up(self, scope: str, user: str) -> StoredSession | None:
        await asyncio.sleep(ROUND_TRIP_S)
        row = self._database.find(scope, user)
        self._tracker.looked_up(user, row.id if row else None, scope=scope)
        return row

    def end(self, session: UserSessions) -> None:
        """End a session whose user said goodbye."""
        both = ((CONVERSATION, session.conversation), (PROGRESS_UPDATE, session.progress_update))
        with self._database.transaction():
            for scope, session_id in both:
                self._database.end(scope, session_id)
        for scope, session_id in both:
            self._tracker.ended(session_id, reason="user_request", scope=scope)


class RacySessions(_TrackedSessions):
    """Looks up, then inserts: right until two callers look up at once; and a failure halfway leaves an orphan."""

    async def get_or_create_session(self, user: str) -> UserSessions:
        """See `SessionService`."""
        conversation = await self._look_up(CONVERSATION, user)
        if conversation is None:
            conversation = await self._create(CONVERSATION, user)
            self._outage.strike(user)
        progress = await self._look_up(PROGRESS_UPDATE, user)
        if progress is None:
            progress = await self._create(PROGRESS_UPDATE, user, conversation.id)
        return UserSessions(conversation.id, progress.id, conversation.project)

    async def _create(self, scope: str, user: str, *conversation: str) -> StoredSession:
        await asyncio.sleep(ROUND_TRIP_S)  # whoever looks up meanwhile finds nothing either
        row = self._database.insert(scope, user, *conversation)
        self._tracker.created(user, row.id, scope=scope)
        return row


class RepairedSessions(_TrackedSessions):
    """Looks up, then inserts unless somebody was faster: a unique index decides, one transaction holds both creates."""

    async def get_or_create_session(self, user: str) -> UserSessions:
        """See `SessionService`."""
        conversation = await self._look_up(CONVERSATION, user)
        progress = await self._look_up(PROGRESS_UPDATE, user) if conversation else None
        if conversation is None or progress is None:
            conversation, progress = await self._create_both(user)
        return UserSessions(conversation.id, progress.id, conversation.project)

    async def _create_both(self, user: str) -> tuple[StoredSession, StoredSession]:
        await asyncio.sleep(ROUND_TRIP_S)
        with self._database.transaction():
            conversation, new_conversation = self._database.insert_unless_active(CONVERSATION, user)
            if new_conversation:
                self._outage.strike(user)
            progress, new_progress = self._database.insert_unless_active(PROGRESS_UPDATE, user, conversation.id)
        # Only now is it true.
        self._report(CONVERSATION, user, conversation, is_new=new_conversation)
        self._report(PROGRESS_UPDATE, user, progress, is_new=new_progress)
        return conversation, progress

    def _report(self, scope: str, user: str, row: StoredSession, *, is_new: bool) -> None:
        if is_new:
            self._tracker.created(user, row.id, scope=scope)
        else:  # somebody was faster, and the work goes on with theirs
            self._tracker.reused(user, row.id, scope=scope)
