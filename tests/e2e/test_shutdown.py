"""SIGTERM in the middle of traffic: what was recorded is drained, judged and committed; and the state can be asked."""

import json

import pytest
from campaign_books import expected, read_books
from kill_campaign import CONFIG, MANY, WINDOWS_US, Workers, compare
from sidecar_process import Sidecar, run

from session_exporter.tracker import SessionTracker

pytestmark = [pytest.mark.e2e]

VIEW = "session_exporter.cli.view_metrics"


@pytest.fixture
def sidecar(tmp_path):
    with Sidecar(tmp_path, CONFIG) as running:
        yield running


@pytest.fixture
def workers(tmp_path, sidecar):
    traffic = Workers(tmp_path, sidecar.journal, "shutdown")
    yield traffic
    traffic.kill()


def judged(sidecar, *arguments):
    """What view-metrics says of the state alone: exit code and document."""
    answer = run(VIEW, "--state.directory", sidecar.state, "--json", *arguments)
    assert "Traceback" not in answer.stderr
    return answer.returncode, json.loads(answer.stdout) if answer.stdout else None


def test_sigterm_during_traffic_drains_judges_and_ends_well(sidecar, workers):
    for _ in range(4):
        workers.start()
    sidecar.start().scrape_until(
        lambda scrape: scrape.total("session_rapid_duplicate_creates_total") > 10, "duplicates are judged"
    )
    assert sidecar.stop() == 0
    assert "Traceback" not in sidecar.log
    # Whatever went on meanwhile is for the next start, which ends after the traffic has.
    sidecar.start().scrape()
    workers.stop()
    assert sidecar.stop() == 0
    code, document = judged(sidecar)
    books = read_books(workers.books)
    assert books.unsure == []
    counts = expected(books.certain, WINDOWS_US, MANY)
    assert code == 1
    for scope, report in document["scopes"].items():
        totals = report["totals"]
        for name in ("creates", "reuses", "lookups", "redundant_lookups"):
            assert totals[name] == counts[f"session_{name}_total", scope], (scope, name)
        assert totals["ends"] == {word: counts["session_ends_total", scope, word] for word in totals["ends"]}, scope
        assert totals["context_losses"]["reported"] == counts["session_context_loss_total", scope, "reported"], scope
        duplicates = sum(n for key, n in counts.items() if key[:2] == ("session_rapid_duplicate_creates_total", scope))
        assert sum(totals["rapid_duplicate_creates"].values()) == duplicates, scope
        # The window of an hour holds all of it.
        assert report["window"]["creates"] == totals["creates"]
        assert report["window"]["rapid_duplicate_creates"] == duplicates
    assert compare(books, sidecar.start().scrape()) == []


def test_view_metrics_reads_the_state_without_a_sidecar_and_beside_one(sidecar):
    code, document = judged(sidecar)
    assert (code, document) == (2, None)
    sidecar.start().scrape()
    assert judged(sidecar)[0] == 2  # no traffic yet
    tracker = SessionTracker(sidecar.journal)
    tracker.created("a user", "a session", scope="conversation")
    for _ in range(99):
        tracker.reused("a user", "a session", scope="conversation")
    sidecar.scrape_until(lambda scrape: scrape.total("session_creates_total"), "the create")
    code, document = judged(sidecar)
    assert (code, document["healthy"], document["total"]["reuse_ratio"]) == (0, True, 0.99)
    asked = run(VIEW, "--url", sidecar.url, "--json")
    beside = json.loads(asked.stdout)
    assert asked.returncode == 0
    assert beside["total"] == document["total"]
    text = run(VIEW, "--url", sidecar.url, PYTHONIOENCODING="utf-8").stdout
    assert "Session Reuse Ratio:     99.00%" in text
    tracker.ended("a session", scope="conversation", reason="completed")
    tracker.created("a user", "another session", scope="conversation")
    tracker.context_lost("a user", expected="a session", actual="another session", scope="conversation")
    tracker.close()
    # The duplicate is judged by the drain at the end.
    assert sidecar.stop() == 0
    code, document = judged(sidecar)
    assert (code, document["healthy"]) == (1, False)
    assert document["total"]["context_losses"] == 1
    assert document["total"]["creates"] == 2
    code, document = judged(sidecar, "--scope", "draft")
    assert code == 2
    assert document["healthy"] is None
    found = run(VIEW, "incidents", "--state.directory", sidecar.state, "--json")
    assert found.returncode == 0
    assert [each["kind"] for each in json.loads(found.stdout)["incidents"]] == ["context_loss"]


def test_view_metrics_cannot_tell_without_sidecar_or_with_a_wrong_state(sidecar):
    sidecar.start().scrape()
    url = sidecar.url
    assert sidecar.stop() == 0
    answer = run(VIEW, "--url", url)
    assert answer.returncode == 2
    assert "Traceback" not in answer.stderr
    assert judged(sidecar, "--scope", "nobody knows")[0] == 2
    (sidecar.state / "state.sqlite3").write_bytes(b"rubbish" * 1000)
    assert judged(sidecar) == (2, None)
