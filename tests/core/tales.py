"""Incidents as they happen, judged by the ledger: the documents that explanations are made from."""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec
from ledgers import Book

from session_exporter.core import events as wire
from session_exporter.core.documents import incident_document
from session_exporter.core.ids import IdFormat
from session_exporter.core.incidents import INCIDENT_KINDS
from session_exporter.core.scopes import ScopeRules
from session_exporter.core.stories.wording import moment_us

TRACE: Final = bytes(range(16))
DATABASE: Final = wire.Writer(wire.WATCH, "pod-a")
DUPLICATE, LOSS, VIOLATION, INVALID, SEVERAL = INCIDENT_KINDS

Tale: TypeAlias = Callable[[Book], str]
TALES: Final[dict[str, Callable[[], dict[str, Any]]]] = {}


def tale(function: Tale) -> Tale:
    """Keep a function that tells a book what happened, and returns the kind of the incident that it is about."""
    TALES[function.__name__] = lambda: _judged(function, trail=True)
    return function


def tale_without_trail(function: Tale) -> Tale:
    """The same, of an installation that keeps no events."""
    TALES[function.__name__] = lambda: _judged(function, trail=False)
    return function


def document_of(name: str) -> dict[str, Any]:
    """The document of the incident that a tale is about, the last of its kind, as the API has it."""
    return TALES[name]()


def _judged(function: Tale, *, trail: bool) -> dict[str, Any]:
    rules = {"thread": ScopeRules("thread", id_formats={"session": IdFormat("unified", kind="thread")})}
    formats = {"thread": IdFormat("unified", kind="thread")}
    book = Book(show_ids=False, trail=trail, scopes=rules, id_formats=formats)
    kind = function(book)
    book.judged()
    told = [each for each in book.incidents if each.kind == kind][-1]
    detail = msgspec.json.decode(msgspec.json.encode(told.detail))
    return incident_document(told.id, told.kind, told.at_us, told.scope, detail)


def clock(time: str) -> float:
    """A time of day, as seconds since the start of the book, which is at eight."""
    return (moment_us(f"2027-01-15T{time}") - moment_us("2027-01-15T08:00:00")) / 1e6


def by(*callers: str, line: int = 41) -> tuple[str, ...]:
    """Call sites of one function that everybody calls."""
    return (f"app/sessions.py:{line}:SessionService.get_or_create", *callers)


PIPELINE: Final = "app/pipeline.py:31:Pipeline.run"
HANDLER: Final = "app/handlers.py:58:MessageHandler.handle"
ACTION: Final = "app/actions.py:77:Action.perform"


def successors(book: Book) -> None:
    """An active session, and a function in the database that makes two others of it."""
    book.created(clock("20:39:02.100"), "s1", request="q1", sites=by(PIPELINE, line=47))
    book.looked_up(clock("20:39:17.463"), "s1", request="q2", sites=by(HANDLER))
    for at, before, session in (("20:39:24.532", "s1", "s2"), ("20:39:24.648", "s2", "s3")):
        book.ended(clock(at), before, "completed", writer=DATABASE)
        book.created(clock(at), session, writer=DATABASE)
