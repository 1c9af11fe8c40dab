"""Incidents that real teams lived through, as the events that the hooks would have recorded: found and explained.

`UPDATE_GOLDEN=1 pytest tests/replays` writes the explanations down as they are now.
"""

import os
from pathlib import Path

import pytest
from replay import Replay, at

from session_exporter.core import events as wire

pytestmark = [pytest.mark.e2e, pytest.mark.integration]

GOLDEN = Path(__file__).parent / "golden"
LOOKUP, INSERT = "app/sessions.py:41:SessionService.get_or_create", "app/sessions.py:47:SessionService.get_or_create"
PIPELINE, HANDLER, ACTION = "app/pipeline.py:31:Pipeline.run", "app/handlers.py:58:MessageHandler.handle", "app/actions.py:77:Action.perform"
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

NEW_THREAD, STORE, RUNNER = "app/ids.py:14:new_thread_id", "app/threads.py:19:ThreadStore.get", "app/agent.py:52:Agent.run"
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
            asked_us + 9000, "thread", thread, "lena", "", request, TRACE, wire.MISSED_BY_ID, asked_us + 3000, sites=(STORE,)
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
    11: ("pod-b", [*fetch_thread("10:08:14.120", ASKED, "message-2"), *fetch_thread("10:08:19.310", ASKED, "message-3")]),
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
