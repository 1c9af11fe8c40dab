"""What hooks report: time and surroundings are those of the statement."""

import pytest
from recorder import Recorder

from session_exporter.core.events import Attributed, Conflicted, Created, Ended, LookedUp, Observed
from session_exporter.reporter import UPSERT, Reporter
from session_exporter.surroundings import NOWHERE
from session_exporter.tracker import SessionTracker

AT_US = 1_795_176_000_000_000


@pytest.fixture
def journal() -> Recorder:
    return Recorder()


@pytest.fixture
def tracker(journal: Recorder) -> SessionTracker:
    return SessionTracker(journal=journal, clock_ns=lambda: AT_US * 1000)


@pytest.fixture
def reporter(tracker: SessionTracker) -> Reporter:
    return tracker.reporter("sqlalchemy")


def test_an_event_has_the_surroundings_of_the_statement_and_the_time_of_the_commit(
    journal: Recorder, tracker: SessionTracker, reporter: Reporter
) -> None:
    with tracker.request(request_id="r1", user_id="ann"):
        where = reporter.surroundings()
    reporter.created("s1", scope="chat", where=where, at_us=AT_US + 5, generation="t1")
    assert journal.events == [Created(AT_US + 5, "chat", "s1", "ann", "", "r1", b"", where.sites, "t1")]
    assert "test_an_event_has_the_surroundings" in where.sites[0]


def test_the_user_may_become_known_between_statement_and_commit(
    journal: Recorder, tracker: SessionTracker, reporter: Reporter
) -> None:
    with tracker.request() as request:
        where = reporter.surroundings()
        request.bind_user("ann")
        reporter.created("s1", scope="chat", where=where)
    assert [event.user for event in journal.events] == ["ann"]


def test_a_user_that_the_request_can_find_is_asked_for_only_when_needed_and_until_known(
    journal: Recorder, tracker: SessionTracker, reporter: Reporter
) -> None:
    answers = iter([None, "ann"])
    with tracker.request() as request:
        request.late_user = lambda: next(answers)
        where = reporter.surroundings()
        for _ in range(3):
            reporter.looked_up("s1", scope="chat", where=where)
        tracker.reused(None, "s1")
    assert [event.user for event in journal.events] == ["", "ann", "ann", "ann"]
    assert not journal.errors


def test_a_search_for_the_user_that_fails_is_counted_and_the_event_kept(
    journal: Recorder, tracker: SessionTracker, reporter: Reporter
) -> None:
    with tracker.request() as request:
        request.late_user = lambda: 1 / 0
        reporter.looked_up("s1", scope="chat", where=reporter.surroundings())
    assert [event.user for event in journal.events] == [""]
    assert journal.errors == {"tracker": 1}


def test_a_user_that_is_not_known_is_not_that_of_the_request(
    journal: Recorder, tracker: SessionTracker, reporter: Reporter
) -> None:
    with tracker.request(user_id="ann"):
        reporter.created("s1", scope="chat", user="", where=reporter.surroundings())
    assert [event.user for event in journal.events] == [""]


def test_each_call_is_the_event_that_it_says(journal: Recorder, reporter: Reporter) -> None:
    about = {"scope": "chat", "user": "ann", "key": "phone", "where": NOWHERE, "at_us": 7}
    reporter.looked_up(None, **about, duration_us=3, again=True)
    reporter.observed("s1", **about, created_at_us=5, duration_us=3, origin=UPSERT, generation=4)
    reporter.ended("s1", **about, reason="expired")
    reporter.attributed("s1", **about)
    reporter.conflicted(None, **about)
    who = (7, "chat", "s1", "ann", "phone")
    assert journal.events == [
        LookedUp(7, "chat", "", "ann", "phone", duration_us=3, again=True),
        Observed(*who, created_at_us=5, duration_us=3, origin=UPSERT, generation="4"),
        Ended(*who, reason="expired"),
        Attributed(*who),
        Conflicted(7, "chat", "", "ann", "phone"),
    ]


def test_what_cannot_be_reported_is_counted_under_the_hooks_name(journal: Recorder, reporter: Reporter) -> None:
    reporter.created(object(), scope="chat", where=NOWHERE)
    reporter.attributed("s1", scope="chat", user="", where=NOWHERE)
    assert journal.events == []
    assert journal.errors == {"sqlalchemy": 2}


def test_figures_of_the_process_go_to_the_journal(journal: Recorder, reporter: Reporter) -> None:
    reporter.register(active=True)
    reporter.set_gauge("db_open_sessions", 3)
    reporter.add_count("db_sessions_opened", 2)
    reporter.pool_waited(40)
    assert journal.hooks == {"sqlalchemy": True}
    assert (journal.gauges, journal.counts) == ({"db_open_sessions": 3}, {"db_sessions_opened": 2})
    assert journal.pool_waits_us == [40]
