"""Threads that have a function of the database create sessions, whatever happens to the database."""

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from itertools import islice
from typing import Final
from uuid import UUID

import psycopg
from session_table import CALL, CONNECTIONS, users

INSERT: Final = "INSERT INTO conversation_sessions (subcontractor_id) VALUES (%s)"

CALLS_AT_ONCE: Final = 3
# Of a user, so that no ledger forgets any of their creates.
RACES: Final = 6
RETRY_AFTER_S: Final = 0.05
# So many users take turns that most races of one are more than a window apart.
CIRCLE: Final = 2_000


class FunctionCallers:
    """Calls until so many have returned, each over one of eight connections, and a few over ones that take their time.

    Users are called for three times at once, again and again, so that sessions are created beside each other, and end
    each other. Whether a call that failed has created a session, nobody knows but the table.

    Args:
        dsn: The database.
        calls: How many are to return.
        seed: Of chance.
        hold_s: For how long a transaction that takes its time is open at most; 0 for none of these.
    """

    def __init__(self, dsn: str, *, calls: int, seed: int, hold_s: float = 0.0) -> None:
        self.answered = 0
        self._calls = calls
        self._dsn = dsn
        self._hold_s = hold_s
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._circle = users(CIRCLE)
        self._work = islice(self._races(), calls)
        self._over = threading.Event()
        self._busy = [threading.Thread(target=self._call) for _ in range(CONNECTIONS)]
        self._slow = [threading.Thread(target=self._hold) for _ in range(2 if hold_s else 0)]

    @contextlib.contextmanager
    def calling(self) -> Iterator[None]:
        """Call, from now to the end of all calls."""
        for thread in (*self._busy, *self._slow):
            thread.start()
        try:
            yield
        finally:
            for thread in self._busy:
                thread.join()
            self._over.set()
            for thread in self._slow:
                thread.join()

    def share(self) -> float:
        """How much of the work is done, up to 1."""
        return self.answered / self._calls

    def is_over(self) -> bool:
        """Whether all calls have returned."""
        return not any(thread.is_alive() for thread in self._busy)

    def _call(self) -> None:
        with contextlib.ExitStack() as stack:
            connection = None
            while (user := self._next()) is not None:
                while True:
                    try:
                        connection = connection or stack.enter_context(self._connect())
                        connection.execute(CALL, (user,))
                        break
                    except psycopg.OperationalError:
                        connection = None
                        time.sleep(RETRY_AFTER_S)
                with self._lock:
                    self.answered += 1

    def _hold(self) -> None:
        """Create in one transaction after the other, each of which is open for long."""
        while not self._over.is_set():
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self._dsn) as connection:
                # Without ending what their user has: others would have to wait for that.
                connection.execute(INSERT, (self._chance.choice(self._circle),))
                self._over.wait(self._chance.uniform(0, self._hold_s))
                connection.execute(INSERT, users(1))
            self._over.wait(RETRY_AFTER_S)

    def _connect(self) -> contextlib.closing:
        return contextlib.closing(psycopg.connect(self._dsn, autocommit=True))

    def _next(self) -> UUID | None:
        with self._lock:
            return next(self._work, None)

    def _races(self) -> Iterator[UUID]:
        """Users, each in races of three calls, of which each has some."""
        while True:
            self._circle = users(CIRCLE)
            turns = self._circle * RACES
            self._chance.shuffle(turns)
            for user in turns:
                yield from [user] * CALLS_AT_ONCE
