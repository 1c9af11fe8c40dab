"""Sessions on OpenTelemetry's spans: the real SDK, with spans in memory."""

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from opentelemetry import trace
from opentelemetry.util._once import Once
from providers import Spans
from recorder import Recorder

from session_exporter.hooks.opentelemetry import SessionSpanProcessor, install_opentelemetry
from session_exporter.tracker import SessionTracker

Install = Callable[[], Callable[[], None]]


@pytest.fixture(autouse=True)
def _no_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    # Other tests of this process may have imported SQLAlchemy; spans for queries have tests of their own.
    monkeypatch.setenv("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "sqlalchemy")


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def tracker(recorder: Recorder) -> SessionTracker:
    tracker = SessionTracker(journal=recorder)
    tracker.open()
    return tracker


@pytest.fixture
def install(tracker: SessionTracker) -> Iterator[Install]:
    undo: list[Callable[[], None]] = []

    def installed() -> Callable[[], None]:
        undo.append(install_opentelemetry(tracker))
        return undo[-1]

    yield installed
    for each in undo:
        each()


def span(name: str = "work") -> None:
    with trace.get_tracer("test").start_as_current_span(name):
        pass


def test_a_span_says_the_request_and_the_session_it_expects(install, tracker) -> None:
    install()
    spans = Spans().use()
    with tracker.request(request_id="r-1", session_id="s-1", user_id="u-1"):
        span()
    assert spans.attributes("work") == {"session.id": "s-1", "session_exporter.request.id": "r-1"}


def test_a_session_that_is_bound_later_is_on_the_spans_from_then_on(install, tracker) -> None:
    install()
    spans = Spans().use()
    with tracker.request(request_id="r-1") as request:
        span("before")
        request.bind_session("s-2")
        span("after")
    before, after = spans.taken()
    assert dict(before.attributes or {}) == {"session_exporter.request.id": "r-1"}
    assert (after.attributes or {})["session.id"] == "s-2"


def test_a_span_outside_of_any_request_says_nothing(install) -> None:
    install()
    spans = Spans().use()
    span()
    assert spans.attributes("work") == {}


def test_a_provider_that_was_there_before_is_followed(install, tracker, recorder) -> None:
    spans = Spans().use()
    install()
    with tracker.request(session_id="s-1"):
        span()
    assert spans.attributes("work")["session.id"] == "s-1"
    assert recorder.hooks == {"opentelemetry": True}


def test_without_a_provider_of_the_sdk_the_hook_is_not_there(install, recorder) -> None:
    install()
    span()
    trace.set_tracer_provider(trace.NoOpTracerProvider())
    span()
    assert recorder.hooks == {}
    assert recorder.errors == {}


def test_a_setter_that_was_imported_by_name_is_seen_as_well(install, recorder) -> None:
    from opentelemetry.trace import set_tracer_provider

    install()
    set_tracer_provider(Spans().provider)
    assert recorder.hooks == {"opentelemetry": True}


def test_installed_twice_it_is_there_once(install, tracker) -> None:
    spans = Spans().use()
    before = len(spans.provider._active_span_processor._span_processors)
    install()
    second = install()
    assert len(spans.provider._active_span_processor._span_processors) == before + 1
    second()
    with tracker.request(session_id="s-1"):
        span()
    assert spans.attributes("work")["session.id"] == "s-1"


def test_removed_it_leaves_everything_as_it_was(install, tracker, recorder) -> None:
    setter = trace._set_tracer_provider
    uninstall = install()
    assert trace._set_tracer_provider is not setter
    spans = Spans().use()
    uninstall()
    uninstall()
    assert trace._set_tracer_provider is setter
    with tracker.request(session_id="s-1"):
        span()
    assert spans.attributes("work") == {}
    assert recorder.hooks == {"opentelemetry": False}


def test_removed_and_installed_again_a_provider_has_one_processor(install, tracker) -> None:
    spans = Spans().use()
    for _ in range(3):
        install()()
    install()
    assert len(spans.provider._active_span_processor._span_processors) == 2
    with tracker.request(session_id="s-1"):
        span()
    assert spans.attributes("work")["session.id"] == "s-1"


def test_an_application_may_add_the_processor_itself(tracker) -> None:
    spans = Spans()
    spans.provider.add_span_processor(SessionSpanProcessor())
    with tracker.request(session_id="s-1"), spans.provider.get_tracer("test").start_as_current_span("work"):
        pass
    assert spans.attributes("work")["session.id"] == "s-1"


def test_a_processor_that_fails_leaves_the_span_alone(install, tracker, recorder, monkeypatch) -> None:
    install()
    spans = Spans().use()

    def broken() -> None:
        raise LookupError

    monkeypatch.setattr("session_exporter.hooks.opentelemetry.spans.current_request", broken)
    with tracker.request(session_id="s-1"):
        span()
    assert [each.name for each in spans.taken()] == ["work"]
    assert recorder.errors == {"opentelemetry": 1}


def test_events_carry_the_trace_of_the_span_they_happen_in(install, tracker, recorder) -> None:
    install()
    spans = Spans().use()
    with trace.get_tracer("test").start_as_current_span("work"):
        tracker.created("u-1", "s-1")
    [ended] = spans.taken()
    assert recorder.events[0].trace == ended.context.trace_id.to_bytes(16, "big")


def test_an_application_without_opentelemetry_does_not_import_it() -> None:
    program = (
        "import sys; from session_exporter.hooks.opentelemetry import install_opentelemetry; install_opentelemetry()();"
        "print([name for name in sys.modules if name.split('.')[0] in ('opentelemetry', 'wrapt', 'sqlalchemy')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
