"""Users with several active sessions in the database, as a census finds them."""

from ledgers import Book, at
from tales import DATABASE, HANDLER, PIPELINE, SEVERAL, by, clock, tale, tale_without_trail

from session_exporter.core.incidents import DuplicateUser, duplicate_user_incident

COUNTED = "20:41:00.000"


def counted(book: Book, *rows: tuple[str, str], active: int = 0, key: str = "") -> str:
    """Let a census find these active sessions of ann, each with the time at which its row says it was created."""
    names = book.names
    user = names["ann"]
    owner = names.keyed_user(user, key) if key else user
    sessions = tuple(names[session] for session, _ in rows[::-1])
    created_us = tuple(at(clock(time)) if time else 0 for _, time in rows[::-1])
    found = DuplicateUser(user, names[key], owner, sessions, created_us, active or len(rows))
    incident = duplicate_user_incident(found, "chat", at(clock(COUNTED)), names)
    book.ledger.judges["chat"].tally.incidents.append(incident)
    if book.ledger.trail is not None:
        book.ledger.trail.want(incident)
    return SEVERAL


@tale
def several_active_sessions_of_one_race(book: Book) -> str:
    book.created(clock("20:40:02.100"), "s1", request="q1", sites=by(PIPELINE, line=47))
    book.created(clock("20:40:02.216"), "s2", request="q2", sites=by(HANDLER, line=47))
    book.reused(clock("20:40:05"), "s1", request="q3")
    return counted(book, ("s1", "20:40:02.090"), ("s2", "20:40:02.190"))


@tale
def several_active_sessions_by_a_function_of_the_database(book: Book) -> str:
    for time, session in (("20:40:24.532", "s2"), ("20:40:24.648", "s3")):
        book.created(clock(time), session, writer=DATABASE)
    return counted(book, ("s2", "20:40:24.532"), ("s3", "20:40:24.648"), key="phone")


@tale
def an_old_session_that_was_never_ended(book: Book) -> str:
    book.looked_up(clock("20:40:02"), request="q1", sites=by(PIPELINE))
    book.created(clock("20:40:02.100"), "s2", request="q1", sites=by(PIPELINE, line=47))
    return counted(book, ("s1", "08:15:00"), ("s2", "20:40:02.090"))


@tale_without_trail
def several_active_sessions_of_times_unknown(book: Book) -> str:
    return counted(book, ("s1", ""), ("s2", ""), active=7)
