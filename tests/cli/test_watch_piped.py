import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

DEADLINE_S = 20


def environ(**more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONIO"))}
    return {**inherited, **more}


@contextlib.contextmanager
def watching(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    # A shell starts background jobs, and so perhaps these tests, with SIGINT ignored; that would be inherited.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from session_exporter.cli.view_metrics import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "--watch", "--interval", "100ms", *arguments],
        env=environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    watchdog = threading.Timer(DEADLINE_S, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], wanted: str) -> str:
    """Read lines up to one that holds `wanted`; the watchdog ends the process, and so this, when it never comes."""
    assert process.stdout is not None
    text = ""
    while wanted not in text:
        line = process.stdout.readline()
        assert line, f"ended without {wanted!r}: {text}"
        text += line
    return text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_piped_watch_prints_reports_and_ends_with_the_last_exit_code(
    server: Any, documents: Any, number: signal.Signals
) -> None:
    server.summary(documents.healthy())
    with watching("--url", server.url) as process:
        first = read_until(process, "HEALTHY")
        assert first.startswith("====")
        assert read_until(process, "HEALTHY").startswith("\n====")
        server.summary(documents.unhealthy())
        read_until(process, "BELOW TARGET")
        process.send_signal(number)
        assert (process.wait(), process.stderr.read()) == (1, "")


def test_a_piped_watch_outlives_the_sidecar_and_recovers(server: Any, documents: Any) -> None:
    server.summary(documents.healthy())
    with watching("--url", server.url) as process:
        read_until(process, "HEALTHY")
        server.summary(b"<html>", 503)
        read_until(process, "❔ No sidecar: ")
        server.summary(documents.healthy())
        read_until(process, "HEALTHY")
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0


def test_a_watch_without_a_sidecar_ends_with_2(dead_url: str) -> None:
    with watching("--url", dead_url) as process:
        read_until(process, "No sidecar: no sidecar answers at")
        process.send_signal(signal.SIGINT)
        assert process.wait() == 2


def test_a_watch_as_json_prints_one_document_a_line(server: Any, documents: Any) -> None:
    server.summary(documents.unhealthy())
    with watching("--url", server.url, "--json") as process:
        lines = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGINT)
        process.wait()
    assert [json.loads(line) for line in lines] == [documents.unhealthy()] * 3


def test_a_watch_ends_when_nobody_reads_any_more(server: Any, documents: Any) -> None:
    server.summary(documents.unhealthy())
    with watching("--url", server.url) as process:
        read_until(process, "BELOW")
        process.stdout.close()
        process.wait()
        code, process.stdout = process.returncode, None
    assert code == 1
