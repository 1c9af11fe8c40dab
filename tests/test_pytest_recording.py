"""What is recorded of a test run, and to which test it belongs."""

import os
from collections.abc import Iterator
from contextlib import suppress

import pytest

from session_exporter import SessionTracker
from session_exporter.core.events import Created, Unmet
from session_exporter.core.scopes import OTHER_SCOPE
from session_exporter.journal.directory import ENVIRONMENT_KEY
from session_exporter.pytest_checks import known, recording
from session_exporter.pytest_checks.known import KnownSessions
from session_exporter.pytest_checks.recording import Recording


@pytest.fixture
def run(monkeypatch) -> Iterator[Recording]:
    monkeypatch.setenv(ENVIRONMENT_KEY, "as it was")
    run = Recording()
    yield run
    run.close()


@pytest.fixture
def tracker(run) -> Iterator[SessionTracker]:
    tracker = SessionTracker()
    yield tracker
    tracker.close()


def sessions(run: Recording) -> list[str]:
    return [event.session for events, _ in run.pieces() for event in events]


def knows(run: Recording, session: str) -> bool:
    return run.known.of({"default": 1}).find(1, session.encode()) is not None


def test_a_test_begins_with_nothing(run, tracker) -> None:
    tracker.created("ann", "before")
    run.begin_test()
    tracker.created("ann", "its own")
    assert sessions(run) == ["its own"]
    tracker.created("ann", "more")
    assert sessions(run) == ["its own", "more"]
    run.begin_test()
    assert sessions(run) == []


def test_what_is_set_up_for_several_tests_is_recorded_for_none(run, tracker) -> None:
    run.begin_test()
    tracker.created("ann", "a")
    with run.aside():
        tracker.created("ann", "b")
        with run.aside():
            tracker.created("ann", "c")
        tracker.created("ann", "d")
    tracker.created("ann", "e")
    assert sessions(run) == ["a", "e"]
    assert [session for session in "abcde" if knows(run, session)] == ["b", "c", "d"]


def test_what_fails_to_be_set_up_is_recorded_for_none_either(run, tracker) -> None:
    run.begin_test()
    with suppress(KeyError), run.aside():
        tracker.created("ann", "a")
        raise KeyError
    tracker.created("ann", "b")
    assert sessions(run) == ["b"]


def test_a_test_with_too_many_events_is_told_so(run, tracker, monkeypatch) -> None:
    monkeypatch.setattr(recording, "EVENTS_MAX", 2)
    run.begin_test()
    for number in range(5):
        tracker.created("ann", f"s{number}")
    assert sessions(run) == ["s0", "s1"]
    assert run.lost() == 3
    run.begin_test()
    assert run.lost() == 0
    tracker.created("ann", "s5")
    assert sessions(run) == ["s5"]


def test_a_run_of_many_events_leaves_no_more_than_one_segment(run, tracker) -> None:
    run.begin_test()
    for _ in range(8):
        for number in range(2000):
            tracker.reused("ann", f"s{number}")
        run.begin_test()
    assert len(list(run.directory.glob("*.seg"))) <= 2


def test_a_run_leaves_things_as_they_were(monkeypatch) -> None:
    monkeypatch.delenv(ENVIRONMENT_KEY, raising=False)
    run = Recording()
    inner = Recording()
    tracker = SessionTracker()
    tracker.created("ann", "inner")
    assert os.environ[ENVIRONMENT_KEY] == str(inner.directory)
    assert sessions(inner) == ["inner"]
    inner.close()
    tracker.created("ann", "outer")
    assert sessions(run) == ["outer"]
    run.close()
    tracker.close()
    assert ENVIRONMENT_KEY not in os.environ
    assert not run.directory.exists()
    assert not inner.directory.exists()


def test_a_forked_child_does_not_end_the_run_of_its_parent(run, tracker) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            tracker.created("ann", "child")
            run.close()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    tracker.created("ann", "parent")
    assert sorted(sessions(run)) == ["child", "parent"]


def test_ids_that_may_be_given_again_are_known_from_fixtures_only() -> None:
    sessions = KnownSessions()
    sessions.learn([Created(1, "chat", "7"), Created(1, "chat", "x" * 16)], lasting=False)
    sessions.learn([Created(1, "chat", "8"), Unmet(2, "chat", "never there")], lasting=True)
    find = sessions.of({"chat": 3}).find
    assert [find(3, session) is not None for session in (b"7", b"x" * 16, b"8", b"never there")] == [
        False,
        True,
        True,
        False,
    ]
    assert find(4, b"8") is None


def test_sessions_of_undeclared_scopes_are_known_by_scope_and_id() -> None:
    sessions = KnownSessions()
    sessions.learn([Created(1, "chat", "a"), Created(1, OTHER_SCOPE, "b")], lasting=True)
    find = sessions.of({OTHER_SCOPE: 2}).find
    assert [find(2, session) is not None for session in (b"chat/a", b"b", b"a", b"chat/b")] == [
        True,
        True,
        False,
        False,
    ]


def test_the_oldest_ids_are_forgotten(monkeypatch) -> None:
    monkeypatch.setattr(known, "IDS_MAX", 2)
    sessions = KnownSessions()
    sessions.learn([Created(1, "chat", session) for session in "abc"], lasting=True)
    find = sessions.of({"chat": 1}).find
    assert [find(1, session) is not None for session in (b"a", b"b", b"c")] == [False, True, True]
