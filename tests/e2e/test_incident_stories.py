"""Incidents as the on-call person meets them: followed over restarts of the sidecar, and explained."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from sidecar_process import DEADLINE_S, Sidecar, environment, run, until

from session_exporter.tracker import SessionTracker

pytestmark = [pytest.mark.e2e]

VIEW = "session_exporter.cli.view_metrics"
CONFIG = """
lateness: 100ms
scopes:
  conversation: {}
"""


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    with Sidecar(tmp_path, CONFIG) as running:
        running.listen = f"127.0.0.1:{urlsplit(running.start().url).port}"
        running.scrape()
        yield running


@pytest.fixture
def tracker(sidecar: Sidecar) -> Iterator[SessionTracker]:
    tracker = SessionTracker(sidecar.journal)
    yield tracker
    tracker.close()


def race(tracker: SessionTracker, user: str) -> None:
    with tracker.request(user_id=user, request_id=f"{user}-request"):
        for number in range(2):
            tracker.created(user, f"{user}-session-{number}", scope="conversation")


@contextmanager
def following(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    # A shell starts background jobs, and so perhaps these tests, with SIGINT ignored; that would be inherited.
    program = (
        f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from {VIEW} import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "incidents", "--follow", "--interval", "100ms", *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    watchdog = threading.Timer(2 * DEADLINE_S, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


def next_line(process: subprocess.Popen[str]) -> str:
    """A line, as soon as it is there; the watchdog ends the process, and so this, when it never comes."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the follower has ended"
    return line


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_each_incident_is_followed_once_over_a_restart(sidecar: Sidecar, tracker: SessionTracker, end: str) -> None:
    users = map("user-{}".format, count())
    race(tracker, next(users))
    with following("--url", sidecar.url, "--json") as process:
        seen = [json.loads(next_line(process))]
        for _ in range(2):
            race(tracker, next(users))
            seen.append(json.loads(next_line(process)))
            getattr(sidecar, end)()
            race(tracker, next(users))
            sidecar.start()
            seen.append(json.loads(next_line(process)))
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert (process.wait(), rest) == (0, "")
        assert "Traceback" not in process.stderr.read()
    assert [each["kind"] for each in seen] == ["rapid_duplicate_create"] * 5
    assert len({each["id"] for each in seen}) == 5
    assert sorted(each["at"] for each in seen) == [each["at"] for each in seen]


def test_a_line_of_the_follower_leads_to_the_whole_story(sidecar: Sidecar, tracker: SessionTracker) -> None:
    with following("--url", sidecar.url) as process:
        race(tracker, "ann")
        line = next_line(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    told, _, command = line.strip().partition("  # ")
    assert " rapid_duplicate_create " in told
    assert command.startswith(f"view-metrics explain --url {sidecar.url} d-")
    story = run(VIEW, *command.split()[1:], PYTHONIOENCODING="utf-8")
    assert (story.returncode, story.stderr) == (0, "")
    assert story.stdout.startswith(command.split()[-1])
    assert story.stdout.count("created") >= 2
    assert "ann" not in line + story.stdout


def test_a_story_is_told_of_a_user_by_the_plain_id(sidecar: Sidecar, tracker: SessionTracker) -> None:
    race(tracker, "ann & co")
    race(tracker, "bob")
    path = "/api/v1/incidents?user="
    (found,) = until(lambda: sidecar.json(f"{path}{quote('ann & co')}")["incidents"], "the incident is judged")
    assert [step["kind"] for step in found["timeline"]] == ["created", "created"]
    for source in (["--url", sidecar.url], ["--state.directory", str(sidecar.state)]):
        story = run(VIEW, "explain", "--user", "ann & co", *source, PYTHONIOENCODING="utf-8")
        assert (story.returncode, story.stderr) == (0, "")
        assert found["id"] in story.stdout
        assert story.stdout.count("Timeline") == 1
    assert sidecar.json(f"{path}eve") == {"incidents": [], "next": sidecar.json("/api/v1/incidents")["next"]}
    status, body = sidecar.get("/api/v1/incidents?id=d-nobody")
    assert (status, "no incident has this id" in body) == (404, True)
    assert "ann & co" not in sidecar.log
