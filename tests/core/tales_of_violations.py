"""Sessions that crossed a border, and ids of the wrong format."""

from typing import Any

from ledgers import NEIGHBOUR, Book
from tales import ACTION, HANDLER, INVALID, PIPELINE, VIOLATION, by, tale

from session_exporter.core import events as wire

# Sessions of the application.


@tale
def a_lookup_by_id_finds_the_session_of_another_user(book: Book) -> str:
    book.created(1, "a", "ann", request="q1", sites=by(PIPELINE, line=47))
    book.looked_up(5, "a", "ann", request="q2", sites=by(HANDLER))
    book.looked_up(6.2, "a", "bob", request="q3", sites=by(HANDLER), writer=NEIGHBOUR)
    return VIOLATION


@tale
def a_create_takes_the_id_of_a_session_of_another_user(book: Book) -> str:
    book.created(1, "a", "ann", request="q1", sites=by(PIPELINE, line=47))
    book.created(3, "a", "bob", request="q2", sites=by(HANDLER, line=47))
    return VIOLATION


@tale
def a_session_is_used_on_for_another_user(book: Book) -> str:
    book.created(1, "a", "ann", request="q1", sites=by(PIPELINE, line=47))
    book.reused(3, "a", "bob", request="q2")
    return VIOLATION


@tale
def one_request_uses_a_session_for_two_users(book: Book) -> str:
    book.looked_up(0.9, "a", "ann", request="q1", sites=by(PIPELINE))
    book.reused(1, "a", "ann", request="q1")
    book.looked_up(1.5, "a", "system", request="q1", sites=(ACTION,))
    return VIOLATION


@tale
def an_id_is_that_of_many_users(book: Book) -> str:
    for number, user in enumerate(("ann", "bob", "cleo", "dan")):
        book.created(1 + number, "1", user, request=f"q{number}", sites=by(PIPELINE, line=47))
    return VIOLATION


# Database sessions.

ERRORS = {"errors": {"state": 1}, "last_error": "PendingRollbackError", "outcome": "error"}
OPENED = ("app/database.py:12:open_session", "app/main.py:9:startup")


def violated(book: Book, at_s: float, kind: str, **more: Any) -> None:
    book.tell(wire.Violated, at_s, "use-1", kind=kind, **more)


@tale
def a_database_session_serves_two_users(book: Book) -> str:
    place = {"request": "q2", "other_request": "q1", "sites": by(HANDLER)}
    violated(book, 5, "db_session_of_two_users", user="bob", other_user="ann", **place)
    return VIOLATION


@tale
def a_database_session_goes_on_into_the_next_request(book: Book) -> str:
    place = {"request": "q2", "other_request": "q1", "sites": by(HANDLER)}
    violated(book, 5, "db_session_crossed_requests", **place)
    book.tell(wire.DbSession, 9, "use-1", request="q1", sites=OPENED, **ERRORS)
    return VIOLATION


@tale
def a_database_session_is_used_by_two_tasks(book: Book) -> str:
    violated(book, 5, "db_session_crossed_tasks", request="q1", sites=by(HANDLER))
    return VIOLATION


@tale
def a_database_session_outlives_its_request(book: Book) -> str:
    violated(book, 5, "db_session_outlived_request", request="q1")
    return VIOLATION


# Ids.

FACTORY = ("app/ids.py:14:new_thread_id", "app/pipeline.py:31:Pipeline.run")
STORE = ("app/threads.py:19:ThreadStore.get", HANDLER)
CANONICAL = "thread_create_session_1757362890388_208_da48bfda"


@tale
def a_thread_is_asked_for_in_another_format(book: Book) -> str:
    book.created(1, CANONICAL, scope="thread", request="q1", sites=FACTORY)
    book.tell(wire.Identified, 4, "", thread="thread-208-da48bfda", request="q2", writer=NEIGHBOUR)
    book.looked_up(4.1, asked="thread-208-da48bfda", request="q2", sites=STORE, scope="thread", writer=NEIGHBOUR)
    return INVALID


@tale
def a_thread_is_created_in_another_format(book: Book) -> str:
    book.created(1, "thread-208-da48bfda", scope="thread", request="q1", sites=FACTORY)
    return INVALID


@tale
def a_request_names_a_thread_in_another_format(book: Book) -> str:
    book.tell(wire.Identified, 4, "", thread="208", request="q2")
    return INVALID
