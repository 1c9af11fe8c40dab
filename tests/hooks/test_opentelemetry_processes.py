"""Programs under `opentelemetry-instrument`, with and without `session-exporter run` around or inside of it."""

import json
import os
import sys
import tomllib
from pathlib import Path

import pytest
from hooked import APPS, PROJECT, RUN, SOURCES, finished
from journals import Journal

from session_exporter.core.events import Created

pytest.importorskip("opentelemetry.instrumentation.instrumentor")
pytestmark = pytest.mark.integration

INSTRUMENT = [sys.executable, "-c", "from opentelemetry.instrumentation.auto_instrumentation import run; run()"]
PROGRAM = """
import json, os, booth
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from session_exporter import SessionTracker

spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
with SessionTracker().request(session_id="s-1"):
    with trace.get_tracer("booth").start_as_current_span("work"):
        session = booth.open_session("u")["id"]
[span] = spans.get_finished_spans()
told = {"session": session, "on_span": span.attributes.get("session.id"), "trace": f"{span.context.trace_id:032x}"}
print(json.dumps({"pid": os.getpid(), **told}))
"""


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def config(tmp_path: Path, journal: Journal) -> Path:
    path = tmp_path / "sessions.yml"
    call = '{call: "booth:open_session", kind: create, user: user, session: id}'
    path.write_text(f"journal: {{directory: {journal.directory}}}\ncalls:\n  - {call}\n", encoding="utf-8")
    return path


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """One in which the package is installed, as far as its entry points go."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [(name, value)] = project["entry-points"]["opentelemetry_instrumentor"].items()
    installed = tmp_path / "installed" / "session_exporter-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: session-exporter\nVersion: 0\n", encoding="utf-8")
    (installed / "entry_points.txt").write_text(f"[opentelemetry_instrumentor]\n{name} = {value}\n", encoding="utf-8")
    path = os.pathsep.join(map(str, [installed.parent, APPS, SOURCES]))
    # On the SQLAlchemy of these tests it may have something to say, which is not what they are about.
    return {"PYTHONPATH": path, "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "sqlalchemy"}


def check(printed: str, journal: Journal, pids: int = 1) -> None:
    """What the program tells is what was recorded, once."""
    told = json.loads(printed)
    [created] = [event for event in journal.events() if isinstance(event, Created)]
    assert (created.session, created.trace.hex()) == (told["session"], told["trace"])
    assert told["on_span"] == "s-1"
    assert journal.hooks()[told["pid"]] == {"autoload": True, "calls": True, "opentelemetry": True}
    assert len(journal.pids()) == pids
    assert journal.errors() == {}


def test_opentelemetry_instrument_loads_the_hooks(config, journal, environment) -> None:
    command = [*INSTRUMENT, sys.executable, "-c", PROGRAM]
    variables = {"SESSION_EXPORTER_CONFIG_FILE": str(config), "SESSION_EXPORTER_DIR": str(journal.directory)}
    done = finished(command, **environment, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    check(done.stdout, journal)


def test_run_inside_of_opentelemetry_instrument_installs_once(config, journal, environment) -> None:
    command = [*INSTRUMENT, *RUN, "--config.file", config, "--", sys.executable, "-c", PROGRAM]
    done = finished(command, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    check(done.stdout, journal)


def test_opentelemetry_instrument_inside_of_run_installs_once(config, journal, environment) -> None:
    command = [*RUN, "--config.file", config, "--", *INSTRUMENT, sys.executable, "-c", PROGRAM]
    done = finished(command, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    # `opentelemetry-instrument` is a Python program as well, and becomes the other one.
    check(done.stdout, journal, pids=2)


def test_opentelemetry_instrument_without_a_configuration_loads_nothing(journal, environment) -> None:
    program = "import sys; print([name for name in sys.modules if name.startswith('session_exporter.journal')])"
    command = [*INSTRUMENT, sys.executable, "-c", program]
    done = finished(command, **environment, SESSION_EXPORTER_DIR=str(journal.directory))
    assert (done.returncode, done.stderr) == (0, "")
    assert journal.pids() == []


def test_under_run_a_provider_of_the_programs_own_is_followed(config, journal, environment) -> None:
    done = finished([*RUN, "--config.file", config, "--", sys.executable, "-c", PROGRAM], **environment)
    assert (done.returncode, done.stderr) == (0, "")
    check(done.stdout, journal)


def test_the_instrumentor_takes_back_only_what_it_has_installed(config, journal, environment) -> None:
    program = (
        "import booth; from importlib.metadata import entry_points;"
        "[found] = [e for e in entry_points(group='opentelemetry_instrumentor') if e.name == 'session_exporter'];"
        "instrumentor = found.load(); booth.open_session('before');"
        "instrumentor().instrument(); booth.open_session('during');"
        "instrumentor().uninstrument(); booth.open_session('after')"
    )
    done = finished([sys.executable, "-c", program], **environment, SESSION_EXPORTER_CONFIG_FILE=str(config))
    assert (done.returncode, done.stderr) == (0, "")
    assert [event.user for event in journal.events()] == ["during"]
    done = finished([*RUN, "--config.file", config, "--", sys.executable, "-c", program], **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert [event.user for event in journal.events()][1:] == ["before", "during", "after"]
