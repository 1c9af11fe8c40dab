"""The demonstration as its user meets it, beside a real sidecar."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from session_exporter.demo.report import STAGES
from session_exporter.demo.run import run_demo

pytestmark = pytest.mark.e2e

DEADLINE_S = 30.0
SERVE = (
    "import sys; from session_exporter.demo.run import run_demo;"
    "sys.exit(run_demo(fixed=False, serve=True, seconds=4, listen=None, out=sys.stdout))"
)


def _shown(*, fixed: bool) -> tuple[int, str]:
    out = io.StringIO()
    code = run_demo(fixed=fixed, serve=False, seconds=4.0, listen=None, out=out)
    return code, out.getvalue()


def test_the_racy_demo_finds_duplicates_of_both_causes_and_names_the_call_sites() -> None:
    code, text = _shown(fixed=False)
    assert code == 0, text
    assert re.search(r"duplicates by cause: same_request [1-9]\d*, (\w+ \d+, )*cross_worker [1-9]\d*", text), text
    incident, _, lookups = text.partition("Where sessions are looked up")
    assert all(stage in incident and stage in lookups for stage in STAGES), text
    assert "conversation: 3.00 lookups per request now" in lookups, text
    assert text.count("agrees") == 4
    assert "BELOW TARGET" in text


def test_the_repaired_demo_is_healthy() -> None:
    code, text = _shown(fixed=True)
    assert code == 0, text
    assert "greeted although they had picked a project: 0 of" in text
    assert "duplicates by cause: none" in text
    assert "conversation: 1.00 lookups per request now" in text
    assert "HEALTHY" in text
    assert "no worker" not in text


@contextmanager
def _serving(directory: Path) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Serve below `directory`; yields the process and the URLs of application and sidecar."""
    environment = {**os.environ, "TMPDIR": str(directory)}
    command = [sys.executable, "-c", SERVE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            printed = "".join(takewhile(lambda line: not line.startswith("Light traffic"), process.stdout))
            yield process, re.findall(r"http://\S+", printed)
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serving_goes_on_until_it_is_interrupted_and_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    with _serving(tmp_path) as (process, (application, sidecar)):
        with urlopen(application, timeout=DEADLINE_S) as answer:
            assert b"/chat" in answer.read()
        with urlopen(f"{sidecar}-/healthy", timeout=DEADLINE_S) as answer:
            assert answer.status == 200
        process.send_signal(number)
        assert process.wait(DEADLINE_S) == 0
        assert not _listens(application)
        assert not _listens(sidecar)
        assert list(tmp_path.iterdir()) == []


def test_no_child_outlives_a_demo_that_is_killed(tmp_path: Path) -> None:
    with _serving(tmp_path) as (process, (application, sidecar)):
        os.kill(process.pid, signal.SIGKILL)
        process.wait(DEADLINE_S)
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline and (_listens(application) or _listens(sidecar)):
            time.sleep(0.02)
        assert not _listens(application)
        assert not _listens(sidecar)


def _listens(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((str(urlsplit(url).hostname), urlsplit(url).port or 0)) == 0
