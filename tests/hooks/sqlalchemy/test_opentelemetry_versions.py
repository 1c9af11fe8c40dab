"""Spans for queries, with the SQLAlchemy that is installed: from 2.1 on OpenTelemetry's instrumentation refuses it."""

import logging
import sys
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy
from opentelemetry import trace
from opentelemetry.util._once import Once
from providers import Spans
from recorder import Recorder
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine
from sqlalchemy.pool import StaticPool

from session_exporter.hooks.opentelemetry import install_opentelemetry
from session_exporter.tracker import SessionTracker

SUPPORTED = tuple(int(part) for part in sqlalchemy.__version__.split(".")[:2]) < (2, 1)
supported = pytest.mark.skipif(not SUPPORTED, reason="OpenTelemetry's instrumentation refuses SQLAlchemy 2.1")
refused = pytest.mark.skipif(SUPPORTED, reason="OpenTelemetry's instrumentation supports this SQLAlchemy")
INSTRUMENTATION = "opentelemetry.instrumentation.sqlalchemy"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No provider, and an instrumentation that the application has not imported."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    forget_instrumentation()
    yield
    forget_instrumentation()


def forget_instrumentation() -> None:
    module = sys.modules.get(INSTRUMENTATION)
    if module is not None and module.SQLAlchemyInstrumentor().is_instrumented_by_opentelemetry:
        module.SQLAlchemyInstrumentor().uninstrument()
    for name in [name for name in sys.modules if name.startswith(INSTRUMENTATION)]:
        del sys.modules[name]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def tracker(recorder: Recorder) -> SessionTracker:
    tracker = SessionTracker(journal=recorder)
    tracker.open()
    return tracker


@pytest.fixture
def uninstall(tracker: SessionTracker) -> Iterator[Callable[[], None]]:
    undo = install_opentelemetry(tracker)
    yield undo
    undo()


@pytest.fixture
def spans(uninstall: Callable[[], None]) -> Spans:
    return Spans().use()


@pytest.fixture
def early(uninstall: Callable[[], None]) -> Iterator[Engine]:
    """Made before there was a provider, by a function that nobody has wrapped."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    yield engine
    engine.dispose()


def queried(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))


def names(spans: Spans) -> list[str]:
    return [span.name.split()[0].lower() for span in spans.taken()]


@supported
def test_a_query_has_one_span_with_the_session_on_it(early, spans, tracker, recorder) -> None:
    with tracker.request(session_id="s-1"):
        queried(early)
    taken = spans.taken()
    assert [span.name.split()[0].lower() for span in taken] == ["connect", "select"]
    assert {(span.attributes or {})["session.id"] for span in taken} == {"s-1"}
    assert recorder.hooks == {"opentelemetry": True}
    assert recorder.errors == {}


@supported
def test_engines_are_traced_once_however_they_were_made(early, spans) -> None:
    for engine in (early, create_engine("sqlite://"), sqlalchemy.create_engine("sqlite://")):
        for each in (engine, engine.execution_options(isolation_level="AUTOCOMMIT"), engine):
            queried(each)
            assert names(spans) == ["connect", "select"]
        engine.dispose()


@supported
def test_the_pool_of_an_engine_from_before_is_counted_from_its_first_connection(early, spans) -> None:
    queried(early)
    listeners = [listener.__module__ for listener in early.pool.dispatch.checkout]
    assert listeners == [f"{INSTRUMENTATION}.engine"]


@supported
def test_without_a_provider_nothing_is_instrumented(early) -> None:
    queried(early)
    assert INSTRUMENTATION not in sys.modules


@supported
def test_an_application_that_instruments_itself_is_left_alone(early, uninstall) -> None:
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

    SQLAlchemyInstrumentor().instrument(engine=early)
    spans = Spans().use()
    queried(early)
    assert names(spans) == ["connect", "select"]
    uninstall()
    assert SQLAlchemyInstrumentor().is_instrumented_by_opentelemetry


@supported
def test_an_application_that_instruments_itself_later_takes_over(early, spans, caplog) -> None:
    queried(early)
    assert names(spans) == ["connect", "select"]
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

    other = create_engine("sqlite://")
    assert SQLAlchemyInstrumentor().instrument(engine=other, enable_commenter=True) is not None
    assert caplog.messages == []
    queried(other)
    assert names(spans) == ["connect", "select"]
    queried(early)
    assert names(spans) == ["connect"]
    other.dispose()


@supported
def test_an_application_that_has_imported_the_instrumentation_decides_itself(early, uninstall) -> None:
    import opentelemetry.instrumentation.sqlalchemy as instrumentation

    spans = Spans().use()
    queried(early)
    assert names(spans) == []
    assert not instrumentation.SQLAlchemyInstrumentor().is_instrumented_by_opentelemetry


@supported
def test_removed_it_leaves_sqlalchemy_as_it_was(early, uninstall) -> None:
    before = sqlalchemy.create_engine, Engine.connect
    spans = Spans().use()
    assert sqlalchemy.create_engine is not before[0]
    queried(early)
    assert names(spans) == ["connect", "select"]
    uninstall()
    assert (sqlalchemy.create_engine, Engine.connect) == before
    queried(early)
    assert names(spans) == []


@supported
def test_what_the_environment_disables_stays_so(early, uninstall, monkeypatch, recorder) -> None:
    monkeypatch.setenv("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "flask, sqlalchemy")
    spans = Spans().use()
    queried(early)
    assert names(spans) == []
    assert recorder.hooks == {"opentelemetry": True}


@refused
def test_a_sqlalchemy_that_is_refused_is_said_once_and_everything_else_goes_on(
    early, uninstall, tracker, recorder, caplog
) -> None:
    with caplog.at_level(logging.INFO):
        spans = Spans().use()
        queried(early)
    [message] = caplog.messages
    assert f"refuses sqlalchemy {sqlalchemy.__version__}, expected sqlalchemy" in message
    assert recorder.hooks == {"opentelemetry": False}
    assert recorder.errors == {}
    with tracker.request(session_id="s-1"), trace.get_tracer("test").start_as_current_span("work"):
        queried(early)
    assert spans.attributes("work")["session.id"] == "s-1"


@refused
def test_an_application_that_insists_on_a_sqlalchemy_that_is_refused_has_its_way(early, uninstall, caplog) -> None:
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

    SQLAlchemyInstrumentor().instrument(engine=early, skip_dep_check=True)
    spans = Spans().use()
    queried(early)
    assert names(spans) == ["connect", "select"]
    assert caplog.messages == []
