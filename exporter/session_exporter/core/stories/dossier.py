"""An incident's document, read for people.

A document may come from an older version, another program, or lie: what is missing or of another type reads as not
known, and no text that leaves this module can harm a terminal.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from session_exporter.core.plaintext import inert
from session_exporter.core.stories.steps import STEPS_MAX, Step, read_step, read_steps, text_of, worker_text
from session_exporter.core.stories.wording import deciding_depth

_REFUSALS: Final = ("conflicted", "create_failed")
_SIGHTS: Final = ("created", "observed")


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
    here, timeline = read_step(document), read_steps(document.get("timeline"))
    kind = inert(kind) or text_of(document.get("kind"))
    creates = _creates(document.get("creates"), here, _sights(timeline, kind))
    at_us = here.at_us or max((each.at_us for each in creates), default=0)
    texts = {name: text for name, value in list(document.items())[:STEPS_MAX] if (text := text_of(value))}
    return Dossier(
        id=text_of(document.get("id")),
        kind=kind,
        at_us=at_us,
        here=replace(here, at_us=at_us),
        steps=_in_order(_with_error(_told(timeline, creates), document.get("db_error"))),
        creates=_in_order(creates),
        is_told=bool(timeline),
        texts=texts,
        names=names or Names(),
    )


def _sights(timeline: list[Step], kind: str) -> dict[tuple[int, str], Step]:
    """What was told of creates; the database's own time of one is that of the beginning of its transaction."""
    is_of_rows = kind == "duplicate_active_user"
    return {(0 if is_of_rows else each.at_us, each.session): each for each in timeline if each.kind in _SIGHTS}


def _creates(value: Any, here: Step, seen: Mapping[tuple[int, str], Step]) -> list[Step]:
    creates = []
    for each in read_steps(value):
        # Where a create came from is forgotten after a while, by the ledger; the timeline may still know.
        known = each if each.process else seen.get((each.at_us, each.session)) or seen.get((0, each.session), each)
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
    error = read_step(value)
    if error.at_us and any(each.at_us == error.at_us and each.kind == error.kind for each in steps):
        return steps
    return [*steps, error if error.kind in _REFUSALS else replace(error, kind="database_error")]


def _in_order(steps: list[Step]) -> tuple[Step, ...]:
    return tuple(sorted(steps, key=lambda step: step.at_us))
