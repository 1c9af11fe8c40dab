"""An incident's document, read for people.

A document may come from an older version, another program, or lie: what is missing or of another type reads as not
known, and no text that leaves this module can harm a terminal.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any, Final

from session_exporter.core.events import ID_BYTES_MAX, SITE_CHARS_MAX, SITES_MAX, TIME_MAX_US, WATCH
from session_exporter.core.plaintext import inert
from session_exporter.core.stories.wording import deciding_depth, moment_us

STEPS_MAX: Final = 500
_ORIGINS: Final = {"": "result", "0": "result", "1": "upsert", "2": "row"}
_MISSES: Final = {"0": "other_used", "1": "missed_by_user", "2": "missed_by_id"}
_REFUSALS: Final = ("conflicted", "create_failed")
_SIGHTS: Final = ("created", "observed")
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


class Names:
    """How ids are called in sentences: as the document has them."""

    def session(self, session: str) -> str:
        """A session."""
        return session or "a session"

    def request(self, request: str) -> str:
        """A request."""
        return request or "no known request"

    def user(self, user: str) -> str:
        """A user."""
        return user or "no known user"

    def worker(self, step: Step) -> str:
        """A worker process."""
        return worker_text(step) or "no known worker"


@dataclass(frozen=True, slots=True)
class Dossier:
    """All that is known of one incident.

    Attributes:
        id: Of the incident.
        kind: One of `incidents.INCIDENT_KINDS`, if this version knows it.
        at_us: When it happened.
        here: Where it happened, and to whom.
        steps: What happened around it, oldest first.
        creates: Of a duplicate: the creates that came too close to each other, the duplicate last.
        is_told: Whether events around it were kept.
        texts: What else the document says, by name.
        names: How ids are called.
    """

    id: str
    kind: str
    at_us: int
    here: Step
    steps: tuple[Step, ...]
    creates: tuple[Step, ...]
    is_told: bool
    texts: Mapping[str, str]
    names: Names = field(default_factory=Names)

    @property
    def scope(self) -> str:
        """The scope, for a sentence."""
        return self.here.scope or "this scope"

    def of_request(self, step: Step) -> list[Step]:
        """The steps of the request of a step, in its scope; none when it is not known."""
        return [each for each in self._here() if step.request and each.request == step.request]

    def of_session(self, session: str) -> list[Step]:
        """The steps of a session."""
        return [each for each in self.steps if session and each.session == session]

    def lookups(self) -> list[Step]:
        """The lookups in the scope of the incident."""
        return [each for each in self._here() if each.is_lookup]

    def at(self, step: Step) -> str:
        """` at <call site>`, with who called it where only that tells it from others; `""` where it is not known."""
        if not step.sites:
            return ""
        depth = deciding_depth([step.sites, *(each.sites for each in self.steps if each.site == step.site)])
        caller = f" from {step.sites[depth]}" if 0 < depth < len(step.sites) else ""
        return f" at {step.site}{caller}"

    def where(self, step: Step) -> str:
        """The same, shorter, for what is to be done there; the request where no call site is known."""
        if step.site:
            return f" at {step.site}"
        return f" in request {self.names.request(step.request)}" if step.request else ""

    def _here(self) -> Iterable[Step]:
        return (each for each in self.steps if not each.scope or each.scope == self.here.scope)


def read_dossier(document: Mapping[str, Any], kind: str = "", names: Names | None = None) -> Dossier:
    """Read a document of `/api/v1/incidents`, or the detail of an incident; this never raises.

    Args:
        document: Whatever it holds.
        kind: The incident's kind; `""` when the document says it.
        names: How ids are to be called; None for as they are.
    """
    here, timeline = _step(document), _steps(document.get("timeline"))
    creates = _creates(document.get("creates"), here, timeline)
    at_us = here.at_us or max((each.at_us for each in creates), default=0)
    texts = {name: text for name, value in list(document.items())[:STEPS_MAX] if (text := _text(value))}
    return Dossier(
        id=_text(document.get("id")),
        kind=inert(kind) or _text(document.get("kind")),
        at_us=at_us,
        here=replace(here, at_us=at_us),
        steps=_in_order(_with_error(_told(timeline, creates), document.get("db_error"))),
        creates=_in_order(creates),
        is_told=bool(timeline),
        texts=texts,
        names=names or Names(),
    )


def worker_text(step: Step) -> str:
    """Name a worker process as its host knows it: `10@pod-a`."""
    name = str(step.pid) if step.pid else step.worker
    return f"{name}@{step.replica}" if step.replica and not step.is_unhooked else name


def _creates(value: Any, here: Step, timeline: list[Step]) -> list[Step]:
    seen = {(each.at_us, each.session): each for each in timeline if each.kind in _SIGHTS}
    creates = []
    for each in _steps(value):
        # Where a create came from is forgotten after a while, by the ledger; the timeline may still know.
        known = each if each.process else seen.get((each.at_us, each.session), each)
        judged = "adopted" if each.note.get("adopted") else "created"
        kind = "observed" if judged == "adopted" else "created"
        creates.append(replace(known, kind=kind, judged=judged, scope=here.scope, user=known.user or here.user))
    return creates


def _told(steps: list[Step], creates: list[Step]) -> list[Step]:
    """The steps of a timeline, and those of the creates that are not on it."""
    judged = {(each.at_us, each.session): each.judged for each in creates}
    told = [
        replace(each, judged=judged[each.at_us, each.session])
        if each.kind in _SIGHTS and (each.at_us, each.session) in judged
        else each
        for each in steps
    ]
    known = {(each.at_us, each.session) for each in told if each.judged}
    return [*told, *(each for each in creates if (each.at_us, each.session) not in known)]


def _with_error(steps: list[Step], value: Any) -> list[Step]:
    """These steps, and the database error before the incident unless it is one of them."""
    if not isinstance(value, Mapping):
        return steps
    error = _step(value)
    if error.at_us and any(each.at_us == error.at_us and each.kind == error.kind for each in steps):
        return steps
    return [*steps, error if error.kind in _REFUSALS else replace(error, kind="database_error")]


def _in_order(steps: list[Step]) -> tuple[Step, ...]:
    return tuple(sorted(steps, key=lambda step: step.at_us))


def _steps(value: Any) -> list[Step]:
    if not isinstance(value, list | tuple):
        return []
    return [_step(each) for each in value[-STEPS_MAX:] if isinstance(each, Mapping)]


def _step(value: Mapping[str, Any]) -> Step:
    note, sites = value.get("note"), value.get("call_sites")
    words = {name: _text(value.get(name)) for name in _WORDS}
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
    return tuple(text for each in value[:SITES_MAX] if (text := _text(each, SITE_CHARS_MAX)))


def _note(value: Mapping[str, Any]) -> dict[str, str]:
    return {name: _text(word) for name, word in list(value.items())[:STEPS_MAX]}


def _time_us(value: Mapping[str, Any]) -> int:
    at, at_us = value.get("at"), value.get("at_us")
    if isinstance(at, str):
        at_us = moment_us(at)
    return at_us if isinstance(at_us, int) and 0 < at_us <= TIME_MAX_US else 0


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _INT_MAX else 0


def _text(value: Any, chars_max: int = ID_BYTES_MAX) -> str:
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
