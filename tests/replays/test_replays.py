"""Incidents that real teams lived through, as the events that the hooks would have recorded: found and explained.

`UPDATE_GOLDEN=1 pytest tests/replays` writes the explanations down as they are now.
"""

import os
from pathlib import Path

import pytest
from ledgers import Memory
from replay import Replay, at

from session_exporter.core import events as wire
from session_exporter.core.checkpoint import take_changes
from session_exporter.core.documents import incident_document
from session_exporter.core.ledger import Ledger
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.scopes import Limits, ScopeRules
from session_exporter.core.storytelling import tell_story
from session_exporter.core.trail import Trail

pytestmark = [pytest.mark.e2e, pytest.mark.integration]

GOLDEN = Path(__file__).parent / "golden"
LOOKUP, INSERT = "app/sessions.py:41:SessionService.get_or_create", "app/sessions.py:47:SessionService.get_or_create"
PIPELINE, HANDLER, ACTION = (
    "app/pipeline.py:31:Pipeline.run",
    "app/handlers.py:58:MessageHandler.handle",
    "app/actions.py:77:Action.perform",
)
TRACE = bytes(range(16))


def hold(name: str, text: str) -> None:
    """Compare with the text that is kept under a name."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


# Three sessions for one user, at 21:12:25, :25 and :26: pipeline, handler and action each fetched "the" session.


def looked_up(clock: str, session: str, user: str, request: str, caller: str) -> wire.LookedUp:
    return wire.LookedUp(at(clock), "conversation", session, user, "", request, TRACE, (LOOKUP, caller), 1800)


def created(clock: str, session: str, user: str, request: str, caller: str) -> wire.Created:
    return wire.Created(at(clock), "conversation", session, user, "", request, TRACE, (INSERT, caller))


THREE_CREATES = {
    10: (
        "pod-a",
        [
            looked_up("21:12:25.020", "", "lena", "message-17", PIPELINE),
            created("21:12:25.104", "7d1f", "lena", "message-17", PIPELINE),
            looked_up("21:12:25.480", "", "lena", "message-17", HANDLER),
            created("21:12:25.733", "7d20", "lena", "message-17", HANDLER),
            looked_up("21:12:26.011", "", "lena", "message-17", ACTION),
            created("21:12:26.217", "7d21", "lena", "message-17", ACTION),
        ],
    ),
    11: (
        "pod-a",
        [
            looked_up("21:12:24.900", "", "omar", "message-16", PIPELINE),
            created("21:12:25.001", "7d1e", "omar", "message-16", PIPELINE),
            looked_up("21:12:25.900", "7d1e", "omar", "message-18", PIPELINE),
            wire.Reused(at("21:12:26.100"), "conversation", "7d1e", "omar", "", "message-18"),
            looked_up("21:12:31.000", "7d20", "lena", "message-19", PIPELINE),
        ],
    ),
}


def test_three_creates_of_one_request_are_two_duplicates_with_their_call_sites(tmp_path: Path) -> None:
    with Replay(tmp_path, "  conversation: {}", THREE_CREATES) as replay:
        scrape = replay.scrape()
        incidents = replay.incidents()
        hold("three_creates", replay.told(incidents[-1]))
    scope = {"scope": "conversation"}
    assert scrape.value("session_rapid_duplicate_creates_total", **scope, cause="same_request") == 2
    assert scrape.total("session_rapid_duplicate_creates_total") == 2
    assert scrape.value("session_redundant_lookups_total", **scope) == 2
    assert scrape.total("session_context_loss_total") == scrape.total("session_isolation_violations_total") == 0
    assert [(each["kind"], each["cause"]) for each in incidents] == [("rapid_duplicate_create", "same_request")] * 2


# Thread ids made in two formats by two factories: "404: thread not found".

NEW_THREAD, STORE, RUNNER = (
    "app/ids.py:14:new_thread_id",
    "app/threads.py:19:ThreadStore.get",
    "app/agent.py:52:Agent.run",
)
MADE, ASKED = "thread_create_session_1757362890388_208_da48bfda", "thread-5c1e77"
THREADS = """\
  conversation: {id_format: {thread: unified}}
  thread: {sessions_per_user: many, id_format: {session: unified}}
"""


def fetch_thread(clock: str, thread: str, request: str) -> list[wire.Event]:
    """A request that names a thread, which the store does not find."""
    asked_us = at(clock)
    return [
        wire.Identified(asked_us, "conversation", "9a40", "lena", "", request, TRACE, thread),
        wire.LookedUp(asked_us + 4000, "thread", "", "lena", "", request, TRACE, (STORE, RUNNER), 900, asked=thread),
        wire.Unmet(
            asked_us + 9000,
            "thread",
            thread,
            "lena",
            "",
            request,
            TRACE,
            wire.MISSED_BY_ID,
            asked_us + 3000,
            sites=(STORE,),
        ),
    ]


TWO_FACTORIES = {
    10: (
        "pod-a",
        [
            wire.Created(at("10:08:10.388"), "thread", MADE, "lena", "", "message-1", TRACE, (NEW_THREAD,)),
            wire.Created(at("10:08:10.402"), "conversation", "9a40", "lena", "", "message-1", TRACE, (INSERT,)),
            wire.Identified(at("10:08:10.410"), "conversation", "9a40", "lena", "", "message-1", TRACE, MADE),
        ],
    ),
    11: (
        "pod-b",
        [*fetch_thread("10:08:14.120", ASKED, "message-2"), *fetch_thread("10:08:19.310", ASKED, "message-3")],
    ),
}


def test_a_thread_id_of_the_wrong_format_is_found_with_who_asked_for_it(tmp_path: Path) -> None:
    with Replay(tmp_path, THREADS, TWO_FACTORIES) as replay:
        scrape = replay.scrape()
        (incident,) = replay.incidents()
        hold("two_factories_of_thread_ids", replay.told(incident))
        summary = replay.sidecar.json("/api/v1/summary?since=31d")
    checked = "session_ids_checked_total"
    assert scrape.value(checked, scope="conversation", id_kind="thread", format="invalid") == 1
    assert scrape.value(checked, scope="conversation", id_kind="thread", format="canonical") == 1
    assert scrape.value(checked, scope="thread", id_kind="session", format="canonical") == 1
    # Nobody lost a thread: there never was one of this id.
    assert scrape.value("session_stale_expected_total", scope="thread") == 2
    assert scrape.total("session_context_loss_total") == 0
    assert (incident["kind"], incident["id_kind"], incident["shape"]) == ("invalid_id", "thread", "text(13)")
    assert ASKED not in str(summary)


# A request's database session was kept in a global, and served the next user.

QUERY = "app/reports.py:23:Reports.write"


def crossed(clock: str, kind: str, user: str, request: str, other: tuple[str, str]) -> wire.Violated:
    return wire.Violated(
        at(clock),
        "default",
        "use-4f1c",
        user,
        "",
        request,
        TRACE,
        kind,
        other_user=other[0],
        other_request=other[1],
        sites=(QUERY,),
    )


KEPT_IN_A_GLOBAL = {
    10: (
        "pod-a",
        [
            crossed("14:03:07.118", "db_session_outlived_request", "lena", "report-1", ("", "")),
            crossed("14:03:09.402", "db_session_crossed_requests", "omar", "report-2", ("lena", "report-1")),
            crossed("14:03:09.402031", "db_session_of_two_users", "omar", "report-2", ("lena", "report-1")),
        ],
    )
}


def test_a_database_session_in_a_global_is_told_with_both_users(tmp_path: Path) -> None:
    with Replay(tmp_path, "  conversation: {}", KEPT_IN_A_GLOBAL) as replay:
        scrape = replay.scrape()
        incidents = replay.incidents()
        hold("database_session_in_a_global", replay.told(incidents[-1]))
    kinds = ["db_session_outlived_request", "db_session_crossed_requests", "db_session_of_two_users"]
    assert [incident["violation"] for incident in incidents] == kinds
    for kind in kinds:
        assert scrape.value("session_isolation_violations_total", scope="default", kind=kind) == 1


# A session in use at 20:39:17.463, whose successors a function in the database created at 20:39:24.532 and .648, ending
# what came before: no hook in the code saw it, only who reads the database.

DATABASE = wire.Writer(wire.WATCH)


def by_a_function(clock: str, ended: str, made: str) -> list[wire.Event]:
    return [
        wire.Ended(at(clock), "conversation", ended, "lena", reason="completed"),
        wire.Created(at(clock), "conversation", made, "lena"),
    ]


FUNCTION = [
    (
        [
            created("20:39:02.100", "7d1f", "lena", "message-1", PIPELINE),
            looked_up("20:39:17.463", "7d1f", "lena", "message-2", PIPELINE),
        ],
        wire.Writer("w1", "pod-a", 10),
    ),
    ([*by_a_function("20:39:24.532", "7d1f", "7d20"), *by_a_function("20:39:24.648", "7d20", "7d21")], DATABASE),
]


def test_a_function_in_the_database_replaces_a_session_and_creates_two() -> None:
    names = Pseudonyms(bytes(range(32)))
    ledger = Ledger(
        {"conversation": ScopeRules("conversation")}, names=names, known=Memory(), trail=Trail(names, Limits())
    )
    for events, writer in FUNCTION:
        ledger.apply(events, writer)
    ledger.finish()
    changes = take_changes(ledger)
    incidents = sorted(changes.incidents, key=lambda incident: incident.at_us)
    stories = [
        tell_story(incident_document(each.id, each.kind, each.at_us, each.scope, each.detail)) for each in incidents
    ]
    hold("function_in_the_database", "\n\n\n".join(stories) + "\n")
    totals = changes.totals.scopes["conversation"]
    assert (totals.creates, totals.duplicates["unobserved"], totals.losses["replaced"]) == (3, 1, 1)
    assert (sum(totals.duplicates.values()), sum(totals.losses.values()), totals.ends["completed"]) == (1, 1, 2)
