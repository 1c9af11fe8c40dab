"""A request that never got the session it expected says so at its end, once, and only where that is certain."""

import asyncio
import gc
from collections.abc import Callable
from weakref import ref

import pytest
from recorder import Recorder

from session_exporter.core.events import (
    MISSED_BY_ID,
    MISSED_BY_USER,
    OTHER_USED,
    Created,
    Identified,
    LookedUp,
    Observed,
    Unmet,
)
from session_exporter.course import HELD_MAX, SCOPES_MAX, SEEN_MAX
from session_exporter.reporter import ROW, UPSERT, Reporter
from session_exporter.tracker import SessionTracker


class Clock:
    """Every look at it is a microsecond later."""

    def __init__(self) -> None:
        self.now_us = 1_795_176_000_000_000

    def __call__(self) -> int:
        self.now_us += 1
        return self.now_us * 1000


@pytest.fixture
def journal() -> Recorder:
    return Recorder()


@pytest.fixture
def tracker(journal: Recorder) -> SessionTracker:
    return SessionTracker(journal=journal, clock_ns=Clock())


@pytest.fixture
def reporter(tracker: SessionTracker) -> Reporter:
    return tracker.reporter("sqlalchemy")


def unmet(journal: Recorder) -> list[tuple[str, int, str]]:
    """Scope, kind of miss and what was used instead, of all that was told."""
    return [(event.scope, event.missed, event.actual) for event in journal.events if isinstance(event, Unmet)]


def test_a_session_that_was_asked_for_by_its_id_and_not_there_is_told(
    tracker: SessionTracker, journal: Recorder
) -> None:
    with tracker.request(user_id="ann", request_id="r", session_id="e"):
        tracker.looked_up("ann", None, scope="chat", asked="e")
        assert unmet(journal) == []
    lookup, told = journal.events
    assert isinstance(lookup, LookedUp)
    assert isinstance(told, Unmet)
    assert lookup.asked == "e"
    assert (told.session, told.user, told.request, told.scope) == ("e", "ann", "r", "chat")
    assert (told.missed, told.actual, told.shared) == (MISSED_BY_ID, "", False)
    assert (told.since_us, told.sites) == (lookup.at_us, lookup.sites)
    assert told.at_us > lookup.at_us


def test_a_user_without_a_session_misses_the_expected_one(tracker: SessionTracker, journal: Recorder) -> None:
    with tracker.request(session_id="e"):
        tracker.looked_up("ann", None)
        tracker.created("ann", "x")
    (told,) = [event for event in journal.events if isinstance(event, Unmet)]
    assert (told.missed, told.actual, told.user) == (MISSED_BY_USER, "x", "ann")


@pytest.mark.parametrize("use", ["reused", "looked_up", "observed", "created"])
def test_a_request_that_only_used_another_session_says_which_and_where(
    use: str, tracker: SessionTracker, journal: Recorder
) -> None:
    with tracker.request(user_id="ann", session_id="e"):
        getattr(tracker, use)(None, "x")
        getattr(tracker, use)(None, "x")
        getattr(tracker, use)(None, "y")
    (told,) = [event for event in journal.events if isinstance(event, Unmet)]
    assert (told.missed, told.actual, told.user) == (OTHER_USED, "y", "ann")
    assert told.since_us == journal.events[0].at_us
    assert told.sites[0].endswith("test_a_request_that_only_used_another_session_says_which_and_where")


@pytest.mark.parametrize(
    "get",
    [
        lambda tracker: tracker.reused("ann", "e"),
        lambda tracker: tracker.looked_up("ann", "e"),
        lambda tracker: tracker.observed("ann", "e"),
        lambda tracker: tracker.ended("e"),
        lambda tracker: tracker.attributed("e", "ann"),
        lambda tracker: tracker.reused("ann", "e", scope="other"),
    ],
)
@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_session_that_was_got_once_was_not_missed(
    get: Callable[[SessionTracker], None], at: int, tracker: SessionTracker, journal: Recorder
) -> None:
    deeds: list[Callable[[SessionTracker], None]] = [
        lambda tracker: tracker.looked_up("ann", None),
        lambda tracker: tracker.looked_up("ann", None, asked="e"),
        lambda tracker: tracker.reused("ann", "x"),
    ]
    with tracker.request(user_id="ann", session_id="e"):
        for deed in (*deeds[:at], get, *deeds[at:]):
            deed(tracker)
    assert unmet(journal) == []


def test_a_request_that_has_nothing_to_do_with_sessions_has_missed_none(
    tracker: SessionTracker, journal: Recorder
) -> None:
    with tracker.request(session_id="e"):
        pass
    tracker.reused("ann", "x")
    assert unmet(journal) == []


def test_without_a_request_or_an_expectation_there_is_no_verdict(tracker: SessionTracker, journal: Recorder) -> None:
    tracker.looked_up("ann", None)
    with tracker.request(user_id="ann"):
        tracker.looked_up("ann", None)
        tracker.reused("ann", "x")
    assert unmet(journal) == []


def test_whoever_looks_for_another_session_in_vain_has_missed_nothing(
    tracker: SessionTracker, journal: Recorder
) -> None:
    with tracker.request(session_id="e"):
        tracker.looked_up("ann", None, asked="x")
    assert unmet(journal) == []


def test_the_end_of_another_session_is_no_use_of_it(tracker: SessionTracker, journal: Recorder) -> None:
    with tracker.request(session_id="e"):
        tracker.ended("x", reason="expired")
    assert unmet(journal) == []


def test_a_store_that_adopts_the_clients_id_has_not_found_it(tracker: SessionTracker, journal: Recorder) -> None:
    with tracker.request(session_id="e"):
        tracker.looked_up("ann", None, asked="e")
        tracker.created("ann", "e")
        tracker.reused("ann", "e")
    assert unmet(journal) == [("default", MISSED_BY_ID, "")]


@pytest.mark.parametrize("origin", [UPSERT, ROW])
def test_a_row_that_is_written_after_its_id_was_missed_is_new_and_after_a_miss_by_user_perhaps_not(
    origin: int, tracker: SessionTracker, reporter: Reporter, journal: Recorder
) -> None:
    for asked in ("e", ""):
        with tracker.request(request_id=f"asked {asked}", session_id="e"):
            where = reporter.surroundings()
            reporter.looked_up(None, scope="chat", user="ann", asked=asked, where=where)
            reporter.observed("e", scope="chat", user="ann", origin=origin, where=where)
            tracker.reused("ann", "e", scope="chat")
    assert [event.request for event in journal.events if isinstance(event, Unmet)] == ["asked e"]


def test_a_session_that_is_made_without_being_missed_is_got(tracker: SessionTracker, journal: Recorder) -> None:
    with tracker.request(session_id="e"):
        tracker.created("ann", "e")
        tracker.looked_up("ann", None)
    assert unmet(journal) == []


def test_only_the_scopes_are_told_in_which_it_was_asked_for_by_id(tracker: SessionTracker, journal: Recorder) -> None:
    with tracker.request(session_id="e"):
        tracker.looked_up("ann", None, scope="login")
        tracker.looked_up("ann", None, scope="chat", asked="e")
        tracker.reused("ann", "x", scope="form")
    assert unmet(journal) == [("chat", MISSED_BY_ID, "")]
    assert journal.events[-1].shared  # type: ignore[union-attr]


def test_each_scope_that_did_without_is_told_as_one_of_several(tracker: SessionTracker, journal: Recorder) -> None:
    with tracker.request(session_id="e"):
        tracker.looked_up("ann", None, scope="login")
        tracker.reused("ann", "x", scope="chat")
    assert unmet(journal) == [("login", MISSED_BY_USER, ""), ("chat", OTHER_USED, "x")]
    assert all(event.shared for event in journal.events if isinstance(event, Unmet))


def test_a_loss_that_the_application_reports_is_not_told_twice(tracker: SessionTracker, journal: Recorder) -> None:
    with tracker.request(session_id="e"):
        tracker.looked_up("ann", None, asked="e")
        tracker.context_lost("ann", expected="e", actual=None)
    assert unmet(journal) == []


def test_the_verdict_is_given_once(tracker: SessionTracker, journal: Recorder) -> None:
    with tracker.request(session_id="e") as request:
        tracker.looked_up("ann", None)
    request.__exit__(None, None, None)
    assert len(unmet(journal)) == 1


def test_a_verdict_goes_where_the_events_went(tracker: SessionTracker, journal: Recorder) -> None:
    other = Recorder()
    with tracker.request(session_id="e"):
        SessionTracker(journal=other).looked_up("ann", None)
    assert unmet(other) == [("default", MISSED_BY_USER, "")]
    assert journal.events == []


class TestWhatBecomesKnownLate:
    def test_an_expectation_that_is_known_at_the_end_only_is_judged_all_the_same(
        self, tracker: SessionTracker, journal: Recorder
    ) -> None:
        answers = iter([None, "e"])
        with tracker.request(user_id="ann") as request:
            request.late_session = lambda: next(answers)
            tracker.looked_up(None, None, asked="other")
            tracker.looked_up(None, None, asked="e")
            tracker.reused(None, "x")
        assert unmet(journal) == [("default", MISSED_BY_ID, "x")]

    def test_what_was_there_before_it_was_known_was_got(self, tracker: SessionTracker, journal: Recorder) -> None:
        answers = iter([None, "e"])
        with tracker.request(user_id="ann") as request:
            request.late_session = lambda: next(answers)
            tracker.looked_up(None, None)
            tracker.created(None, "e")
            tracker.reused(None, "x")
        assert unmet(journal) == []

    def test_a_session_that_is_bound_after_it_was_created_is_no_loss(
        self, tracker: SessionTracker, journal: Recorder
    ) -> None:
        with tracker.request(user_id="ann") as request:
            tracker.looked_up(None, None)
            tracker.created(None, "new")
            request.bind_session("new")
            tracker.reused(None, "another")
        assert unmet(journal) == []

    def test_what_is_bound_counts_from_then_on(self, tracker: SessionTracker, journal: Recorder) -> None:
        with tracker.request(user_id="ann") as request:
            tracker.looked_up(None, None)
            tracker.reused(None, "x")
            request.bind_session("e")
        assert unmet(journal) == []
        with tracker.request(user_id="ann") as request:
            tracker.reused(None, "x")
            request.bind_session("e")
            tracker.reused(None, "x")
        assert unmet(journal) == [("default", OTHER_USED, "x")]

    def test_the_first_expectation_stays_what_the_request_is_judged_by(
        self, tracker: SessionTracker, journal: Recorder
    ) -> None:
        with tracker.request(user_id="ann", session_id="e") as request:
            request.bind_session("x")
            tracker.reused(None, "x")
        assert request.context.session_id == "x"
        assert unmet(journal) == [("default", OTHER_USED, "x")]

    def test_one_that_could_be_known_goes_before_one_that_is_bound(
        self, tracker: SessionTracker, journal: Recorder
    ) -> None:
        with tracker.request(user_id="ann") as request:
            request.late_session = lambda: "e"
            request.bind_session("x")
            tracker.reused(None, "x")
        assert unmet(journal) == [("default", OTHER_USED, "x")]

    def test_of_too_many_sessions_nobody_knows_whether_it_was_among_them(
        self, tracker: SessionTracker, journal: Recorder
    ) -> None:
        for count in (SEEN_MAX, SEEN_MAX + 1):
            answers = iter([None, "e"])
            with tracker.request(user_id="ann") as request:
                request.late_session = lambda answers=answers: next(answers)
                for number in range(count):
                    tracker.reused(None, f"s-{number}")
        assert len(unmet(journal)) == 1

    def test_a_search_that_fails_is_counted_and_there_is_no_verdict(
        self, tracker: SessionTracker, journal: Recorder
    ) -> None:
        with tracker.request(user_id="ann") as request:
            request.late_session = lambda: 1 / 0
            tracker.reused(None, "x")
        assert unmet(journal) == []
        assert journal.errors == {"tracker": 2}  # at the first event, and at the end


class TestRequestsWithinRequests:
    def test_an_outer_request_has_what_an_inner_one_got(self, tracker: SessionTracker, journal: Recorder) -> None:
        with tracker.request(session_id="e"):
            tracker.looked_up("ann", None)
            with tracker.request(session_id="other"):
                tracker.reused("ann", "e")
                tracker.reused("ann", "other")
        assert unmet(journal) == []

    def test_an_inner_request_is_not_said_to_have_missed_what_the_outer_one_gets(
        self, tracker: SessionTracker, journal: Recorder
    ) -> None:
        with tracker.request(session_id="e"):
            with tracker.request():
                tracker.looked_up("ann", None)
            tracker.reused("ann", "e")
            with tracker.request():
                tracker.reused("ann", "x")
        assert unmet(journal) == []

    def test_both_tell_their_own_when_neither_got_it(self, tracker: SessionTracker, journal: Recorder) -> None:
        with tracker.request(request_id="outer", session_id="e"):
            tracker.looked_up("ann", None, asked="e")
            with tracker.request(request_id="inner"):
                tracker.reused("ann", "x")
            assert unmet(journal) == []
        told = [event for event in journal.events if isinstance(event, Unmet)]
        assert [(event.request, event.missed) for event in told] == [("inner", OTHER_USED), ("outer", MISSED_BY_ID)]

    def test_another_expectation_is_another_verdict(self, tracker: SessionTracker, journal: Recorder) -> None:
        with tracker.request(session_id="e"):
            tracker.reused("ann", "e")
            with tracker.request(session_id="e-2"):
                tracker.looked_up("ann", None, asked="e-2")
            assert unmet(journal) == [("default", MISSED_BY_ID, "")]
        assert len(unmet(journal)) == 1

    def test_a_job_of_another_user_expects_nothing(self, tracker: SessionTracker, journal: Recorder) -> None:
        with tracker.request(user_id="ann") as outer:
            outer.late_session = lambda: "e"
            tracker.reused(None, "e")
            with tracker.request(user_id="bob"):
                tracker.looked_up(None, None)
        assert unmet(journal) == []

    def test_what_an_inner_request_missed_and_made_was_not_there_for_the_outer_one_either(
        self, tracker: SessionTracker, journal: Recorder
    ) -> None:
        with tracker.request(session_id="e"), tracker.request():
            tracker.looked_up("ann", None, asked="e")
            tracker.created("ann", "e")
        assert unmet(journal) == [("default", MISSED_BY_ID, "")]

    def test_an_inner_request_may_expect_what_is_bound_before_it_does_anything(
        self, tracker: SessionTracker, journal: Recorder
    ) -> None:
        with tracker.request(session_id="e"):
            tracker.reused("ann", "e")
            with tracker.request() as inner:
                inner.bind_session("x")
                tracker.reused("ann", "x")
        assert unmet(journal) == []

    def test_a_job_that_outlives_its_request_tells_for_itself(self, tracker: SessionTracker, journal: Recorder) -> None:
        async def job(answered: asyncio.Event) -> None:
            with tracker.request(request_id="job"):
                await answered.wait()
                tracker.looked_up("ann", None)

        async def main() -> None:
            answered = asyncio.Event()
            async with tracker.request(session_id="e"):
                task = asyncio.create_task(job(answered))
                await asyncio.sleep(0)
            answered.set()
            await task

        asyncio.run(main())
        assert [event.request for event in journal.events if isinstance(event, Unmet)] == ["job"]

    def test_the_verdicts_that_wait_are_bounded(self, tracker: SessionTracker, journal: Recorder) -> None:
        with tracker.request(session_id="e"):
            for _ in range(HELD_MAX + 10):
                with tracker.request():
                    tracker.looked_up("ann", None)
        assert len(unmet(journal)) == HELD_MAX

    def test_an_outer_request_is_not_kept_by_an_inner_one_that_waits_with_it(self, tracker: SessionTracker) -> None:
        with tracker.request(session_id="e") as outer, tracker.request() as inner:
            tracker.looked_up("ann", None)
        gone = ref(outer), ref(inner)
        del outer, inner
        gc.collect()
        assert [each() for each in gone] == [None, None]


class TestTheExpectedSessionOfACreate:
    def test_a_create_names_the_session_that_its_request_had_before(
        self, tracker: SessionTracker, journal: Recorder
    ) -> None:
        with tracker.request(session_id="e"):
            tracker.created("ann", "before")
            tracker.reused("ann", "e")
            tracker.created("ann", "new")
            tracker.observed("ann", "seen")
            tracker.created("ann", "e")
            tracker.created("ann", "elsewhere", scope="chat")
        tracker.created("ann", "later")
        told = {event.session: event.expected for event in journal.events if isinstance(event, Created | Observed)}
        assert told == {"before": "", "new": "e", "seen": "e", "e": "", "elsewhere": "", "later": ""}

    def test_it_is_that_of_the_request_of_the_statement(
        self, tracker: SessionTracker, reporter: Reporter, journal: Recorder
    ) -> None:
        with tracker.request(session_id="e"):
            tracker.reused("ann", "e", scope="chat")
            where = reporter.surroundings()
        reporter.created("new", scope="chat", where=where, generation="g")
        reporter.observed("row", scope="chat", where=where, origin=ROW)
        assert [event.expected for event in journal.events[1:]] == ["e", "e"]  # type: ignore[union-attr]
        assert journal.events[1].generation == "g"  # type: ignore[union-attr]

    def test_a_request_around_may_have_had_it(self, tracker: SessionTracker, journal: Recorder) -> None:
        with tracker.request(session_id="e"):
            tracker.reused("ann", "e")
            with tracker.request():
                tracker.created("ann", "new")
        assert journal.events[-1].expected == "e"  # type: ignore[union-attr]


class TestThreadAndRun:
    def test_a_request_of_a_thread_says_so_once_in_each_scope(self, tracker: SessionTracker, journal: Recorder) -> None:
        with tracker.request(user_id="ann", request_id="r", thread_id="t", run_id="n"):
            for scope in ("chat", "chat", "form"):
                tracker.reused(None, "s", scope=scope)
                tracker.looked_up(None, None, scope=scope)
        told = [event for event in journal.events if isinstance(event, Identified)]
        assert [(event.scope, event.user, event.request, event.thread, event.run) for event in told] == [
            ("chat", "ann", "r", "t", "n"),
            ("form", "ann", "r", "t", "n"),
        ]

    def test_a_failed_create_is_reason_enough(
        self, tracker: SessionTracker, reporter: Reporter, journal: Recorder
    ) -> None:
        with tracker.request(run_id="n"):
            reporter.create_failed("timeout", scope="chat", where=reporter.surroundings())
        (told,) = [event for event in journal.events if isinstance(event, Identified)]
        assert (told.scope, told.thread, told.run) == ("chat", "", "n")

    def test_without_either_nothing_is_said(self, tracker: SessionTracker, journal: Recorder) -> None:
        with tracker.request(user_id="ann", session_id="s"):
            tracker.reused(None, "s")
        assert not [event for event in journal.events if isinstance(event, Identified)]


def test_scopes_are_bounded_and_a_find_in_a_further_one_is_a_find(tracker: SessionTracker, journal: Recorder) -> None:
    for session in ("x", "e"):
        with tracker.request(session_id="e", thread_id="t"):
            for number in range(SCOPES_MAX):
                tracker.ended("x", scope=f"scope-{number}")
            tracker.looked_up("ann", None, scope="scope-0")
            tracker.reused("ann", session, scope="one too many")
    assert unmet(journal) == [("scope-0", MISSED_BY_USER, "")]
    assert len([event for event in journal.events if isinstance(event, Identified)]) == 2 * SCOPES_MAX


def test_a_verdict_that_fails_is_counted_and_the_request_is_over(
    tracker: SessionTracker, journal: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("session_exporter.course.Course.shortfalls", broken)
    with tracker.request(session_id="e") as request:
        tracker.reused("ann", "x")
    assert request.ended
    assert journal.errors == {"tracker": 1}
