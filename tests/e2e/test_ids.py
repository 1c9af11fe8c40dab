"""The thread that nobody finds: its id was made by another factory, and a real sidecar says so, over restarts too."""

import signal
from uuid import uuid4

import pytest
from sidecar_process import Sidecar, run

from session_exporter.core.ids import generate_context_ids
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


def work(tracker, session, **ids):
    """A request that goes on with a conversation."""
    with tracker.request(user_id="u-1", **{f"{kind}_id": id_ for kind, id_ in ids.items()}):
        tracker.looked_up("u-1", session, scope="conversation")


def checks(scrape):
    counts = {tuple(dict(labels).values()): n for labels, n in scrape.of("session_ids_checked_total").items() if n}
    return {f"{scope}: {count:g} {form} {kind}" for (form, kind, scope), count in counts.items()}


def test_ids_of_another_factory_are_found_told_and_counted_once(sidecar, tracker):
    conversation, ids, other = str(uuid4()), generate_context_ids("u-1", "chat"), generate_context_ids("u-1")
    for thread, user in ((ids.thread_id, "u-1"), ("ws-thread-17", "u-2")):
        tracker.created(user, thread, scope="thread")
    tracker.created("u-1", conversation, scope="conversation")
    work(tracker, conversation, thread=ids.thread_id, run=ids.run_id, request=ids.request_id)
    work(tracker, conversation, thread="ws-thread-17", run=other.run_id)
    work(tracker, conversation, thread="t-16")
    work(tracker, conversation, thread=other.thread_id, run=ids.run_id)
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
    for thread in ("ws-thread-17", "ws-thread-18"):
        work(tracker, conversation, thread=thread)
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
