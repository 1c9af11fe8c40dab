"""Short names for the ids of one story, so that the same id is recognised at a glance."""

from collections.abc import Iterable
from string import ascii_uppercase
from typing import Final

from session_exporter.core.stories.dossier import Names
from session_exporter.core.stories.steps import Step, worker_text

DATABASE: Final = "database"


class Aliases(Names):
    """Names given in the order in which they are first asked for: sessions A, B; requests r1, r2; workers w1, w2."""

    def __init__(self) -> None:
        self._sessions: dict[str, str] = {}
        self._requests: dict[str, str] = {}
        self._workers: dict[str, str] = {}
        self._users: dict[str, str] = {}
        self._keys: dict[str, str] = {}
        self._processes: dict[str, str] = {}
        self._traces: dict[str, list[str]] = {}

    def session(self, session: str) -> str:
        """A, B, ..., Z, AA."""
        if not session:
            return super().session(session)
        return self._sessions.setdefault(session, _letters(len(self._sessions)))

    def request(self, request: str) -> str:
        """r1, r2, ..."""
        if not request:
            return super().request(request)
        return self._requests.setdefault(request, f"r{len(self._requests) + 1}")

    def user(self, user: str) -> str:
        """u1, u2, ..."""
        return self._users.setdefault(user, f"u{len(self._users) + 1}") if user else super().user(user)

    def key(self, key: str) -> str:
        """k1, k2, ...; `""` for none."""
        return self._keys.setdefault(key, f"k{len(self._keys) + 1}") if key else ""

    def worker(self, step: Step) -> str:
        """w1, w2, ...; or the database."""
        if step.is_unhooked:
            return DATABASE
        if not step.process:
            return super().worker(step)
        self._processes.setdefault(step.process, worker_text(step))
        return self._workers.setdefault(step.process, f"w{len(self._workers) + 1}")

    def request_of(self, step: Step) -> str:
        """The request of a step, or what its trace calls for one; `""` when neither is known."""
        known = step.request or step.trace
        if not known:
            return ""
        traces = self._traces.setdefault(known, [])
        if step.trace and step.trace not in traces:
            traces.append(step.trace)
        return self.request(known)

    def legend(self) -> list[str]:
        """What each name stands for, a line each."""
        entries = [*self._entries()]
        width = max((len(alias) for alias, _, _ in entries), default=0)
        return [f"{alias:<{width}}  {word:<7}  {meaning}" for alias, word, meaning in entries]

    def _entries(self) -> Iterable[tuple[str, str, str]]:
        yield from ((alias, "session", session) for session, alias in self._sessions.items())
        yield from ((alias, "request", self._traced(request)) for request, alias in self._requests.items())
        yield from ((alias, "worker", self._processes[process]) for process, alias in self._workers.items())
        yield from ((alias, "user", user) for user, alias in self._users.items())
        yield from ((alias, "key", key) for key, alias in self._keys.items())

    def _traced(self, request: str) -> str:
        traces = self._traces.get(request, [])
        named = [] if traces == [request] else [request]
        return "  ".join([*named, *(f"trace {trace}" for trace in traces[:3])])


def _letters(number: int) -> str:
    """A to Z, then AA to AZ, BA, ..., as spreadsheets call their columns."""
    text = ""
    number += 1
    while number:
        number, letter = divmod(number - 1, len(ascii_uppercase))
        text = ascii_uppercase[letter] + text
    return text
