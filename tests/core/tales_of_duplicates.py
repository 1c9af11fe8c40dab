"""Two sessions of one user within the window."""

from ledgers import NEIGHBOUR, REMOTE, WORKER, Book
from tales import ACTION, DUPLICATE, HANDLER, PIPELINE, TRACE, by, clock, successors, tale, tale_without_trail

from session_exporter.core import events as wire

# Rapid duplicates of one request.


@tale
def three_sessions_of_one_request(book: Book) -> str:
    for looked, made, session, caller in (
        ("21:12:25.020", "21:12:25.100", "a", PIPELINE),
        ("21:12:25.310", "21:12:25.450", "b", HANDLER),
        ("21:12:25.900", "21:12:26.020", "c", ACTION),
    ):
        book.looked_up(clock(looked), request="q1", trace=TRACE, sites=by(caller))
        book.created(clock(made), session, request="q1", trace=TRACE, sites=by(caller, line=47))
    return DUPLICATE


@tale
def two_places_of_one_request_without_lookups(book: Book) -> str:
    book.created(1, "a", request="q1", sites=(PIPELINE,))
    book.created(1.25, "b", request="q1", sites=(HANDLER,))
    return DUPLICATE


@tale
def one_place_of_one_request_side_by_side(book: Book) -> str:
    for at_s in (1.0, 1.004):
        book.looked_up(at_s, request="q1", sites=by(HANDLER))
    for at_s, session in ((1.03, "a"), (1.041, "b")):
        book.created(at_s, session, request="q1", sites=by(HANDLER, line=47))
    return DUPLICATE


@tale
def what_was_found_is_created_again(book: Book) -> str:
    book.looked_up(1, request="q1", sites=by(PIPELINE))
    book.created(1.05, "a", request="q1", sites=by(PIPELINE, line=47))
    book.looked_up(1.2, "a", request="q1", sites=by(HANDLER))
    book.created(1.3, "b", request="q1", sites=(HANDLER,))
    return DUPLICATE


@tale
def an_older_session_is_found_and_one_is_created(book: Book) -> str:
    book.created(1, "old", request="q0", sites=by(PIPELINE, line=47))
    book.created(60, "a", request="q1", sites=by(PIPELINE, line=47))
    book.looked_up(60.5, "old", request="q2", sites=by(HANDLER), writer=NEIGHBOUR)
    book.created(60.6, "b", request="q2", sites=by(HANDLER, line=47), writer=NEIGHBOUR)
    return DUPLICATE


@tale
def a_conflict_is_followed_by_another_create(book: Book) -> str:
    book.created(1, "a", request="q1", sites=by(PIPELINE, line=47))
    book.tell(wire.Conflicted, 1.02, "", request="q2", sites=by(HANDLER, line=47), writer=NEIGHBOUR)
    book.created(1.023, "b", request="q2", sites=by(HANDLER, line=52), writer=NEIGHBOUR)
    return DUPLICATE


@tale
def a_failed_create_is_repeated(book: Book) -> str:
    book.looked_up(0.9, request="q1", sites=by(PIPELINE))
    book.created(1, "a", request="q1", sites=by(PIPELINE, line=47))
    book.tell(wire.CreateFailed, 3, "", request="q1", reason="timeout", sites=by(PIPELINE, line=47))
    book.created(3.4, "b", request="q1", sites=by(PIPELINE, line=47))
    return DUPLICATE


@tale
def a_database_error_comes_between(book: Book) -> str:
    book.created(1, "a", request="q1", sites=(PIPELINE,))
    error = {"errors": {"connection": 1}, "last_error": "OperationalError 08006", "outcome": "error"}
    book.tell(wire.DbSession, 1.2, "use-1", request="q1", **error)
    book.created(1.25, "b", request="q1", sites=(PIPELINE,))
    return DUPLICATE


# Rapid duplicates of several requests.


@tale
def two_requests_of_one_worker(book: Book) -> str:
    book.looked_up(1, request="q1", sites=by(HANDLER))
    book.looked_up(1.012, request="q2", sites=by(HANDLER))
    book.created(1.04, "a", request="q1", sites=by(HANDLER, line=47))
    book.created(1.055, "b", request="q2", sites=by(HANDLER, line=47))
    return DUPLICATE


@tale
def no_request_is_known(book: Book) -> str:
    book.looked_up(1, sites=by(HANDLER))
    book.created(1.04, "a", sites=by(HANDLER, line=47))
    book.created(1.055, "b", sites=by(HANDLER, line=47))
    return DUPLICATE


@tale
def two_workers(book: Book) -> str:
    book.looked_up(1, request="q1", sites=by(PIPELINE))
    book.looked_up(1.03, request="q2", sites=by(HANDLER), writer=NEIGHBOUR)
    book.created(1.0434, "a", request="q1", sites=by(PIPELINE, line=47))
    book.created(1.1596, "b", request="q2", sites=by(HANDLER, line=47), writer=NEIGHBOUR)
    return DUPLICATE


@tale
def two_hosts_of_which_one_reads_a_replica(book: Book) -> str:
    book.looked_up(1, request="q1", sites=by(PIPELINE))
    book.created(1.0434, "a", request="q1", sites=by(PIPELINE, line=47))
    book.looked_up(1.12, request="q2", sites=by(HANDLER), writer=REMOTE)
    book.created(1.1596, "b", request="q2", sites=by(HANDLER, line=47), writer=REMOTE)
    return DUPLICATE


@tale
def two_workers_without_lookups(book: Book) -> str:
    book.created(1, "a", request="q1", sites=(PIPELINE,))
    book.created(1.2, "b", request="q2", sites=(HANDLER,), writer=NEIGHBOUR)
    return DUPLICATE


@tale
def a_dead_id_is_followed_by_a_create(book: Book) -> str:
    for start_s, session, request, writer in ((1, "a", "q1", WORKER), (1.02, "b", "q2", NEIGHBOUR)):
        book.looked_up(start_s, request=request, asked="dead", sites=by(HANDLER), writer=writer)
        book.created(start_s + 0.1, session, request=request, sites=by(HANDLER, line=47), writer=writer)
    return DUPLICATE


@tale
def a_create_beside_a_session_that_was_there(book: Book) -> str:
    book.observed(1, "a", request="q1", sites=(PIPELINE,))
    book.created(5, "b", request="q2", sites=(HANDLER,), writer=NEIGHBOUR)
    return DUPLICATE


@tale
def a_create_reported_late(book: Book) -> str:
    book.created(0, "a", sites=(PIPELINE,))
    book.advance(60)
    book.created(3, "b", sites=(HANDLER,), writer=NEIGHBOUR)
    return DUPLICATE


@tale_without_trail
def two_workers_of_an_installation_that_keeps_no_events(book: Book) -> str:
    two_workers(book)
    return DUPLICATE


@tale_without_trail
def one_request_of_an_installation_that_keeps_no_events(book: Book) -> str:
    what_was_found_is_created_again(book)
    return DUPLICATE


# What the database does on its own.


@tale
def a_database_function_creates_two_sessions(book: Book) -> str:
    successors(book)
    book.looked_up(clock("20:39:24.701"), "s3", request="q3", sites=by(HANDLER), writer=NEIGHBOUR)
    return DUPLICATE
