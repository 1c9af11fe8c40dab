"""The tracker with the journal it opens by itself, read back as the sidecar reads it."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from session_exporter.core.events import Created, Event, Reused
from session_exporter.journal.reader import JournalReader
from session_exporter.tracker import SessionTracker


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def tracker(directory: Path) -> Iterator[SessionTracker]:
    tracker = SessionTracker(directory)
    yield tracker
    tracker.close()


def drained(directory: Path) -> list[Event]:
    reader = JournalReader(directory, {})
    reader.scan()
    events: list[Event] = []
    while (batch := reader.read()) is not None:
        events += batch.events
        assert not batch.malformed
        assert not batch.unknown
    return events


def hook_errors(directory: Path) -> dict[str, int]:
    reader = JournalReader(directory, {})
    reader.scan()
    errors: dict[str, int] = {}
    for control in reader.controls():
        for name, (_active, count) in control.hooks.items():
            errors[name] = errors.get(name, 0) + count
    return errors


def test_events_arrive_in_the_journal_that_is_made_for_them(tracker: SessionTracker, directory: Path) -> None:
    tracker.created("u", "s")
    with tracker.request(request_id="r", user_id="u"):
        tracker.reused(None, "s", scope="chat", key="phone")
    created, reused = drained(directory)
    assert isinstance(created, Created)
    assert isinstance(reused, Reused)
    assert created.sites[0].endswith(":test_events_arrive_in_the_journal_that_is_made_for_them")
    assert (reused.request, reused.user, reused.scope, reused.key) == ("r", "u", "chat", "phone")


def test_the_directory_is_found_in_the_environment(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSION_EXPORTER_DIR", str(directory))
    tracker = SessionTracker()
    tracker.reused("u", "s")
    tracker.close()
    assert len(drained(directory)) == 1


def test_trackers_of_one_directory_are_one_worker(directory: Path, tracker: SessionTracker) -> None:
    second = SessionTracker(f"{directory.parent}/../{directory.parent.name}/journal")
    tracker.reused("u", "s")
    second.reused("u", "s")
    second.close()
    tracker.reused("u", "s")
    assert len(drained(directory)) == 3
    assert len(list(directory.glob("*.seg"))) == 1


def test_failures_and_hooks_are_in_the_control_block(tracker: SessionTracker, directory: Path) -> None:
    tracker.register_hook("sqlalchemy")
    tracker.reused("u", object())
    with tracker.shielded("sqlalchemy"):
        raise KeyError
    tracker.reused("u", "s")
    assert hook_errors(directory) == {"tracker": 1, "sqlalchemy": 1}


@pytest.mark.parametrize("name", ["file/below", "file"])
def test_an_unusable_directory_leaves_the_application_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    tracker = SessionTracker(tmp_path / name)
    for _ in range(3):
        tracker.created("u", "s")
        tracker.reused("u", "s")
    with tracker.request(user_id="u"):
        tracker.reused(None, "s")
    tracker.close()


def test_a_directory_of_no_known_type_leaves_the_application_alone(caplog: pytest.LogCaptureFixture) -> None:
    tracker = SessionTracker(object())  # type: ignore[arg-type] # what is under test
    tracker.reused("u", "s")
    tracker.created("u", "s")
    tracker.close()
    assert [record.args[0] for record in caplog.records] == ["tracker"]


def test_a_forked_child_is_a_worker_of_its_own(tracker: SessionTracker, directory: Path) -> None:
    tracker.reused("u", "parent")
    pid = os.fork()
    if pid == 0:
        try:
            tracker.reused("u", "child")
            os._exit(0)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    tracker.reused("u", "parent")
    assert sorted(event.session for event in drained(directory)) == ["child", "parent", "parent"]
    assert len(list(directory.glob("*.seg"))) == 2


def test_threads_lose_nothing(tracker: SessionTracker, directory: Path) -> None:
    def work(n: int) -> None:
        with tracker.request(request_id=f"r-{n}"):
            for k in range(200):
                tracker.reused("u", f"s-{n}-{k}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = drained(directory)
    assert len({event.session for event in events}) == len(events) == 1600
    assert all(event.request == "r-" + event.session.split("-")[1] for event in events)


def test_a_signal_handler_may_record_in_the_middle_of_anything(tracker: SessionTracker, directory: Path) -> None:
    handled = 0

    def handler(_signal: int, _frame: object) -> None:
        nonlocal handled
        handled += 1
        tracker.created("u", f"h-{handled}")

    previous = signal.signal(signal.SIGPROF, handler)
    signal.setitimer(signal.ITIMER_PROF, 0.0005, 0.0005)
    recorded = 0
    try:
        while handled < 20:
            tracker.reused("u", f"m-{recorded}")
            recorded += 1
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
    sessions = [event.session for event in drained(directory)]
    assert sorted(sessions) == sorted([f"m-{n}" for n in range(recorded)] + [f"h-{n + 1}" for n in range(handled)])
