"""The thread that nobody finds: its id was made by another factory, and a real sidecar says so, over restarts too."""

import signal
import time
from uuid import uuid4

import msgspec
import pytest
from sidecar_process import Sidecar, run

from session_exporter.core.events import Identified
from session_exporter.core.ids import generate_context_ids
from session_exporter.journal import JournalWriter
from session_exporter.tracker import SessionTracker

pytestmark = pytest.mark.integration

VIEW = "session_exporter.cli.view_metrics"
CONFIG = """\
lateness: 100ms
scopes:
  conversation:
    id_format: {session: uuid, thread: unified, user: '^u-[0-9]+$', legacy: {thread: '^t-'}}
  thread:
    id_format: {session: unified}
"""


@pytest.fixture
def sidecar(tmp_path):
    with Sidecar(tmp_path, CONFIG) as running:
        yield running.start()


@pytest.fixture
def tracker(sidecar):
    sidecar.scrape()
    tracker = SessionTracker(sidecar.journal)
    yield tracker
    tracker.close()


@pytest.fixture
def writer(sidecar):
    writer = JournalWriter(sidecar.journal)
    yield writer
    writer.close()


def identify(writer, thread, run_id, request):
    event = Identified(time.time_ns() // 1000, "conversation", "", "u-1", request=request, thread=thread, run=run_id)
    writer.append(tuple(msgspec.to_builtins(event, builtin_types=(bytes,))))


def checks(scrape):
    counts = {tuple(dict(labels).values()): n for labels, n in scrape.of("session_ids_checked_total").items() if n}
    return {f"{scope}: {count:g} {form} {kind}" for (form, kind, scope), count in counts.items()}


def test_ids_of_another_factory_are_found_told_and_counted_once(sidecar, tracker, writer):
    conversation, ids = str(uuid4()), generate_context_ids("u-1", "chat")
    for thread, user in ((ids.thread_id, "u-1"), ("ws-thread-17", "u-2")):
        tracker.created(user, thread, scope="thread")
    tracker.created("u-1", conversation, scope="conversation")
    identify(writer, ids.thread_id, ids.run_id, ids.request_id)
    identify(writer, "ws-thread-17", generate_context_ids("u-1").run_id, "r-2")
    identify(writer, "t-16", "", "r-3")
    identify(writer, generate_context_ids("u-1").thread_id, ids.run_id, "r-4")
    expected = {
        "conversation: 1 canonical session",
        "conversation: 1 canonical user",
        "conversation: 2 canonical thread",
        "conversation: 1 legacy thread",
        "conversation: 1 invalid thread",
        "thread: 1 canonical session",
        "thread: 1 invalid session",
    }
    before = sidecar.scrape_until(lambda scrape: checks(scrape) == expected, "all ids are checked")
    assert before.value("session_id_mismatches_total", scope="conversation") == 1
    sidecar.until_logged(
        r"METRIC ALERT: Invalid thread id t:[0-9a-f]{12} of user u:[0-9a-f]{12}: text\(12\), expected unified"
    )
    assert "ws-thread-17" not in sidecar.log

    sidecar.kill()
    after = sidecar.start().scrape()
    assert after.regressions(before) == []
    identify(writer, "ws-thread-17", "", "r-5")
    identify(writer, "ws-thread-18", "", "r-6")
    tracker.looked_up("u-1", conversation, scope="conversation")
    expected = (expected - {"conversation: 1 invalid thread"}) | {"conversation: 2 invalid thread"}
    sidecar.scrape_until(lambda scrape: checks(scrape) == expected, "only the new id is checked")

    incidents = sidecar.json("/api/v1/incidents?kind=invalid_id&scope=conversation")["incidents"]
    assert [(each["id_kind"], each["shape"], each["declared"]) for each in incidents] == [
        ("thread", "text(12)", "unified")
    ] * 2
    window = sidecar.json("/api/v1/summary?scope=conversation")["total"]
    assert (window["ids_checked"], window["ids_legacy"], window["ids_invalid"]) == (7, 1, 2)
    assert window["id_shapes"] == {"thread": {"invalid": {"text(12)": 2}, "legacy": {"text(4)": 1}}}
    report = run(VIEW, "--url", sidecar.url, "--scope", "conversation", PYTHONIOENCODING="utf-8").stdout
    line = "Id Format Compliance:    57.14% (target 100%) thread: 2 invalid (text(12)), 1 legacy (text(4))"
    assert line in report.splitlines()


def test_a_format_that_a_reload_declares_counts_from_then_on(sidecar, tracker):
    tracker.created("nobody", "s-1", scope="job")
    sidecar.scrape_until(lambda scrape: scrape.total("session_creates_total"), "the create")
    before = sidecar.scrape()
    sidecar.config_file.write_text(f"{CONFIG}  job: {{id_format: {{user: '^u-'}}}}\n", encoding="utf-8")
    sidecar.signal(signal.SIGHUP)
    sidecar.scrape_until(lambda scrape: scrape.of("session_ids_checked_total", scope="job"), "the scope is there")
    tracker.created("somebody", "s-2", scope="job")
    after = sidecar.scrape_until(lambda scrape: checks(scrape) == {"job: 1 invalid user"}, "its user is checked")
    assert after.regressions(before) == []
