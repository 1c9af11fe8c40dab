"""Stores: which session a command asked for in vain, and whether a request got the one that it expected."""

from collections.abc import Callable
from typing import Any

import pytest
from recorder import Recorder

from session_exporter import SessionTracker
from session_exporter.core.events import MISSED_BY_ID, OTHER_USED, LookedUp, Unmet
from session_exporter.wrapped_calls import Call

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def installed(install: Callable[..., Any], recorder: Recorder) -> Any:
    install()
    yield
    assert not recorder.errors


def unmet(recorder: Recorder) -> list[tuple[int, str]]:
    return [(event.missed, event.actual) for event in recorder.events if isinstance(event, Unmet)]


def test_a_miss_says_which_session_was_asked_for(client: Any, recorder: Recorder) -> None:
    client.do("get", "session:gone")
    client.do("hget", "session:gone", "user")
    client.do("set", "session:e", "{}{}")
    client.do("get", "session:e")
    lookups = [event for event in recorder.events if isinstance(event, LookedUp)]
    assert [(event.session, event.asked) for event in lookups] == [("", "gone"), ("", "gone"), ("e", "")]


def test_a_session_that_is_gone_is_missed_and_the_one_made_instead_is_used(
    client: Any, tracker: SessionTracker, recorder: Recorder
) -> None:
    with tracker.request(user_id="ann", session_id="gone"):
        client.do("get", "session:gone")
        client.do("set", "session:new", '{"user": {"id": "ann"}}')
    assert unmet(recorder) == [(MISSED_BY_ID, "new")]


def test_an_id_of_the_client_s_that_is_adopted_was_missed(
    client: Any, tracker: SessionTracker, recorder: Recorder
) -> None:
    with tracker.request(user_id="ann", session_id="gone"):
        client.do("get", "session:gone")
        client.do("set", "session:gone", "{1}")
        client.do("get", "session:gone")
    assert unmet(recorder) == [(MISSED_BY_ID, "")]


@pytest.mark.parametrize(
    "command",
    [
        ("get", "session:e"),
        ("set", "session:e", "{2}"),
        ("expire", "session:e", 100),
        ("exists", "session:e"),
        ("delete", "session:e"),
    ],
)
def test_whoever_works_on_the_expected_session_has_got_it(
    command: Any, client: Any, tracker: SessionTracker, recorder: Recorder
) -> None:
    client.do("set", "session:e", "{1}")
    client.do("get", "session:e")
    with tracker.request(session_id="e"):
        client.do(*command)
        tracker.reused("ann", "x", scope="web")
    assert unmet(recorder) == []


def test_who_deletes_several_of_which_some_were_there_may_have_had_the_expected_one(
    client: Any, tracker: SessionTracker, recorder: Recorder
) -> None:
    client.do("set", "session:e", "{1}")
    with tracker.request(session_id="e"):
        client.do("delete", "session:e", "session:gone")
        tracker.reused("ann", "x", scope="web")
    assert unmet(recorder) == []


def test_a_field_that_is_not_there_says_nothing_of_its_session(
    client: Any, tracker: SessionTracker, recorder: Recorder
) -> None:
    with tracker.request(session_id="e"):
        client.do("hget", "session:e", "basket")
    assert unmet(recorder) == []
    with tracker.request(session_id="e"):
        client.do("hget", "session:e", "basket")
        tracker.reused("ann", "x", scope="web")
    assert unmet(recorder) == [(OTHER_USED, "x")]


def test_commands_inside_of_a_call_are_no_lookups_and_tell_the_request_all_the_same(
    client: Any, tracker: SessionTracker, recorder: Recorder
) -> None:
    client.do("set", "session:e", "{1}")
    recorder.events.clear()
    for expected in ("e", "gone"):
        with tracker.request(session_id=expected):
            with Call("web"):
                client.do("get", f"session:{expected}")
            tracker.reused("ann", "x", scope="web")
    assert not [event for event in recorder.events if isinstance(event, LookedUp)]
    assert unmet(recorder) == [(MISSED_BY_ID, "x")]


def test_sessions_of_a_pipeline_count_each(client: Any, tracker: SessionTracker, recorder: Recorder) -> None:
    client.do("set", "session:e", "{1}")
    for expected in ("e", "gone"):
        with tracker.request(session_id=expected):
            client.together(("get", "session:e"), ("get", "session:gone"))
    assert unmet(recorder) == [(MISSED_BY_ID, "e")]
