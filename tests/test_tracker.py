"""What the application tells becomes an event, and whatever goes wrong stays with the tracker."""

import gc
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorder import Recorder

from session_exporter import reporter
from session_exporter import tracker as door
from session_exporter.core import events
from session_exporter.core.events import (
    Attributed,
    Conflicted,
    ContextLost,
    Created,
    CreateFailed,
    DbSession,
    Ended,
    Identified,
    LookedUp,
    Observed,
    Reused,
    Unmet,
    Violated,
)
from session_exporter.tracker import SessionTracker

AT_US = 1_795_176_000_000_000


@pytest.fixture
def journal() -> Recorder:
    return Recorder()


@pytest.fixture
def tracker(journal: Recorder) -> SessionTracker:
    return SessionTracker(journal=journal, clock_ns=lambda: AT_US * 1000 + 999)


def without_sites(event: Any) -> Any:
    return type(event)(**{name: getattr(event, name) for name in event.__struct_fields__ if name != "sites"})


def test_the_numbers_on_the_wire_are_those_of_the_events() -> None:
    numbers = {kind: kind.__struct_config__.tag for kind in events.KINDS}
    assert numbers == {
        Created: door._CREATED,
        Reused: door._REUSED,
        LookedUp: door._LOOKED_UP,
        Observed: door._OBSERVED,
        Ended: door._ENDED,
        Attributed: door._ATTRIBUTED,
        ContextLost: door._CONTEXT_LOST,
        Conflicted: reporter._CONFLICTED,
        CreateFailed: reporter._CREATE_FAILED,
        Violated: reporter._VIOLATED,
        DbSession: reporter._DB_SESSION,
        Unmet: reporter._UNMET,
        Identified: reporter._IDENTIFIED,
    }
    shared = [getattr(reporter, name) for name in ("_CREATED", "LOOKED_UP", "OBSERVED", "_ENDED", "_ATTRIBUTED")]
    assert shared == [door._CREATED, door._LOOKED_UP, door._OBSERVED, door._ENDED, door._ATTRIBUTED]
    assert (reporter.RESULT, reporter.UPSERT, reporter.ROW) == (events.RESULT, events.UPSERT, events.ROW)


@pytest.mark.parametrize(
    ("call", "event"),
    [
        (lambda t: t.created("u", "s"), Created(AT_US, "default", "s", "u")),
        (lambda t: t.created(None, "s", scope="chat", key="phone"), Created(AT_US, "chat", "s", "", "phone")),
        (lambda t: t.reused("u", "s"), Reused(AT_US, "default", "s", "u")),
        (lambda t: t.reused("u", "s", scope="chat", key="phone"), Reused(AT_US, "chat", "s", "u", "phone")),
        (lambda t: t.looked_up("u", "s", duration_s=0.25), LookedUp(AT_US, "default", "s", "u", duration_us=250_000)),
        (lambda t: t.looked_up("u"), LookedUp(AT_US, "default", "", "u")),
        (lambda t: t.observed("u", "s"), Observed(AT_US, "default", "s", "u")),
        (lambda t: t.ended("s"), Ended(AT_US, "default", "s")),
        (lambda t: t.ended("s", user="u", reason="expired"), Ended(AT_US, "default", "s", "u", reason="expired")),
        (lambda t: t.attributed("s", "u"), Attributed(AT_US, "default", "s", "u")),
        (
            lambda t: t.context_lost("u", expected="a", actual=None),
            ContextLost(AT_US, "default", "", "u", expected="a", actual=""),
        ),
    ],
)
def test_each_call_records_one_event(call: Any, event: Any, tracker: SessionTracker, journal: Recorder) -> None:
    call(tracker)
    assert [without_sites(each) for each in journal.events] == [event]
    assert not journal.errors


@pytest.mark.parametrize("created_at", [datetime.fromtimestamp(5, UTC), 5, "1970-01-01T00:00:05Z"])
def test_an_observation_says_when_the_session_was_created(
    created_at: Any, tracker: SessionTracker, journal: Recorder
) -> None:
    tracker.observed("u", "s", created_at, duration_s=0.5)
    (event,) = journal.events
    assert (event.created_at_us, event.duration_us) == (5_000_000, 500_000)


def test_a_naive_creation_time_is_left_out_and_counted(tracker: SessionTracker, journal: Recorder) -> None:
    tracker.observed("u", "s", datetime(2026, 11, 20))  # noqa: DTZ001 - what is under test
    (event,) = journal.events
    assert (event.session, event.created_at_us) == ("s", 0)
    assert journal.errors == {"tracker": 1}


def test_an_observation_of_no_session_is_a_lookup_that_found_none(tracker: SessionTracker, journal: Recorder) -> None:
    tracker.observed("u", None, duration_s=0.5)
    assert [without_sites(event) for event in journal.events] == [
        LookedUp(AT_US, "default", "", "u", duration_us=500_000)
    ]


def test_creates_lookups_observations_and_losses_carry_their_call_site(
    tracker: SessionTracker, journal: Recorder
) -> None:
    tracker.created("u", "s")
    tracker.looked_up("u", "s")
    tracker.observed("u", "s")
    tracker.context_lost("u", expected="a", actual="b")
    for event in journal.events:
        assert event.sites[0].partition(":")[0].endswith("test_tracker.py")
        assert event.sites[0].endswith("test_creates_lookups_observations_and_losses_carry_their_call_site")


@pytest.mark.parametrize("user", [7, "7", b"7"])
@pytest.mark.parametrize("session", [UUID(int=5), str(UUID(int=5))])
def test_ids_of_all_types_become_one_text(user: Any, session: Any, tracker: SessionTracker, journal: Recorder) -> None:
    tracker.reused(user, session)
    assert journal.events == [Reused(AT_US, "default", "00000000-0000-0000-0000-000000000005", "7")]


@pytest.mark.parametrize("session", ["ü" * 65, "x" * 300, "\udc80"])
def test_unusual_texts_are_recorded_too(session: str, tracker: SessionTracker, journal: Recorder) -> None:
    tracker.reused("u", session)
    assert len(journal.events) == 1
    assert not journal.errors


@pytest.mark.parametrize("bad", [object(), True, 1.5, {}, []])
@pytest.mark.parametrize(
    "call",
    [
        lambda t, bad: t.created("u", bad),
        lambda t, bad: t.created(bad, "s"),
        lambda t, bad: t.created("u", "s", key=bad),
        lambda t, bad: t.created("u", "s", scope=bad),
        lambda t, bad: t.reused("u", bad),
        lambda t, bad: t.reused(bad, "s"),
        lambda t, bad: t.reused("u", "s", key=bad),
        lambda t, bad: t.reused("u", "s", scope=bad),
        lambda t, bad: t.looked_up("u", bad),
        lambda t, bad: t.observed("u", bad),
        lambda t, bad: t.ended(bad),
        lambda t, bad: t.ended("s", reason=bad),
        lambda t, bad: t.attributed(bad, "u"),
        lambda t, bad: t.attributed("s", bad),
        lambda t, bad: t.context_lost(bad, expected="a", actual="b"),
    ],
)
def test_what_is_no_id_is_counted_and_not_recorded(
    bad: Any, call: Any, tracker: SessionTracker, journal: Recorder
) -> None:
    call(tracker, bad)
    assert journal.events == []
    tracker.reused("u", "s")
    assert journal.errors == {"tracker": 1}


@pytest.mark.parametrize("empty", [None, "", b""])
@pytest.mark.parametrize(
    "call",
    [
        lambda t, empty: t.created("u", empty),
        lambda t, empty: t.reused("u", empty),
        lambda t, empty: t.ended(empty),
        lambda t, empty: t.attributed(empty, "u"),
        lambda t, empty: t.attributed("s", empty),
    ],
)
def test_an_empty_id_is_counted_and_not_recorded(
    empty: Any, call: Any, tracker: SessionTracker, journal: Recorder
) -> None:
    call(tracker, empty)
    assert journal.events == []
    tracker.reused("u", "s")
    assert journal.errors == {"tracker": 1}


def test_a_reported_loss_is_recorded_even_when_its_sessions_cannot_be(
    tracker: SessionTracker, journal: Recorder
) -> None:
    tracker.context_lost("u", expected=object(), actual="b")
    (event,) = journal.events
    assert (event.expected, event.actual) == ("", "b")
    assert journal.errors == {"tracker": 1}


def test_a_lookup_is_recorded_even_when_its_duration_cannot_be(tracker: SessionTracker, journal: Recorder) -> None:
    tracker.looked_up("u", "s", duration_s=float("nan"))
    assert [event.duration_us for event in journal.events] == [0]
    assert journal.errors == {"tracker": 1}


def test_scopes_are_remembered_within_bounds(tracker: SessionTracker, journal: Recorder) -> None:
    for n in range(1000):
        tracker.reused("u", "s", scope=f"scope-{n}")
    assert len(journal.events) == 1000
    assert len(tracker._scopes) == door.SCOPES_REMEMBERED_MAX


class _Hostile:
    """Raises whatever is asked of it."""

    def _raise(self, *_args: object) -> Any:
        raise RuntimeError("hostile")

    __str__ = __repr__ = __eq__ = __hash__ = __len__ = __bool__ = __iter__ = __float__ = __lt__ = __le__ = _raise
    __getattr__ = __deepcopy__ = __reduce_ex__ = __index__ = __format__ = _raise

    @property
    def __class__(self) -> Any:
        raise RuntimeError("hostile")


class _HostileText(str):
    __slots__ = ()
    __str__ = __repr__ = __eq__ = __hash__ = __len__ = isascii = encode = _Hostile._raise


class _HostileTime(datetime):
    utcoffset = __sub__ = _Hostile._raise


ANYTHING = st.one_of(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary() | st.uuids(),
    st.datetimes() | st.dictionaries(st.text(), st.integers()) | st.lists(st.integers()),
    st.builds(_Hostile) | st.builds(_HostileText, st.text()) | st.just(_HostileTime(2026, 1, 1, tzinfo=UTC)),
    st.just(object) | st.builds(object) | st.just(10**5000) | st.text(min_size=300),
)
CALLS = {
    "created": ("user", "session", "scope", "key"),
    "reused": ("user", "session", "scope", "key"),
    "looked_up": ("user", "session", "scope", "key", "duration_s"),
    "observed": ("user", "session", "created_at", "scope", "key", "duration_s"),
    "ended": ("session", "user", "reason", "scope", "key"),
    "attributed": ("session", "user", "scope", "key"),
    "context_lost": ("user", "expected", "actual", "scope", "key"),
    "register_hook": ("name", "active"),
}


@given(data=st.data(), name=st.sampled_from(sorted(CALLS)))
def test_no_call_raises_whatever_it_is_given(data: st.DataObject, name: str) -> None:
    journal = Recorder()
    getattr(SessionTracker(journal=journal), name)(**{each: data.draw(ANYTHING) for each in CALLS[name]})
    assert len(journal.events) <= 1


@given(data=st.data())
def test_no_request_raises_whatever_it_is_given(data: st.DataObject) -> None:
    names = ("user_id", "request_id", "session_id", "thread_id", "run_id", "metadata")
    tracker = SessionTracker(journal=Recorder())
    with tracker.request(**{name: data.draw(ANYTHING) for name in names}) as request:
        request.bind_user(data.draw(ANYTHING))
        request.bind_session(data.draw(ANYTHING))
        tracker.reused(None, "s")
    assert request.context.request_id


def test_a_failing_journal_is_counted(journal: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_fields: object) -> None:
        raise OSError("disk")

    monkeypatch.setattr(journal, "append", fail)
    tracker = SessionTracker(journal=journal)
    tracker.reused("u", "s")
    tracker.created("u", "s")
    assert journal.errors == {"tracker": 2}


def test_a_shield_counts_under_its_hook(tracker: SessionTracker, journal: Recorder) -> None:
    with tracker.shielded("sqlalchemy"):
        raise KeyError("s-1")
    tracker.reused("u", "s")
    assert journal.errors == {"sqlalchemy": 1}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_shield_lets_pass_what_is_no_exception(error: Any, tracker: SessionTracker, journal: Recorder) -> None:
    with pytest.raises(error), tracker.shielded("sqlalchemy"):
        raise error
    assert not journal.errors


@pytest.mark.parametrize("frames_left", range(5, 16))
@pytest.mark.parametrize("session", ["s", object()])
@pytest.mark.parametrize("name", ["created", "reused", "looked_up", "observed", "attributed"])
def test_no_call_raises_near_the_end_of_the_stack(frames_left: int, session: Any, name: str, journal: Recorder) -> None:
    method = getattr(SessionTracker(journal=journal), name)
    first, second = (session, "u") if name == "attributed" else ("u", session)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    try:
        _at_the_end_of_the_stack(frames_left, lambda: method(first, second))
    finally:
        sys.setrecursionlimit(limit)
    assert len(journal.events) <= 1


def _at_the_end_of_the_stack(frames_left: int, call: Callable[[], None]) -> None:
    """Call so deep that `call` can call something of `frames_left` frames, itself included, and nothing deeper."""

    def dive(frames: int, call: Callable[[], None]) -> None:
        if frames:
            dive(frames - 1, call)
        else:
            call()

    deepest = 0
    with suppress(RecursionError):
        while True:
            dive(deepest, lambda: None)
            deepest += 1
    dive(deepest - 1 - frames_left, call)


def test_a_finalizer_may_record_while_an_event_is_recorded(journal: Recorder) -> None:
    class Pooled:
        def __del__(self) -> None:
            tracker.ended("s-2")

    class Collecting(Recorder):
        def append(self, fields: tuple[object, ...]) -> None:
            if fields[0] == door._CREATED:
                cycle: list[Any] = [Pooled()]
                cycle.append(cycle)
                del cycle
                gc.collect()
            super().append(fields)

    collecting = Collecting()
    tracker = SessionTracker(journal=collecting)
    tracker.created("u", "s-1")
    assert sorted(event.session for event in collecting.events) == ["s-1", "s-2"]
    assert not collecting.errors


@pytest.mark.parametrize("value", ["1", "true", "YES"])
def test_a_disabled_tracker_does_nothing(value: Any, journal: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSION_EXPORTER_DISABLED", value)
    tracker = SessionTracker(journal=journal)
    for name, arguments in CALLS.items():
        getattr(tracker, name)(**dict.fromkeys(arguments, "x"))
        getattr(tracker, name)(**dict.fromkeys(arguments, object()))
    with tracker.request(user_id="u") as request, tracker.shielded("calls"):
        assert request.context.user_id == "u"
        raise KeyError
    assert journal.events == []
    assert not journal.errors
    assert not journal.hooks


def test_a_tracker_opens_nothing_before_the_first_event(tmp_path: Path) -> None:
    tracker = SessionTracker(tmp_path / "journal")
    with tracker.request(user_id="u"):
        pass
    tracker.close()
    assert list(tmp_path.iterdir()) == []


def test_importing_the_tracker_imports_neither_opentelemetry_nor_wrapt_nor_yaml() -> None:
    code = (
        "import sys, session_exporter.tracker\n"
        "print([name for name in ('opentelemetry', 'wrapt', 'yaml', 'click', 'aiohttp') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"


def test_hooks_report_themselves(tracker: SessionTracker, journal: Recorder) -> None:
    tracker.register_hook("sqlalchemy")
    tracker.register_hook("calls", active=False)
    tracker.reused("u", "s")
    tracker.register_hook("sqlalchemy", active=False)
    assert journal.hooks == {"sqlalchemy": False, "calls": False}
