"""What to do about an incident: the sentences, each for one finding."""

from typing import Final

import msgspec


class Explanation(msgspec.Struct, frozen=True):
    """Why an incident happened.

    Attributes:
        cause: One sentence.
        advice: What to change, or what to find out; a sentence or two each, the most effective first.
        decided: Whether the evidence decides; where it does not, the cause says what is not known.
    """

    cause: str
    advice: list[str]
    decided: bool = True


ADVICE: Final = {
    # One request.
    "pass_on": "Pass session_id on from {first} to {others}, instead of looking the session up again.",
    "create_once": "Get the session once, at {first}, and pass session_id on to {others}.",
    "repeated": (
        "Find what comes to {place} {times} in one request (a loop, a retry, tasks side by side): get the session"
        " before it, and pass session_id on."
    ),
    "read_where_written": (
        "See what the lookup{where} reads (a replica, a cache, an older snapshot, a filter): {session} had been there"
        " for {gap}."
    ),
    "use_what_was_found": "See why a session is created{where} when {session} has just been found.",
    "look_for_user": (
        "When a session is not found by its id{where}, look for the user's current session before one is created."
    ),
    "read_the_winner": "After a conflict{where}, read the session that is there, instead of creating another.",
    "look_before_retry": (
        "Before work is repeated after an error, look the session up again, or give its create an id that is the same"
        " in every attempt."
    ),
    # Several requests.
    "upsert": (
        "Let the database decide: a unique index on the user among active sessions of {scope}, and INSERT ... ON"
        " CONFLICT DO NOTHING{where}; then SELECT the session that won."
    ),
    "lock_of_one_worker": "In the process, a lock per user is not enough: other workers do not share it.",
    "lock_of_no_use": "In the process, a lock does not help: {workers} do not share it.",
    # What cannot be told yet.
    "name_requests": (
        "Make requests known: add the middleware (ASGI, WSGI or aiohttp), or `with tracker.request():` around each job."
    ),
    "see_lookups": (
        "Make lookups visible: map the table (`tables`), or wrap the function that gets the session (`calls`, kind"
        " get_or_create)."
    ),
    "see_creates": (
        "Make the create of {session} visible: map the table (`tables`), or wrap the function that makes such sessions"
        " (`calls`)."
    ),
    "keep_more": "Keep more events of each user, and for longer: `audit_trail` in the configuration.",
    "newer": "Ask with a newer version of view-metrics.",
    # The database.
    "find_writer": (
        "Find what writes to the table of {scope} besides the application: functions and triggers of the database,"
        " other services, jobs."
    ),
    "wrap_writer": (
        "Wrap the function of the application that has it done, so that its creates are seen (`calls`, kind"
        " get_or_create); {session} first came to the application{where}."
    ),
    "wrap_any_writer": (
        "If the application has it done, wrap the function that does (`calls`, kind get_or_create), so that its"
        " creates are seen."
    ),
    "upsert_writer": (
        "Have it keep the session that is there: INSERT ... ON CONFLICT DO NOTHING, against a unique index on the user"
        " among active sessions of {scope}."
    ),
    "leave_alone": "Have it leave {session} alone while that is active.",
    # Several active sessions in the database.
    "clean_up": (
        "Decide which one is right, and end the others: `session-exporter audit db` prints the SQL that keeps the most"
        " recent one of each user and ends the rest (`duplicate_cleanup`); it runs nothing."
    ),
    "index_active": (
        "Then let the database refuse a second one: the partial unique index on the user among active sessions of"
        " {scope}, which `session-exporter audit db` prints as well."
    ),
    "see_race": "See how they came to be: view-metrics explain --user, of this user, tells the race that made them.",
    "end_before": (
        "See why {session} was not ended, and not found, when {newer} was created: conditions of the lookup, a missing"
        " end, or `active` in the configuration naming values that are none."
    ),
    "say_when": "Map `created_at` of the table of {scope}, so that it can be told which one is the most recent.",
    # A lost context.
    "see_end": "See why {worker} ended {session} ({reason}) while it was expected.",
    "compare_lookups": (
        "Compare the lookup{where}, which does not find {session}, with the one{there}, which does: database,"
        " conditions, form of the id."
    ),
    "share_store": (
        "See where {here} looks sessions up: what is in the memory of another process, or in another database, it"
        " cannot find."
    ),
    "compare_row": (
        "Compare what the lookup{where} asks for with what is stored of {session}: the form of the id, the user, the"
        " conditions, the database."
    ),
    "look_before_create": "Look {session} up, by the id that the request carries, before one is created{where}.",
    "ask_by_id": "Look the session up by the id that the request carries{where}, not by the user alone.",
    "mean_the_end": (
        "If {session} is meant to end so, give a reason that is legitimate, or add `{reason}` to `end_reasons` of"
        " {scope}; else go on with it."
    ),
    "expect": (
        "Say which session each request expects: `expect` of the middleware, or `with tracker.request(session_id=...)`;"
        " what becomes of it is then told here."
    ),
    # A crossed border.
    "id_per_user": (
        "{users} users have this id: if ids of {scope} are unique for one user only, map them together with the user"
        " (`id` takes several columns)."
    ),
    "one_user_per_request": (
        "Let a request have one user: whoever acts for others{where} does so in a request of its own (`with"
        " tracker.request(user_id=...):`)."
    ),
    "check_owner": "Ask for the user as well as for the id{where}, so that nobody gets the session of another.",
    "unique_ids": "See where the id of what is created{where} comes from: it is that of a session of another user.",
    "see_origin": "See where the session that is used{where} comes from: it is that of another user.",
    "db_session_per_request": (
        "Have each request open its own Session{where}, and close it: one that is kept in a global or a singleton, or"
        " in a scoped_session without remove(), goes on into the next request."
    ),
    "db_session_per_task": "Have each task or thread open its own Session, instead of sharing one{where}.",
    "close_db_session": (
        "Close the Session that is opened{where} before the request is over (`with Session() as session:`); work that"
        " goes on after the request needs one of its own."
    ),
    # An id.
    "translate_id": "Have the lookup{where} ask for the id in the form in which it was made.",
    "one_factory": "Have {kind} ids of {scope} made in one place, in the declared format.",
    "declare_legacy": (
        "If ids of this shape are still right, declare it: `legacy` under `id_format` of {scope} in the configuration."
    ),
}


def advise(name: str, **values: str) -> str:
    """One sentence of advice, with what it is about."""
    return ADVICE[name].format_map(values)
