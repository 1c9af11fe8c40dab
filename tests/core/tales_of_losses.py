"""Sessions that were expected, and what came instead."""

from typing import Any

from ledgers import NEIGHBOUR, Book, at
from tales import ACTION, DATABASE, HANDLER, LOSS, PIPELINE, by, successors, tale, tale_without_trail

from session_exporter.core import events as wire


def missed(book: Book, at_s: float, session: str, *, by_id: bool = True, **place: Any) -> None:
    """A request looks a session up, finds none, and is over 100 ms later."""
    book.looked_up(at_s, asked=session if by_id else "", **place)
    how = wire.MISSED_BY_ID if by_id else wire.MISSED_BY_USER
    book.tell(wire.Unmet, at_s + 0.1, session, missed=how, since_us=at(at_s), **place)


def switched(book: Book, since_s: float, session: str, actual: str, **more: Any) -> None:
    """A request that used another session is over 100 ms later."""
    told = {"missed": wire.OTHER_USED, "since_us": at(since_s), "actual": actual, **more}
    book.tell(wire.Unmet, since_s + 0.1, session, **told)


# Not found.


@tale
def a_live_session_is_not_found_by_another_worker(book: Book) -> str:
    book.created(1, "a", request="q1", sites=by(PIPELINE, line=47))
    book.looked_up(40, "a", request="q2", sites=by(HANDLER))
    missed(book, 41.5, "a", request="q3", sites=by(HANDLER), writer=NEIGHBOUR)
    return LOSS


@tale
def a_young_session_is_not_found(book: Book) -> str:
    book.created(1, "a", request="q1", sites=by(PIPELINE, line=47))
    missed(book, 1.03, "a", by_id=False, request="q2", sites=by(HANDLER), writer=NEIGHBOUR)
    return LOSS


@tale
def a_session_is_found_again_a_moment_later(book: Book) -> str:
    book.created(1, "a", request="q1", sites=by(PIPELINE, line=47))
    book.observed(30, "a", origin=wire.UPSERT, sites=by(HANDLER, line=63))
    missed(book, 60, "a", request="q2", sites=(ACTION,))
    book.looked_up(60.25, "a", request="q3", sites=by(HANDLER), writer=NEIGHBOUR)
    return LOSS


@tale
def a_session_is_not_found_and_nobody_knows_why(book: Book) -> str:
    book.created(1, "a", request="q1", sites=by(PIPELINE, line=47))
    missed(book, 300, "a", request="q2", sites=by(HANDLER))
    return LOSS


@tale
def a_session_is_deleted_after_it_was_missed(book: Book) -> str:
    book.created(1, "a", request="q1", sites=by(PIPELINE, line=47))
    missed(book, 30, "a", request="q2", sites=by(HANDLER))
    book.ended(30.3, "a", "deleted", "ann", request="q3", writer=NEIGHBOUR)
    return LOSS


@tale
def a_session_is_ended_in_the_database_after_it_was_missed(book: Book) -> str:
    book.created(1, "a", request="q1", sites=by(PIPELINE, line=47))
    missed(book, 30, "a", request="q2", sites=by(HANDLER))
    book.ended(30.3, "a", "completed", writer=DATABASE)
    return LOSS


@tale_without_trail
def a_session_is_not_found_and_no_events_are_kept(book: Book) -> str:
    a_live_session_is_not_found_by_another_worker(book)
    return LOSS


# Another one used.


@tale
def the_newest_session_is_used_instead_of_the_expected_one(book: Book) -> str:
    book.created(1, "a", key="phone", request="q1", sites=by(PIPELINE, line=47))
    book.created(15, "b", key="desk", request="q2", sites=by(ACTION, line=47), writer=NEIGHBOUR)
    book.reused(20, "a", key="phone", request="q3")
    book.looked_up(25, "b", key="phone", request="q4", sites=by(HANDLER))
    switched(book, 25, "a", "b", key="phone", request="q4", sites=by(HANDLER))
    return LOSS


@tale
def a_session_is_created_instead_of_the_expected_one(book: Book) -> str:
    book.created(1, "a", key="phone", request="q1", sites=by(PIPELINE, line=47))
    book.created(25, "b", key="desk", request="q2", sites=by(HANDLER, line=47))
    switched(book, 25, "a", "b", key="desk", request="q2", sites=by(HANDLER, line=47))
    return LOSS


@tale
def a_request_of_two_scopes_uses_another_session(book: Book) -> str:
    book.created(1, "a", key="phone", request="q1", sites=by(PIPELINE, line=47))
    book.looked_up(24, "t", scope="thread", request="q2", sites=("app/threads.py:19:ThreadStore.get",))
    book.tell(wire.Reused, 25, "b", key="desk", request="q2")
    switched(book, 25, "a", "b", key="desk", request="q2", shared=True)
    return LOSS


# Another one took over.


@tale
def a_database_function_replaces_an_active_session(book: Book) -> str:
    successors(book)
    return LOSS


@tale
def an_active_session_is_replaced_and_not_ended(book: Book) -> str:
    book.created(1, "a", request="q1", sites=by(PIPELINE, line=47))
    book.reused(30, "a", request="q2")
    book.looked_up(44.9, request="q3", sites=by(HANDLER), writer=NEIGHBOUR)
    book.created(45, "b", request="q3", sites=by(HANDLER, line=47), writer=NEIGHBOUR)
    return LOSS


@tale
def an_active_session_is_replaced_and_nobody_looked(book: Book) -> str:
    book.created(1, "a", request="q1", sites=by(PIPELINE, line=47))
    book.created(45, "b", request="q3", sites=by(HANDLER, line=47), writer=NEIGHBOUR)
    return LOSS


@tale
def an_active_session_is_ended_and_replaced(book: Book) -> str:
    book.created(1, "a", request="q1", sites=by(PIPELINE, line=47))
    book.looked_up(44.8, "a", request="q3", sites=by(HANDLER))
    book.ended(44.9, "a", "deleted", "ann", request="q3")
    book.created(48, "b", request="q4", sites=by(HANDLER, line=47))
    return LOSS


@tale
def a_session_is_ended_in_the_database_and_replaced_by_the_application(book: Book) -> str:
    book.created(1, "a", request="q1", sites=by(PIPELINE, line=47))
    book.ended(44.9, "a", "completed", writer=DATABASE)
    book.created(45, "b", request="q4", sites=by(HANDLER, line=47))
    return LOSS


@tale
def a_session_begins_anew_under_its_id(book: Book) -> str:
    book.created(1, "a", request="q1", generation="task 1", sites=by(PIPELINE, line=47))
    book.created(45, "a", request="q2", generation="task 2", sites=by(HANDLER, line=47))
    return LOSS


@tale_without_trail
def an_active_session_is_replaced_and_no_events_are_kept(book: Book) -> str:
    an_active_session_is_ended_and_replaced(book)
    return LOSS


# Reported.


@tale
def the_application_reports_a_loss(book: Book) -> str:
    book.created(1, "a", request="q1", sites=by(PIPELINE, line=47))
    book.context_lost(30, "a", "a greeting", request="q2", sites=(HANDLER,))
    return LOSS


@tale
def the_application_reports_the_loss_of_a_session_that_ended(book: Book) -> str:
    book.created(1, "a", request="q1", sites=by(PIPELINE, line=47))
    book.ended(29, "a", "escalated", "ann", request="q2")
    book.context_lost(30, "a", "", request="q3", sites=(HANDLER,), writer=NEIGHBOUR)
    return LOSS


@tale
def the_application_reports_a_loss_after_a_race_of_one_request(book: Book) -> str:
    for at_s, caller in ((1.0, PIPELINE), (1.004, HANDLER), (1.006, ACTION)):
        book.looked_up(at_s, request="q1", sites=by(caller))
    for at_s, session, caller in ((1.03, "a", PIPELINE), (1.041, "b", HANDLER), (1.055, "c", ACTION)):
        book.created(at_s, session, request="q1", sites=by(caller, line=47))
    book.looked_up(2, "b", request="q2", sites=by(HANDLER), writer=NEIGHBOUR)
    book.context_lost(2.1, "a", "b", request="q2", sites=(HANDLER,), writer=NEIGHBOUR)
    return LOSS


@tale
def the_application_reports_a_loss_after_a_race_of_two_workers(book: Book) -> str:
    book.looked_up(1, request="q1", sites=by(PIPELINE))
    book.looked_up(1.03, request="q2", sites=by(HANDLER), writer=NEIGHBOUR)
    book.created(1.0434, "a", request="q1", sites=by(PIPELINE, line=47))
    book.created(1.1596, "b", request="q2", sites=by(HANDLER, line=47), writer=NEIGHBOUR)
    book.context_lost(2.1, "b", "a", request="q3", sites=(HANDLER,))
    return LOSS
