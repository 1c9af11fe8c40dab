"""Who wants to know that a request has ended is told, and cannot keep it from ending."""

import gc
from weakref import ref

import pytest
from recorder import Recorder

from session_exporter.ambient import WHEN_ENDED_MAX, Request, current_request
from session_exporter.tracker import SessionTracker


@pytest.fixture
def journal():
    return Recorder()


@pytest.fixture
def tracker(journal):
    return SessionTracker(journal=journal)


def test_the_end_of_a_request_is_told_once_and_with_the_request(tracker):
    told: list[tuple[Request, bool]] = []
    with tracker.request() as request:
        request.when_ended(lambda ended: told.append((ended, ended.ended)))
        assert told == []
    assert told == [(request, True)]
    request.__exit__(None, None, None)
    assert len(told) == 1


def test_what_is_given_twice_is_told_once_and_may_be_taken_back(tracker):
    told: list[Request] = []
    tell, tell_not = told.append, lambda _: pytest.fail("it was taken back")
    with tracker.request() as request:
        request.forget(tell_not)
        for _ in range(2):
            request.when_ended(tell)
            request.when_ended(tell_not)
        request.forget(tell_not)
    assert told == [request]


def test_one_that_fails_is_counted_and_the_others_are_told(tracker, journal):
    told: list[Request] = []

    def fail(_: Request) -> None:
        raise RuntimeError

    request = tracker.request()

    def work() -> None:
        with request:
            request.when_ended(told.append)
            request.when_ended(fail)
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert told == [request]
    assert journal.errors == {"tracker": 1}


def test_who_is_told_is_in_the_request_outside_of_it(tracker):
    seen: list[Request | None] = []
    with tracker.request() as outer, tracker.request() as inner:
        inner.when_ended(lambda _: seen.append(current_request()))
    assert seen == [outer]


def test_they_are_bounded(tracker):
    told: list[int] = []
    with tracker.request() as request:
        for number in range(WHEN_ENDED_MAX + 10):
            request.when_ended(lambda _, number=number: told.append(number))
    assert sorted(told) == list(range(WHEN_ENDED_MAX))


def test_a_request_is_weakly_referable_and_not_kept_by_who_waits_for_its_end(tracker):
    with tracker.request() as request:
        request.when_ended(lambda ended: ended.request_id)
    gone = ref(request)
    del request
    gc.collect()
    assert gone() is None
