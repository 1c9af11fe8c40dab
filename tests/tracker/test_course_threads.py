"""Threads of one request that note at the same time: none takes back what another has found out, or invents a loss."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from threading import Barrier, Thread
from typing import Self

import pytest
from recorder import Recorder

from session_exporter.ambient import Request
from session_exporter.core.events import MISSED_BY_ID, Identified, Unmet
from session_exporter.course import FOUND, MISSED, Course
from session_exporter.tracker import SessionTracker

THREADS = 4
ROUNDS = 150


class Interrupting(str):
    """Has something done while it is being compared, as by another thread."""

    __slots__ = ("act",)

    def __new__(cls, text: str, act: Callable[[], object]) -> Self:
        made = super().__new__(cls, text)
        made.act = act
        return made

    def __eq__(self, other: object) -> bool:
        is_same = str.__eq__(self, other)
        self.act()
        return is_same

    __hash__ = str.__hash__


@pytest.fixture
def journal() -> Recorder:
    return Recorder()


@pytest.fixture
def tracker(journal: Recorder) -> SessionTracker:
    return SessionTracker(journal=journal)


@pytest.fixture(autouse=True)
def eager_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def note(course: Course, how: int, scope: str, session: str) -> None:
    course.enter(scope, teller=None)  # type: ignore[arg-type]  # nobody is told here
    course.note(how, scope, session, 1, "ann", b"", (), lasting=True)


def together(*acts: Callable[[], object]) -> None:
    barrier = Barrier(len(acts))

    def run(act: Callable[[], object]) -> None:
        barrier.wait()
        act()

    threads = [Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_session_that_is_found_while_it_becomes_known_as_the_expected_one_was_got() -> None:
    course = Course()
    note(course, FOUND, "chat", Interrupting("e", lambda: course.expect("e", lasting=True)))
    note(course, FOUND, "chat", "x")
    assert course.shortfalls() == []


def test_an_inner_request_that_finds_it_meanwhile_has_got_it_for_the_outer_one() -> None:
    course = Course()
    note(course, MISSED, "chat", "e")
    found = Interrupting("e", lambda: course.expect("e", lasting=True))
    course.hear(FOUND, "chat", found, teller=None)  # type: ignore[arg-type]  # nobody is told here
    assert course.shortfalls() == []


def test_what_threads_miss_and_find_in_one_scope_at_the_same_time_is_all_known() -> None:
    for _ in range(ROUNDS):
        course = Course("e")
        together(*[partial(note, course, MISSED, "chat", asked) for asked in ("e", "", "e", "")])
        assert [each.missed for each in course.shortfalls()] == [MISSED_BY_ID]


def test_what_one_thread_has_found_is_never_forgotten() -> None:
    for _ in range(ROUNDS):
        course = Course()
        finds = [partial(note, course, FOUND, found, found) for found in ("e", "x", "y")]
        together(*finds, partial(course.expect, "e", lasting=True))
        assert course.shortfalls() == []


def test_each_scope_is_entered_once(tracker: SessionTracker, journal: Recorder) -> None:
    def find(request: Request, scope: str) -> None:
        request.note(tracker.reporter("test"), FOUND, scope, "x", 1, "ann", b"")

    for _ in range(ROUNDS):
        journal.events.clear()
        request = tracker.request(thread_id="t-1")
        together(*[partial(find, request, scope) for scope in ("a", "b", "a", "b")])
        told = [event.scope for event in journal.events if isinstance(event, Identified)]
        assert sorted(told) == ["a", "b"]


def test_what_is_missed_while_somebody_is_asked_which_session_is_expected_is_kept(
    tracker: SessionTracker, journal: Recorder
) -> None:
    with tracker.request(user_id="ann") as request:
        request.late_session = lambda: _answer_later(tracker)
        tracker.looked_up("ann", "x")
        request.late_session = lambda: "e"
    assert [(event.session, event.missed) for event in journal.events if isinstance(event, Unmet)] == [
        ("e", MISSED_BY_ID)
    ]
    assert not journal.errors


def _answer_later(tracker: SessionTracker) -> None:
    """Nobody knows yet; and somebody asks for the session meanwhile."""
    tracker.looked_up("ann", None, asked="e")
