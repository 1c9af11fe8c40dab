"""Which sessions have been idle for too long, without looking at all of them.

A session waits in a coarse bucket of time. When the bucket comes due, its sessions move to a heap that knows their
exact time, and those that were active meanwhile wait again from their last activity on. So a session costs two looks
per idle timeout, however many events it has, and still expires exactly on time.
"""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from session_exporter.core.records import Session

BUCKETS_PER_TIMEOUT = 64


class IdleQueue:
    """Sessions of one scope by the time when they may have expired.

    Args:
        timeout_us: How long a session may be idle; it has expired when it was idle for longer.
    """

    def __init__(self, timeout_us: int) -> None:
        self.timeout_us = timeout_us
        self._step_us = max(timeout_us // BUCKETS_PER_TIMEOUT, 1)
        self._buckets: dict[int, list[Session]] = {}
        self._order: list[int] = []
        self._soon: list[tuple[int, bytes, Session]] = []

    def add(self, session: Session) -> None:
        """Let a session wait from its last activity on."""
        number = (session.last_us + self.timeout_us) // self._step_us
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = []
            heappush(self._order, number)
        bucket.append(session)

    def may_be_due(self, now_us: int) -> bool:
        """Whether a look at `due` may be worth it."""
        soon, order = self._soon, self._order
        return bool((soon and soon[0][0] < now_us) or (order and order[0] * self._step_us < now_us))

    def due(self, now_us: int) -> Iterator[Session]:
        """Take out the sessions that have been idle for longer than the timeout at `now_us`, least recent first."""
        while self.may_be_due(now_us):
            if self._order and (not self._soon or self._order[0] * self._step_us <= self._soon[0][0]):
                self._open(heappop(self._order))
                continue
            expires_us, _, session = heappop(self._soon)
            if session.last_us + self.timeout_us == expires_us:
                yield session
            else:
                self.add(session)

    def least_recent(self) -> Session | None:
        """Take out the session that has been idle for longest; None when there is none."""
        while self._soon or self._order:
            if self._order and (not self._soon or self._order[0] * self._step_us <= self._soon[0][0]):
                self._open(heappop(self._order))
                continue
            expires_us, _, session = heappop(self._soon)
            if session.last_us + self.timeout_us == expires_us:
                return session
            self.add(session)
        return None

    def oldest_us(self) -> int | None:
        """A lower bound of the last activity of the session idle for longest; None when there is none."""
        candidates = [self._soon[0][0]] if self._soon else []
        if self._order:
            candidates.append(self._order[0] * self._step_us)
        return min(candidates) - self.timeout_us if candidates else None

    def _open(self, number: int) -> None:
        for session in self._buckets.pop(number):
            expires_us = session.last_us + self.timeout_us
            if expires_us // self._step_us > number:
                self.add(session)
            else:
                self._soon.append((expires_us, session.id, session))
        heapify(self._soon)
