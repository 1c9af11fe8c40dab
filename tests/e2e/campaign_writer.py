"""A worker of the kill campaign: records known events, and keeps its own books about them.

Each event is written to the log before it is recorded, with its time, and a line `.` after the call has returned. So
whenever this process is killed, all but the last event of the log are certain, and the last one may be in or out.

The worker ends when its standard input ends. Between its bursts it waits there.
"""

import itertools
import json
import os
import random
import select
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from session_exporter.core.scopes import END_REASONS
from session_exporter.tracker import SessionTracker

SCOPES = ("conversation", "draft", "undeclared")
USERS = 150
LIVE_MAX = 40
BURST_MAX = 12
PAUSE_MAX_S = 0.06


class Books:
    """The log, and the clock that the tracker reads: an event has the time that was written down for it."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self.now_ns = 0

    def intend(self, *event: object) -> None:
        self.now_ns = time.time_ns()
        os.write(self._fd, json.dumps([self.now_ns // 1000, *event]).encode() + b"\n")

    def done(self) -> None:
        os.write(self._fd, b".\n")


class Worker:
    """Records bursts of events about its own sessions and everybody's users."""

    def __init__(self, name: str, directory: str, books: Books) -> None:
        self._books = books
        self._tracker = SessionTracker(directory, clock_ns=lambda: books.now_ns)
        self._name = name
        self._chance = random.Random(name)
        self._numbers = itertools.count()
        self._live: list[tuple[str, str, str, str]] = []  # scope, user, key, session

    def burst(self) -> None:
        for _ in range(self._chance.randint(1, BURST_MAX)):
            self._work()

    def _work(self) -> None:
        kinds = ("create", "race", "reuse", "lookup", "miss", "observe", "request", "end", "lose")
        kind = self._chance.choices(kinds, (6, 3, 30, 10, 3, 4, 4, 5, 2))[0]
        if not self._live or len(self._live) > LIVE_MAX:
            kind = "end" if self._live else "create"
        getattr(self, f"_{kind}")()

    def _record(self, kind: str, whose: tuple[str, str, str], session: str, more: str = "", request: str = "") -> None:
        scope, user, key = whose
        track: Any = self._tracker
        self._books.intend(kind, scope, user, key, session, more, request)
        place = {"scope": scope, "key": key}
        if kind == "context_lost":
            track.context_lost(user, expected=session, actual=more, **place)
        elif kind == "ended":
            track.ended(session, user=user, reason=more, **place)
        else:
            getattr(track, kind)(user, session or None, **place)
        self._books.done()

    def _whose(self) -> tuple[str, str, str]:
        key = self._chance.choice(("", "", "", "phone"))
        return self._chance.choice(SCOPES), f"user-{self._chance.randrange(USERS)}", key

    def _new(self, whose: tuple[str, str, str], request: str = "") -> str:
        session = f"{self._name}-{next(self._numbers)}"
        self._record("created", whose, session, request=request)
        self._live.append((*whose, session))
        return session

    def _any(self) -> tuple[tuple[str, str, str], str]:
        scope, user, key, session = self._chance.choice(self._live)
        return (scope, user, key), session

    def _create(self) -> None:
        self._new(self._whose())

    def _race(self) -> None:
        whose = self._whose()
        for _ in range(self._chance.randint(2, 4)):
            self._new(whose)

    def _reuse(self) -> None:
        for _ in range(self._chance.randint(1, 8)):
            self._record("reused", *self._any())

    def _lookup(self) -> None:
        self._record("looked_up", *self._any())

    def _miss(self) -> None:
        self._record("looked_up", self._whose(), "")

    def _observe(self) -> None:
        self._record("observed", *self._any())

    def _request(self) -> None:
        """Look up, find nothing, create, and forget about it as often as chance has it."""
        name = f"request-{self._name}-{next(self._numbers)}"
        whose = self._whose()
        traced = self._chance.random() < 0.5
        context = self._tracker.request(user_id=whose[1], request_id=name) if traced else nullcontext()
        with context:
            for _ in range(self._chance.randint(1, 3)):
                self._record("looked_up", whose, "", request=name if traced else "")
                session = self._new(whose, name if traced else "")
            self._record("looked_up", whose, session, request=name if traced else "")

    def _end(self) -> None:
        *whose, session = self._live.pop(self._chance.randrange(len(self._live)))
        # A create after an end for this reason is no duplicate, which the books would have to know.
        reasons = [reason for reason in END_REASONS if reason != "rotated"]
        reason = self._chance.choice((*reasons, "a reason nobody declared"))
        self._record("ended", tuple(whose), session, reason)  # type: ignore[arg-type] # three texts remain

    def _lose(self) -> None:
        whose, session = self._any()
        self._record("context_lost", whose, session, "another")


def main(name: str, directory: str, log: str) -> None:
    worker = Worker(name, directory, Books(Path(log)))
    chance = random.Random(f"pauses of {name}")
    while not select.select([sys.stdin], [], [], chance.uniform(0, PAUSE_MAX_S))[0]:
        worker.burst()


if __name__ == "__main__":
    main(*sys.argv[1:])
