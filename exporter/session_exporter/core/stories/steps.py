"""One event of a story, read from whatever a document says.

What is missing or of another type reads as not known, and no text that leaves this module can harm a terminal.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final

from session_exporter.core.events import ID_BYTES_MAX, SITE_CHARS_MAX, SITES_MAX, TIME_MAX_US, WATCH
from session_exporter.core.plaintext import inert
from session_exporter.core.stories.wording import moment_us

STEPS_MAX: Final = 500
_ORIGINS: Final = {"": "result", "0": "result", "1": "upsert", "2": "row"}
_MISSES: Final = {"0": "other_used", "1": "missed_by_user", "2": "missed_by_id"}
_WORDS: Final = ("kind", "scope", "session", "user", "key", "request", "trace", "worker", "replica")
_INT_MAX: Final = 2**63


@dataclass(frozen=True, slots=True)
class Step:
    """One event of the story; texts are `""` and times 0 when they are not known.

    Attributes:
        at_us: Event time.
        kind: What happened, as `events.KINDS` calls it, or `database_error` where nobody knows more.
        sites: Call sites, innermost first.
        note: What else matters, by name; `""` for no and `yes` for yes.
        judged: `created` or `adopted` for a step that the incident counts as such.
    """

    at_us: int = 0
    kind: str = ""
    scope: str = ""
    session: str = ""
    user: str = ""
    key: str = ""
    request: str = ""
    trace: str = ""
    worker: str = ""
    pid: int = 0
    replica: str = ""
    sites: tuple[str, ...] = ()
    note: Mapping[str, str] = field(default_factory=dict)
    judged: str = ""

    @property
    def site(self) -> str:
        """The innermost call site."""
        return self.sites[0] if self.sites else ""

    @property
    def origin(self) -> str:
        """How a session came to be observed: `result`, `upsert` or `row`."""
        origin = self.note.get("origin", "")
        return _ORIGINS.get(origin, origin.lower())

    @property
    def missed(self) -> str:
        """How a request did not get what it expected: `other_used`, `missed_by_user` or `missed_by_id`."""
        missed = self.note.get("missed", "")
        return _MISSES.get(missed, missed.lower())

    @property
    def is_lookup(self) -> bool:
        """Whether the application asked for a session."""
        return self.kind == "looked_up" or (self.kind == "observed" and self.origin == "result")

    @property
    def is_miss(self) -> bool:
        """Whether it asked for one and there was none."""
        return self.kind == "looked_up" and not self.session

    @property
    def error(self) -> str:
        """What went wrong in the database; `""` when nothing did."""
        if self.kind not in ("db_session", "database_error"):
            return ""
        return self.note.get("label") or self.note.get("last_error") or self.note.get("errors") or ""

    @property
    def is_unhooked(self) -> bool:
        """Whether nobody but the database told of it."""
        return self.worker == WATCH

    @property
    def reason(self) -> str:
        """Why it ended, or failed."""
        return self.note.get("reason") or "other"

    @property
    def process(self) -> str:
        """What tells worker processes apart."""
        return self.worker or (f"{self.pid}@{self.replica}" if self.pid or self.replica else "")


def worker_text(step: Step) -> str:
    """Name a worker process as its host knows it: `10@pod-a`."""
    name = str(step.pid) if step.pid else step.worker
    return f"{name}@{step.replica}" if step.replica and not step.is_unhooked else name


def read_steps(value: Any) -> list[Step]:
    """Read a list of events; the last ones of one that is too long."""
    if not isinstance(value, list | tuple):
        return []
    return [read_step(each) for each in value[-STEPS_MAX:] if isinstance(each, Mapping)]


def read_step(value: Mapping[str, Any]) -> Step:
    """Read one event; of what says more than that, only what an event has."""
    note, sites = value.get("note"), value.get("call_sites")
    words = {name: text_of(value.get(name)) for name in _WORDS}
    return Step(
        at_us=_time_us(value),
        pid=_count(value.get("pid")),
        sites=_sites(sites),
        note=_note(note if isinstance(note, Mapping) else value),
        **words,
    )


def _sites(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        return ()
    return tuple(text for each in value[:SITES_MAX] if (text := text_of(each, SITE_CHARS_MAX)))


def _note(value: Mapping[str, Any]) -> dict[str, str]:
    return {name: text_of(word) for name, word in list(value.items())[:STEPS_MAX]}


def _time_us(value: Mapping[str, Any]) -> int:
    at, at_us = value.get("at"), value.get("at_us")
    if isinstance(at, str):
        at_us = moment_us(at)
    return at_us if isinstance(at_us, int) and 0 < at_us <= TIME_MAX_US else 0


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _INT_MAX else 0


def text_of(value: Any, chars_max: int = ID_BYTES_MAX) -> str:
    """Any value as a text that can be shown; `""` for what is no single value."""
    if not value and value != 0:  # as most fields are
        return ""
    match value:
        case str():
            return inert(value, chars_max)
        case bool():
            return "yes" if value else ""
        case int() if abs(value) < _INT_MAX:
            return str(value)
        case float() if isfinite(value):
            return f"{value:g}"
    return ""
