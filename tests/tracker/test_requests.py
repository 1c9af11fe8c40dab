"""Events know the request and the trace they belong to."""

import asyncio
import contextvars
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, SpanContext, use_span
from recorder import Recorder

from session_exporter import traces
from session_exporter.ambient import current_request
from session_exporter.core.events import Reused
from session_exporter.tracker import SessionTracker


@pytest.fixture
def journal() -> Recorder:
    return Recorder()


@pytest.fixture
def tracker(journal: Recorder) -> SessionTracker:
    return SessionTracker(journal=journal)


def test_events_of_a_request_carry_its_id_and_those_after_it_do_not(tracker: SessionTracker, journal: Recorder) -> None:
    with tracker.request(request_id="r-1"):
        tracker.reused("u", "s")
        tracker.created("u", "s")
    tracker.reused("u", "s")
    assert [event.request for event in journal.events] == ["r-1", "r-1", ""]


def test_a_request_that_is_given_no_id_gets_one_of_its_own(tracker: SessionTracker, journal: Recorder) -> None:
    for _ in range(2):
        with tracker.request():
            tracker.reused("u", "s")
    first, second = (event.request for event in journal.events)
    assert len(first) == len(second) == 16
    assert first != second


@pytest.mark.parametrize("name", ["created", "reused", "looked_up", "observed"])
def test_the_user_of_the_request_is_the_one_who_is_not_given(
    name: str, tracker: SessionTracker, journal: Recorder
) -> None:
    with tracker.request(user_id="u-1"):
        getattr(tracker, name)(None, "s")
        getattr(tracker, name)("u-2", "s")
    assert [event.user for event in journal.events] == ["u-1", "u-2"]


def test_a_session_may_be_attributed_to_the_user_of_the_request(tracker: SessionTracker, journal: Recorder) -> None:
    with tracker.request(user_id="u-1"):
        tracker.attributed("s", None)
    assert [event.user for event in journal.events] == ["u-1"]


def test_what_is_bound_during_a_request_counts_from_then_on(tracker: SessionTracker, journal: Recorder) -> None:
    with tracker.request(request_id="r") as request:
        tracker.reused(None, "s")
        request.bind_user(UUID(int=7))
        request.bind_session(b"s-9")
        tracker.reused(None, "s")
    reuses = [event for event in journal.events if isinstance(event, Reused)]
    assert [event.user for event in reuses] == ["", "00000000-0000-0000-0000-000000000007"]
    assert (request.context.request_id, request.context.session_id) == ("r", "s-9")


def test_binding_nobody_changes_nothing(tracker: SessionTracker, journal: Recorder) -> None:
    with tracker.request(user_id="u", session_id="s") as request:
        request.bind_user(None)
        request.bind_session(None)
    assert (request.context.user_id, request.context.session_id) == ("u", "s")
    tracker.close()
    assert not journal.errors


def test_ids_of_all_types_are_the_same_in_the_context_and_in_events(tracker: SessionTracker, journal: Recorder) -> None:
    with tracker.request(user_id=b"\xff" * 16, request_id="r" * 500) as request:
        tracker.reused(b"\xff" * 16, "s")
    (event,) = journal.events
    assert (request.context.user_id, request.context.request_id) == (event.user, event.request)


@pytest.mark.parametrize("bad", ["", "None", "undefined", object(), True, 1.5])
@pytest.mark.parametrize("name", ["user_id", "request_id", "session_id", "thread_id", "run_id"])
def test_an_unusable_id_is_counted_and_the_rest_is_kept(
    name: str, bad: Any, tracker: SessionTracker, journal: Recorder
) -> None:
    given: dict[str, Any] = {"user_id": "u", "request_id": "r", "session_id": "s", "thread_id": "t", "run_id": "n"}
    with tracker.request(**{**given, name: bad}) as request:
        tracker.reused(None, "s")
    for each, value in given.items():
        if each != name:
            assert getattr(request.context, each) == value
    assert journal.events[0].request == request.context.request_id
    tracker.reused("u", "s")
    assert journal.errors == {"tracker": 1}


def test_metadata_that_cannot_be_copied_is_counted_and_left_out(tracker: SessionTracker, journal: Recorder) -> None:
    with tracker.request(user_id="u", metadata={"generator": (x for x in ())}) as request:
        tracker.reused(None, "s")
    assert request.context.user_id == "u"
    assert request.context.metadata == {}
    assert journal.errors == {"tracker": 1}


@pytest.mark.parametrize("bad", ["None", "", object()])
def test_binding_what_is_unusable_is_counted_and_changes_nothing(
    bad: Any, tracker: SessionTracker, journal: Recorder
) -> None:
    with tracker.request(user_id="u", session_id="s") as request:
        request.bind_user(bad)
        request.bind_session(bad)
        tracker.reused(None, "s")
    assert (request.context.user_id, request.context.session_id) == ("u", "s")
    assert journal.errors == {"tracker": 2}


def test_a_nested_request_has_an_id_of_its_own_and_gives_way_to_the_outer_one(
    tracker: SessionTracker, journal: Recorder
) -> None:
    with tracker.request(request_id="outer"):
        with tracker.request(request_id="inner"):
            tracker.reused("u", "s")
        tracker.reused("u", "s")
    assert [event.request for event in journal.events] == ["inner", "outer"]


def test_a_nested_request_keeps_what_the_outer_one_knows(tracker: SessionTracker) -> None:
    with (
        tracker.request(user_id="u", session_id="s", thread_id="t", metadata={"a": 1}) as outer,
        tracker.request(thread_id="t-2", metadata={"b": 2}) as inner,
    ):
        context = inner.context
    assert (context.user_id, context.session_id, context.thread_id) == ("u", "s", "t-2")
    assert context.metadata == {"a": 1, "b": 2, "parent_request_id": outer.context.request_id}


def test_a_nested_request_of_another_user_keeps_nothing(tracker: SessionTracker) -> None:
    with tracker.request(user_id="u", session_id="s"), tracker.request(user_id="u-2") as inner:
        assert (inner.context.user_id, inner.context.session_id) == ("u-2", None)


def test_an_error_of_the_application_passes_through_and_ends_the_request(tracker: SessionTracker) -> None:
    with pytest.raises(KeyError), tracker.request():
        raise KeyError
    assert current_request() is None


def test_the_request_is_that_of_each_task(tracker: SessionTracker, journal: Recorder) -> None:
    async def serve(n: int, arrived: asyncio.Barrier) -> None:
        async with tracker.request(request_id=f"r-{n}", user_id=f"u-{n}"):
            await arrived.wait()
            tracker.reused(None, f"s-{n}")
            await asyncio.to_thread(tracker.created, None, f"s-{n}")

    async def main() -> None:
        arrived = asyncio.Barrier(8)
        await asyncio.gather(*(serve(n, arrived) for n in range(8)))

    asyncio.run(main())
    assert len(journal.events) == 16
    for event in journal.events:
        assert (event.request, event.user) == (f"r-{event.session[2:]}", f"u-{event.session[2:]}")


def test_a_user_bound_in_a_thread_or_task_of_the_request_is_bound_for_all_of_it(
    tracker: SessionTracker, journal: Recorder
) -> None:
    async def log_in() -> None:
        request = current_request()
        assert request is not None
        request.bind_user("u-1")

    async def main() -> None:
        async with tracker.request() as request:
            await asyncio.create_task(log_in())
            tracker.reused(None, "s")
            await asyncio.to_thread(request.bind_user, "u-2")
            tracker.reused(None, "s")

    asyncio.run(main())
    assert [event.user for event in journal.events] == ["u-1", "u-2"]


def test_work_that_outlives_its_request_is_no_longer_in_it(tracker: SessionTracker, journal: Recorder) -> None:
    async def background(answered: asyncio.Event) -> None:
        await answered.wait()
        tracker.reused(None, "s")
        tracker.created(None, "s")

    async def main() -> None:
        answered = asyncio.Event()
        async with tracker.request(request_id="outer", user_id="u"):
            async with tracker.request(request_id="inner"):
                task = asyncio.create_task(background(answered))
            answered.set()
            await task
            answered.clear()
            task = asyncio.create_task(background(answered))
        answered.set()
        await task

    asyncio.run(main())
    assert [(event.request, event.user) for event in journal.events] == [("outer", "u")] * 2 + [("", "")] * 2


def test_a_request_left_in_another_context_than_it_was_entered_in_is_over(
    tracker: SessionTracker, journal: Recorder
) -> None:
    def handler() -> Iterator[None]:
        with tracker.request(request_id="r"):
            yield

    generator = handler()
    entered = contextvars.copy_context()
    entered.run(next, generator)
    contextvars.copy_context().run(generator.close)
    entered.run(tracker.reused, "u", "s")
    assert [event.request for event in journal.events] == [""]
    assert not journal.errors


def test_the_current_trace_id_is_recorded(tracker: SessionTracker, journal: Recorder) -> None:
    tracer = TracerProvider().get_tracer("test")
    for _ in range(2):
        with tracer.start_as_current_span("span") as span:
            expected = span.get_span_context().trace_id.to_bytes(16, "big")
            tracker.reused("u", "s")
            tracker.created("u", "s")
            with tracker.request(), tracer.start_as_current_span("child"):
                tracker.reused("u", "s")
            assert [event.trace for event in journal.events[-3:]] == [expected] * 3
    tracker.reused("u", "s")
    assert journal.events[-1].trace == b""
    assert len({event.trace for event in journal.events}) == 3


@pytest.mark.parametrize("span", [INVALID_SPAN, NonRecordingSpan(SpanContext(7, 0, is_remote=False))])
def test_an_invalid_trace_is_none(span: Any, tracker: SessionTracker, journal: Recorder) -> None:
    with use_span(span):
        tracker.reused("u", "s")
    assert [event.trace for event in journal.events] == [b""]
    assert not journal.errors


def test_a_trace_that_cannot_be_had_is_counted_and_the_event_recorded(
    tracker: SessionTracker, journal: Recorder
) -> None:
    class Broken(NonRecordingSpan):
        def get_span_context(self) -> SpanContext:
            raise RuntimeError("broken")

    with use_span(Broken(SpanContext(7, 7, is_remote=False))):
        tracker.reused("u", "s")
        tracker.created("u", "s")
    assert [event.trace for event in journal.events] == [b"", b""]
    assert journal.errors == {"tracker": 2}


def test_opentelemetry_that_is_just_being_imported_is_not_asked(
    tracker: SessionTracker, journal: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "_opentelemetry", None)
    monkeypatch.setitem(sys.modules, traces.OPENTELEMETRY, SimpleNamespace())
    tracker.reused("u", "s")
    assert [event.trace for event in journal.events] == [b""]
    assert not journal.errors


def test_recording_does_not_import_opentelemetry() -> None:
    code = (
        "import sys, types\n"
        "from session_exporter.tracker import SessionTracker\n"
        "journal = types.SimpleNamespace(append=lambda fields: None)\n"
        "tracker = SessionTracker(journal=journal)\n"
        "with tracker.request(): tracker.reused('u', 's'); tracker.created('u', 's')\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"
