"""What an old code base keeps calling counts as the sidecar does, and says so in the log."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from recorder import Recorder

from session_exporter import MetricsService, SessionTracker, metrics_service
from session_exporter.core.events import ContextLost, Created, Reused
from session_exporter.core.scopes import Limits
from session_exporter.journal import JournalReader
from session_exporter.ratelimit import PER_MINUTE, RateLimit

LOGGER = metrics_service.logger.name
START_NS = 1_800_000_000 * 10**9
KEY = b"k" * 32


class Clock:
    """Nanoseconds; a little later each time it is asked."""

    def __init__(self) -> None:
        self.now_ns = START_NS

    def __call__(self) -> int:
        self.now_ns += 1000
        return self.now_ns

    def wait(self, seconds: float) -> None:
        self.now_ns += int(seconds * 10**9)


@pytest.fixture
def journal() -> Recorder:
    return Recorder()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def service(journal: Recorder, clock: Clock) -> MetricsService:
    return MetricsService(SessionTracker(journal=journal), pseudonym_key=KEY, clock_ns=clock)


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log, whose limit starts anew."""
    logger = metrics_service.logger
    filters, logger.filters = logger.filters, [RateLimit(PER_MINUTE, lambda: 0.0)]
    caplog.set_level(logging.DEBUG, LOGGER)
    yield caplog
    logger.filters = filters


def alarms(logged: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    """Level and text of the lines that mean trouble."""
    return [(level, text) for _, level, text in logged.record_tuples if "METRIC ALERT" in text]


def summary(created: int = 0, reused: int = 0, ratio: float = 0.0, lost: int = 0, *, healthy: bool) -> dict[str, Any]:
    return {
        "sessions_created": created,
        "sessions_reused": reused,
        "session_reuse_ratio": ratio,
        "context_loss_incidents": lost,
        "reuse_ratio_healthy": healthy,
    }


def test_without_traffic_everything_is_zero(service: MetricsService) -> None:
    assert service.get_session_reuse_ratio() == 0.0
    assert service.get_metrics_summary() == summary(healthy=False)


def test_it_counts_what_it_is_told(service: MetricsService) -> None:
    service.track_session_created("ann", "a")
    for _ in range(19):
        service.track_session_reused("ann", "a")
    service.track_context_loss("ann", "a", "b")
    assert service.get_session_reuse_ratio() == 0.95
    assert service.get_metrics_summary() == summary(1, 19, 0.95, 1, healthy=True)


def test_a_ratio_below_the_target_is_not_healthy(service: MetricsService) -> None:
    service.track_session_created("ann", "a")
    service.track_session_reused("ann", "a")
    assert service.get_metrics_summary() == summary(1, 1, 0.5, healthy=False)
    lenient = MetricsService(SessionTracker(journal=Recorder()), reuse_target=0.5)
    lenient.track_session_created("ann", "a")
    lenient.track_session_reused("ann", "a")
    assert lenient.get_metrics_summary()["reuse_ratio_healthy"] is True


def test_a_session_is_created_once_however_often_that_is_told(service: MetricsService, logged) -> None:
    for _ in range(3):
        service.track_session_created("ann", "a")
    assert service.get_metrics_summary()["sessions_created"] == 1
    assert alarms(logged) == []


def test_sessions_of_one_user_within_seconds_are_an_alarm(service: MetricsService, clock: Clock, logged) -> None:
    for session in ("a", "b", "c"):
        service.track_session_created("ann", session)
    clock.wait(10)
    service.track_session_created("ann", "d")
    service.track_session_created("ben", "e")
    user = service._names.label("u", service._names["ann"])
    assert alarms(logged) == [
        (logging.WARNING, f"METRIC ALERT: User {user} created 2 sessions in 10s"),
        (logging.WARNING, f"METRIC ALERT: User {user} created 3 sessions in 10s"),
    ]
    assert logged.records[0].cause == "same_worker"
    assert service.get_metrics_summary()["sessions_created"] == 5


def test_two_sessions_of_one_request_are_told_as_such(service: MetricsService, logged) -> None:
    with SessionTracker(journal=Recorder()).request(user_id="ann"):
        service.track_session_created(None, "a")
        service.track_session_created(None, "b")
    [line] = [record for record in logged.records if record.levelno == logging.WARNING]
    assert line.cause == "same_request"


def test_a_lost_context_is_an_alarm_without_the_ids(service: MetricsService, logged) -> None:
    service.track_context_loss("ann", "secret-1", "secret-2")
    user, expected, actual = (
        service._names.label(prefix, service._names[text])
        for prefix, text in (("u", "ann"), ("s", "secret-1"), ("s", "secret-2"))
    )
    line = f"METRIC ALERT: Context loss for user {user}: expected {expected}, got {actual}"
    assert alarms(logged) == [(logging.ERROR, line)]
    assert "secret" not in logged.text


def test_a_context_that_is_nothing_is_shown_as_nothing(service: MetricsService, logged) -> None:
    service.track_context_loss(None, "a", None)
    [(_, line)] = alarms(logged)
    assert line.startswith("METRIC ALERT: Context loss for user -: expected s:")
    assert line.endswith(", got -")


def test_each_reuse_is_told_at_level_debug(service: MetricsService, logged) -> None:
    service.track_session_reused("ann", "a")
    user = service._names.label("u", service._names["ann"])
    assert logged.record_tuples == [(LOGGER, logging.DEBUG, f"METRIC: Session reused for user {user}")]


def test_one_session_of_two_users_is_an_alarm(service: MetricsService, logged) -> None:
    service.track_session_created("ann", "a")
    service.track_session_reused("ben", "a")
    assert service.get_session_reuse_ratio() == 0.5
    assert [line.split(" for ")[0] for _, line in alarms(logged)] == [
        "METRIC ALERT: Isolation violation session_of_two_users"
    ]


def test_a_session_that_follows_another_is_no_loss_since_nobody_tells_of_ends(
    service: MetricsService, clock: Clock, logged
) -> None:
    service.track_session_created("ann", "a")
    clock.wait(60)
    service.track_session_created("ann", "b")
    clock.wait(60)
    service.track_session_reused("ann", "b")
    assert service.get_metrics_summary() == summary(2, 1, 1 / 3, healthy=False)
    assert alarms(logged) == []


def test_the_log_is_not_flooded(service: MetricsService, logged) -> None:
    for number in range(2 * PER_MINUTE):
        service.track_session_created("ann", f"s{number}")
    assert len(alarms(logged)) == PER_MINUTE
    assert service.get_metrics_summary()["sessions_created"] == 2 * PER_MINUTE


def test_the_summary_is_one_line_of_the_log(service: MetricsService, logged) -> None:
    service.track_session_created("ann", "a")
    service.track_session_reused("ann", "a")
    service.log_metrics_summary()
    line = (
        "METRIC SUMMARY: sessions_created=1 sessions_reused=1 session_reuse_ratio=0.5000 context_loss_incidents=0"
        " reuse_ratio_healthy=False"
    )
    assert logged.record_tuples[-1] == (LOGGER, logging.INFO, line)


def test_a_reset_forgets_sessions_as_well(service: MetricsService, logged) -> None:
    service.track_session_created("ann", "a")
    service.track_context_loss("ann", "a", "b")
    service.reset_metrics()
    assert service.get_metrics_summary() == summary(healthy=False)
    logged.clear()
    service.track_session_created("ann", "a")
    assert service.get_metrics_summary()["sessions_created"] == 1
    assert alarms(logged) == []


def test_the_sidecar_learns_of_everything(service: MetricsService, journal: Recorder) -> None:
    user, session = UUID(int=1), 7
    with SessionTracker(journal=Recorder()).request(user_id="ann", request_id="r"):
        service.track_session_created(user, session)
        service.track_session_reused(None, session)
        service.track_context_loss(None, {"project": 1}, None)
    created, reused, lost = journal.events
    assert isinstance(created, Created)
    assert isinstance(reused, Reused)
    assert isinstance(lost, ContextLost)
    assert (created.user, created.session, created.request) == (str(user), "7", "r")
    assert created.sites[0].split(":")[-1] == "test_the_sidecar_learns_of_everything"
    assert (reused.user, reused.session) == ("ann", "7")
    assert (lost.user, lost.expected, lost.actual) == ("ann", "{'project': 1}", "")
    assert journal.hooks == {"metrics_service": True}


def test_it_finds_the_journal_by_itself(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SESSION_EXPORTER_DIR", str(tmp_path))
    service = MetricsService(scope="conversation")
    service.track_session_created("ann", "a")
    reader = JournalReader(tmp_path, {})
    reader.scan()
    batch = reader.read()
    assert batch is not None
    assert [(event.scope, event.session) for event in batch.events] == [("conversation", "a")]
    reader.close()
    service._tracker.close()


class Context(Enum):
    PROJECT = "project"


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    "context", [None, "", "text", 7, UUID(int=3), b"raw", True, 1.5, {"a": [1]}, ["x"], Context.PROJECT, "x" * 10_000]
)
def test_a_context_may_be_anything(service: MetricsService, journal: Recorder, context) -> None:
    service.track_context_loss("ann", context, context)
    assert service.get_metrics_summary()["context_loss_incidents"] == 1
    assert journal.errors.total() == 0


def test_a_context_that_has_no_text_is_left_out_and_counted(service: MetricsService, journal: Recorder) -> None:
    service.track_context_loss("ann", Unspeakable(), "b")
    assert service.get_metrics_summary()["context_loss_incidents"] == 1
    assert journal.errors == {"metrics_service": 1}


@pytest.mark.parametrize("nonsense", [None, "", 1.5, {}, object(), True])
def test_what_is_no_session_is_counted_as_a_failure_and_nothing_else(
    service: MetricsService, journal: Recorder, nonsense
) -> None:
    service.track_session_created("ann", nonsense)
    service.track_session_reused("ann", nonsense)
    assert service.get_metrics_summary() == summary(healthy=False)
    assert journal.errors == {"metrics_service": 2}
    assert journal.events == []


def test_a_user_may_be_unknown(service: MetricsService, journal: Recorder) -> None:
    service.track_session_created(None, "a")
    service.track_session_created("", "b")
    assert service.get_metrics_summary()["sessions_created"] == 2
    assert journal.errors.total() == 0


def test_a_broken_ledger_does_not_reach_the_application(
    service: MetricsService, journal: Recorder, monkeypatch
) -> None:
    monkeypatch.setattr(service, "_ledger", None)
    service.track_session_created("ann", "a")
    assert service.get_metrics_summary() == summary(healthy=False)
    assert [type(event) for event in journal.events] == [Created]
    assert journal.errors["metrics_service"] == 2


def test_it_goes_on_counting_while_recording_is_disabled(monkeypatch) -> None:
    monkeypatch.setenv("SESSION_EXPORTER_DISABLED", "1")
    service = MetricsService()
    service.track_session_created("ann", "a")
    assert service.get_metrics_summary()["sessions_created"] == 1


def test_threads_count_together(service: MetricsService) -> None:
    def work(number: int) -> None:
        for turn in range(50):
            service.track_session_created(f"u{number}", f"s{number}")
            service.track_session_reused(f"u{number}", f"s{number}")
            service.track_session_created(f"v{number}-{turn}", f"t{number}-{turn}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert service.get_metrics_summary() == summary(8 * 51, 8 * 50, 400 / 808, healthy=False)


def test_a_signal_handler_may_call_in_the_middle_of_a_call(service: MetricsService) -> None:
    calls = 0

    def handler(*_: object) -> None:
        nonlocal calls
        calls += 1
        service.track_session_reused("ann", "a")
        service.get_metrics_summary()

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for number in range(2000):
            service.track_session_created(f"u{number}", f"s{number}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert calls
    counted = service.get_metrics_summary()
    assert (counted["sessions_created"], counted["sessions_reused"]) == (2000, calls)


def test_a_handler_of_the_log_may_call(service: MetricsService) -> None:
    class Reporting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno == logging.WARNING:
                service.track_session_reused("ann", "a")

    handler = Reporting()
    metrics_service.logger.addHandler(handler)
    try:
        service.track_session_created("ann", "a")
        service.track_session_created("ann", "b")
    finally:
        metrics_service.logger.removeHandler(handler)
    assert service.get_metrics_summary() == summary(2, 1, 1 / 3, healthy=False)


def test_a_forked_child_starts_at_zero_whoever_was_counting(service: MetricsService) -> None:
    service.track_session_created("ann", "a")
    with service._lock:
        service._busy = True
        pid = os.fork()
        if pid == 0:
            try:
                ok = service.get_metrics_summary() == summary(healthy=False)
                service.track_session_created("ann", "a")
                os._exit(0 if ok and service.get_metrics_summary()["sessions_created"] == 1 else 1)
            finally:
                os._exit(2)
        service._busy = False
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert service.get_metrics_summary()["sessions_created"] == 1


def test_memory_is_bounded(monkeypatch, journal: Recorder) -> None:
    monkeypatch.setattr(metrics_service, "_LIMITS", Limits(max_tracked_sessions=10, max_incidents=2))
    service = MetricsService(SessionTracker(journal=journal))
    for number in range(100):
        service.track_session_created("ann", f"s{number}")
    assert service.get_metrics_summary()["sessions_created"] == 100
    ledger = service._ledger._ledger
    [judge] = [judge for judge in ledger.judges.values() if judge.rules.name == "default"]
    assert len(judge.people.sessions) == 10
    assert len(judge.people.left_sessions) == len(judge.tally.incidents) == len(judge.tally.minutes) == 0


def test_a_clock_that_was_ahead_does_not_rule_for_long(service: MetricsService, clock: Clock) -> None:
    service.track_session_created("ann", "a")
    clock.wait(86400)
    service.track_session_reused("ben", "b")
    clock.wait(-86400)
    service.track_session_created("cem", "c")
    service.track_session_created("cem", "c")
    clock.wait(1)
    service.track_session_created("cem", "d")
    assert service.get_metrics_summary()["sessions_created"] == 3


@pytest.mark.parametrize(
    ("argument", "value"),
    [("reuse_target", 1.5), ("reuse_target", -1), ("duplicate_window_s", 0), ("duplicate_window_s", float("nan"))],
)
def test_a_wrong_argument_of_the_constructor_is_named(argument, value) -> None:
    with pytest.raises(ValueError, match=f"{argument} {value}: expected"):
        MetricsService(SessionTracker(journal=Recorder()), **{argument: value})
