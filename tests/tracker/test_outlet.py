"""Events and failures wait, within bounds, until there is a journal; and nobody waits for them."""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recorder import Recorder

from session_exporter import outlet as module
from session_exporter.errors import JournalUnavailable
from session_exporter.journal import JournalReader
from session_exporter.outlet import EVENTS_WAITING_MAX, FAILURES_WAITING_MAX, Fields, Journal, Outlet, Shield


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Shelf(module._Shelf):
    """Opens recorders, or what a test puts in the way."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = 0
        self.problem: Exception | None = None
        self.on_open: Any = None

    def take(self, directory: Any, *_: Any) -> tuple[str, Journal]:
        if self.problem is not None:
            raise self.problem
        if self.on_open is not None:
            self.on_open()
        key = str(directory)
        if key not in self.journals:
            self.opened += 1
            self.journals[key] = Recorder()
        self.users[key] = self.users.get(key, 0) + 1
        return key, self.journals[key]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    replacement = Shelf()
    monkeypatch.setattr(module, "_shelf", replacement)
    return replacement


def event(n: int) -> Fields:
    return (2, n, "default", f"s-{n}", "u")


def recorded(shelf: Shelf) -> list[int]:
    return [each.at_us for journal in shelf.journals.values() for each in journal.events]  # type: ignore[attr-defined] # recorders


def true_in_a_forked_child(check: Callable[[], bool]) -> bool:
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if check() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_the_journal_is_opened_with_the_first_event_only(shelf: Shelf) -> None:
    outlet = Outlet("d")
    assert shelf.opened == 0
    outlet.append(event(1))
    outlet.append(event(2))
    assert shelf.opened == 1
    assert recorded(shelf) == [1, 2]


def test_outlets_of_one_directory_share_one_journal(shelf: Shelf) -> None:
    first, second, other = Outlet("d"), Outlet("d"), Outlet("e")
    for outlet in (first, second, other):
        outlet.append(event(1))
    assert shelf.opened == 2


def test_the_last_outlet_of_a_directory_closes_its_journal(shelf: Shelf) -> None:
    first, second = Outlet("d"), Outlet("d")
    first.append(event(1))
    second.append(event(2))
    journal: Any = shelf.journals["d"]
    first.close()
    first.close()
    second.append(event(3))
    assert journal.closed == 0
    second.close()
    assert journal.closed == 1
    assert not shelf.journals


def test_an_event_after_the_close_opens_the_journal_anew(shelf: Shelf) -> None:
    outlet = Outlet("d")
    outlet.append(event(1))
    outlet.close()
    outlet.append(event(2))
    assert shelf.opened == 2
    assert recorded(shelf) == [2]


def test_a_journal_that_was_given_is_not_closed() -> None:
    journal = Recorder()
    outlet = Outlet(journal=journal)
    outlet.append(event(1))
    outlet.close()
    assert journal.closed == 0


def test_events_wait_for_a_journal_that_cannot_be_opened_and_then_arrive(shelf: Shelf, clock: Clock) -> None:
    shelf.problem = JournalUnavailable("/journal: read-only")
    outlet = Outlet("d", clock_s=clock)
    with pytest.raises(JournalUnavailable):
        outlet.append(event(1))
    outlet.append(event(2))
    shelf.problem = None
    clock.now_s += module.RETRY_AFTER_S
    outlet.append(event(3))
    assert recorded(shelf) == [1, 2, 3]


def test_an_unusable_directory_is_tried_again_only_after_a_while(shelf: Shelf, clock: Clock) -> None:
    shelf.problem = JournalUnavailable("/journal: read-only")
    outlet = Outlet("d", clock_s=clock)
    with pytest.raises(JournalUnavailable):
        outlet.append(event(1))
    clock.now_s += module.RETRY_AFTER_S / 2
    outlet.append(event(2))
    clock.now_s += module.RETRY_AFTER_S / 2
    with pytest.raises(JournalUnavailable):
        outlet.append(event(3))


def test_events_beyond_the_bound_are_dropped_oldest_first_and_counted(shelf: Shelf, clock: Clock) -> None:
    shelf.problem = JournalUnavailable("/journal: read-only")
    outlet = Outlet("d", clock_s=clock)
    with pytest.raises(JournalUnavailable):
        outlet.append(event(0))
    for n in range(1, EVENTS_WAITING_MAX + 10):
        outlet.append(event(n))
    shelf.problem = None
    clock.now_s += module.RETRY_AFTER_S
    outlet.append(event(9999))
    assert recorded(shelf) == [*range(11, EVENTS_WAITING_MAX + 10), 9999]
    journal: Any = shelf.journals["d"]
    assert journal.errors == {"tracker": 11}


def test_an_application_whose_every_call_fails_is_seen(shelf: Shelf) -> None:
    outlet = Outlet("d")
    outlet.count_failure("calls", KeyError())
    journal: Any = shelf.journals["d"]
    assert journal.errors == {"calls": 1}
    outlet.count_failure("calls", KeyError())
    assert journal.errors == {"calls": 2}


def test_failures_are_counted_in_memory_until_there_is_a_journal(shelf: Shelf, clock: Clock) -> None:
    shelf.problem = JournalUnavailable("/journal: read-only")
    outlet = Outlet("d", clock_s=clock)
    outlet.count_failure("calls", KeyError())
    shelf.problem = None
    clock.now_s += module.RETRY_AFTER_S
    outlet.append(event(1))
    journal: Any = shelf.journals["d"]
    assert journal.errors == {"calls": 1}


def test_failures_in_memory_are_bounded(shelf: Shelf) -> None:
    shelf.problem = JournalUnavailable("/journal: read-only")
    outlet = Outlet("d")
    for _ in range(FAILURES_WAITING_MAX + 5):
        outlet.count_failure("calls", KeyError())
    assert len(outlet._failures) == FAILURES_WAITING_MAX


def test_a_failure_that_cannot_be_counted_raises_nothing() -> None:
    class Broken(Recorder):
        def count_hook_error(self, name: str) -> None:
            raise OSError(name)

    outlet = Outlet(journal=Broken())
    outlet.append(event(1))
    outlet.count_failure("calls", KeyError())
    assert list(outlet._failures) == ["tracker"]


def test_an_event_from_a_finalizer_while_the_journal_is_being_opened_is_delivered_by_the_outer_call(
    shelf: Shelf,
) -> None:
    outlet = Outlet("d")

    def finalizer() -> None:
        shelf.on_open = None
        outlet.append(event(2))
        assert shelf.opened == 0

    shelf.on_open = finalizer
    outlet.append(event(1))
    assert shelf.opened == 1
    assert recorded(shelf) == [1, 2]
    assert shelf.users == {"d": 1}


def test_many_threads_with_a_first_event_open_one_journal_and_lose_nothing(shelf: Shelf) -> None:
    outlets = [Outlet("d") for _ in range(4)]
    barrier = threading.Barrier(16)

    def work(n: int) -> None:
        barrier.wait()
        for k in range(50):
            outlets[n % 4].append(event(n * 50 + k))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shelf.opened == 1
    assert sorted(recorded(shelf)) == list(range(800))
    assert shelf.users == {"d": 4}


def test_a_forked_child_delivers_nothing_that_waits_in_its_parent(
    shelf: Shelf, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.problem = JournalUnavailable("/journal: read-only")
    outlet = Outlet("d", clock_s=clock)
    with pytest.raises(JournalUnavailable):
        outlet.append(event(1))
    outlet.count_failure("calls", KeyError())
    shelf.problem = None
    clock.now_s += module.RETRY_AFTER_S

    def deliver() -> bool:
        outlet.append(event(2))
        journal: Any = shelf.journals["d"]
        return recorded(shelf) == [2] and not journal.errors

    assert true_in_a_forked_child(deliver)
    outlet.append(event(3))
    assert recorded(shelf) == [1, 3]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # what is under test
def test_a_forked_child_does_not_wait_for_a_lock_of_its_parent(shelf: Shelf) -> None:
    taken, release = threading.Event(), threading.Event()

    def hold() -> None:
        with module._shelf.lock:
            module._shelf.opening = True
            taken.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()

    def deliver() -> bool:
        Outlet("d").append(event(1))
        return recorded(shelf) == [1]

    try:
        assert true_in_a_forked_child(deliver)
    finally:
        release.set()
        thread.join()


def test_a_hook_is_logged_once_a_minute(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    outlet = Outlet(journal=Recorder(), clock_s=clock)
    for seconds in (0, 30, 29):
        clock.now_s += seconds
        outlet.count_failure("calls", KeyError())
    outlet.count_failure("sqlalchemy", KeyError())
    assert len(caplog.records) == 2
    clock.now_s += 1
    outlet.count_failure("calls", KeyError())
    assert [record.args[0] for record in caplog.records] == ["calls", "sqlalchemy", "calls"]
    assert {(record.name, record.levelno) for record in caplog.records} == {("session_exporter", logging.WARNING)}


def test_the_log_names_class_and_place_of_an_error_and_not_its_text(caplog: pytest.LogCaptureFixture) -> None:
    shield = Shield(Outlet(journal=Recorder()), "calls")
    with shield:
        raise KeyError("secret-session-id")
    assert "KeyError at test_outlet.py:" in caplog.text
    assert "secret" not in caplog.text


def test_a_silent_outlet_counts_and_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    journal = Recorder()
    outlet = Outlet(journal=journal, silent=True)
    outlet.append(event(1))
    outlet.count_failure("calls", KeyError())
    assert not journal.errors
    assert not caplog.records


def test_outlets_are_diverted_whatever_they_were_told_and_whether_or_not_they_are_open(tmp_path) -> None:
    own, others = tmp_path / "own", tmp_path / "others"
    opened, waiting = Outlet(own), Outlet(tmp_path / "never")
    opened.register_hook("hook", active=True)
    opened.append(event(1))
    module.divert(others)
    opened.append(event(2))
    waiting.append(event(3))
    module.divert(None)
    opened.append(event(4))
    try:
        assert (sessions_in(own), sessions_in(others)) == (("s-1", "s-4"), ("s-2", "s-3"))
        assert not (tmp_path / "never").exists()
    finally:
        opened.close()
        waiting.close()


def sessions_in(directory: Path) -> tuple[str, ...]:
    reader = JournalReader(directory, {})
    reader.scan()
    events = []
    while (batch := reader.read()) is not None:
        events += batch.events
    reader.close()
    return tuple(sorted(each.session for each in events))
