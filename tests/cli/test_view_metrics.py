import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result

from session_exporter._version import __version__
from session_exporter.cli.client import BODY_BYTES_MAX, Sidecar, SilentPeerError
from session_exporter.cli.source import Question, Source
from session_exporter.cli.view_metrics import main
from session_exporter.errors import PeerError, StateError

DEADLINE_S = 20


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="view-metrics", env={"LC_ALL": "C.UTF-8"})


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "session_exporter.cli.view_metrics", *arguments]


def environ(**more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONIO"))}
    return {**inherited, **more}


@pytest.fixture
def dead_url() -> Iterator[str]:
    # Bound, never listening: nobody else can be given the port while the test runs.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


# --- judging


@pytest.mark.parametrize(("name", "code"), [("healthy", 0), ("unhealthy", 1), ("unknown", 2)])
def test_the_exit_code_is_the_judgement(server: Any, documents: Any, name: str, code: int) -> None:
    server.summary(getattr(documents, name)())
    result = run("--url", server.url)
    assert (result.exit_code, result.stderr) == (code, "")
    assert result.stdout.startswith("=" * 70 + "\nSESSION MANAGEMENT METRICS\n")


def test_the_window_and_the_scope_are_asked_for(server: Any, documents: Any) -> None:
    server.summary(documents.healthy())
    run("--url", server.url)
    run("--url", server.url + "/", "--since", "1h30m", "--scope", "a b&c")
    assert server.asked == ["/api/v1/summary?since=1h", "/api/v1/summary?since=1h30m&scope=a+b%26c"]


def test_json_is_the_document_itself_with_the_same_exit_code(server: Any, documents: Any) -> None:
    document = documents.unhealthy() | {"of_a_newer_version": {"x": [1, "\x1b\u202e"]}}
    server.summary(document)
    result = run("--url", server.url, "--json")
    assert json.loads(result.stdout) == document
    assert result.stdout.isascii()
    assert result.exit_code == 1


def test_what_to_type_next_asks_the_same_sidecar_about_the_same_scope(server: Any, documents: Any) -> None:
    server.summary(documents.unhealthy())
    result = run("--url", server.url, "--scope", "my scope")
    assert f"  view-metrics incidents --since 1h --scope 'my scope' --url {server.url}  #" in result.stdout


def test_the_version_is_told() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"view-metrics, version {__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--since", "soon"],
        ["--since", "0s"],
        ["--since", "32d"],
        ["--since", "60"],
        ["--interval", "0s"],
        ["--interval", "x"],
        ["--url", "ftp://x"],
        ["--url", "file:///etc/passwd"],
        ["--url", "http://"],
        ["--url", "http://x:port"],
        ["--url", "http://x:99999"],
        ["--url", "http://x/?a=b"],
        ["--url", "http://x y/"],
        ["--url", "http://[::1"],
        ["--config.file", "/does/not/exist.yaml"],
        ["--state.directory", "/etc/hostname"],
        ["--unknown"],
        ["nonsense"],
        ["incidents", "--limit", "0"],
        ["incidents", "--limit", "1001"],
        ["incidents", "--kind", "x"],
        ["incidents", "--cause", "x"],
        ["--watch", "incidents"],
    ],
)
def test_wrong_arguments_are_exit_code_2_with_a_message(arguments: list[str]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: " in result.stderr


# --- sidecars that do not answer as they should


def test_no_sidecar_at_a_given_url_is_exit_code_2_and_nothing_else_is_tried(dead_url: str) -> None:
    result = run("--url", dead_url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"Error: no sidecar answers at {dead_url}: [Errno 111] Connection refused\n"


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (500, b'{"error": "internal error"}', "answered 500: internal error"),
        (503, b'{"error": "not ready \\u001b[2J"}', r"answered 503: not ready \x1b[2J"),
        (404, b"404 page not found\nmore", "answered 404: 404 page not found"),
        (502, b"<html>\xff", "answered 502 Bad Gateway"),
        (400, b"", "answered 400 Bad Request"),
        (200, b'{"healthy": tr', "did not answer with a JSON object"),
        (200, b"", "did not answer with a JSON object"),
        (200, b"[1]", "did not answer with a JSON object"),
        (200, b'{"a": NaN}', "did not answer with a JSON object"),
        (200, b'{"a": "\xff"}', "did not answer with a JSON object"),
        (200, b'{"a":' * 100_000, "did not answer with a JSON object"),
        (200, b"{}", "the answer is no summary: Object missing required field `healthy`"),
    ],
)
def test_a_wrong_answer_is_exit_code_2_and_says_what_came(server: Any, status: int, body: bytes, said: str) -> None:
    server.summary(body, status)
    result = run("--url", server.url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_a_body_larger_than_any_summary_is_refused(server: Any) -> None:
    server.summary(b"[" + b"1," * (BODY_BYTES_MAX // 2) + b"1]")
    result = run("--url", server.url)
    assert result.exit_code == 2
    assert f"answered with more than {BODY_BYTES_MAX} bytes" in result.stderr


def test_a_sidecar_that_keeps_silent_is_given_up(server: Any) -> None:
    server.answers["/api/v1/summary"] = lambda _: server.released.wait(DEADLINE_S)
    with pytest.raises(SilentPeerError, match=r"did not answer within 0\.1 s"):
        replace(Sidecar.at(server.url), timeout_s=0.1).summary(since_s=60, scope=None)


def test_a_body_that_never_ends_is_given_up(server: Any) -> None:
    def drip(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not server.released.wait(0.02):
            handler.wfile.write(b" ")

    server.answers["/api/v1/summary"] = drip
    with pytest.raises(SilentPeerError, match=r"did not answer within 0\.3 s"):
        replace(Sidecar.at(server.url), timeout_s=0.3).summary(since_s=60, scope=None)


def test_a_body_cut_short_is_a_peer_error(server: Any) -> None:
    server.summary(b'{"healthy": true', **{"Content-Length": "1000"})
    with pytest.raises(PeerError):
        Sidecar.at(server.url).summary(since_s=60, scope=None)


@pytest.mark.parametrize(
    "greeting", [b"SSH-2.0-OpenSSH_9.2\r\n", b"", b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + b"\r\n"]
)
def test_what_does_not_speak_http_is_a_peer_error(greeting: bytes) -> None:
    def greet() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(greeting)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(PeerError):
            Sidecar.at(f"127.0.0.1:{listener.getsockname()[1]}").summary(since_s=60, scope=None)
        thread.join()


def test_a_password_in_the_url_is_sent_and_never_shown(server: Any, documents: Any) -> None:
    server.summary(documents.unhealthy())
    result = run("--url", f"http://me:p%40ss@127.0.0.1:{server.port}")
    assert server.headers[0]["Authorization"] == "Basic " + base64.b64encode(b"me:p@ss").decode()
    server.summary(b"", 401)
    refused = run("--url", f"http://me:p%40ss@127.0.0.1:{server.port}")
    for text in (
        result.output,
        refused.output,
        repr(Sidecar.at("http://me:p%40ss@x")),
        run("--url", "x://me:p%40ss@x").output,
    ):
        assert "p%40ss" not in text
        assert "p@ss" not in text


def test_a_redirect_is_followed_without_the_password(server: Any, documents: Any) -> None:
    server.summary(b"", 302, Location="/elsewhere")
    server.give("/elsewhere", documents.healthy())
    assert run("--url", f"http://me:secret@127.0.0.1:{server.port}").exit_code == 0
    assert ["Authorization" in headers for headers in server.headers] == [True, False]


def test_a_proxy_of_the_environment_is_not_asked_for_this_host(
    server: Any, documents: Any, dead_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", dead_url)
    monkeypatch.delenv("no_proxy", raising=False)
    server.summary(documents.healthy())
    assert run("--url", server.url).exit_code == 0
    assert run("--url", f"http://localhost:{server.port}").exit_code == 0


# --- incidents


def test_incidents_are_told_newest_first_as_answered(server: Any, documents: Any) -> None:
    server.incidents(documents.loss(), documents.duplicate())
    result = run("incidents", "--url", server.url)
    assert result.exit_code == 0
    assert result.stdout.index("l-77") < result.stdout.index("d-1f3a9c0b2e") < result.stdout.index("app/handlers.py:41")
    assert server.asked == ["/api/v1/incidents?since=1d&limit=20"]


def test_incidents_are_filtered_by_the_sidecar(server: Any) -> None:
    server.incidents()
    filters = ["--kind", "rapid_duplicate_create", "--cause", "same_request", "--limit", "5", "--scope", "web"]
    run("incidents", "--url", server.url, "--since", "90s", *filters)
    assert server.asked == [
        "/api/v1/incidents?since=1m30s&scope=web&kind=rapid_duplicate_create&cause=same_request&limit=5"
    ]


def test_options_may_stand_before_the_command_and_those_after_it_win(server: Any) -> None:
    server.incidents()
    result = run("--url", server.url, "--since", "2h", "--scope", "a", "--json", "incidents", "--scope", "b")
    assert server.asked == ["/api/v1/incidents?since=2h&scope=b&limit=20"]
    assert json.loads(result.stdout) == {"incidents": []}


def test_no_incidents_are_exit_code_0_and_said(server: Any) -> None:
    server.incidents()
    result = run("incidents", "--url", server.url, "--since", "1h")
    assert (result.exit_code, result.stdout) == (0, "No incidents in the last 1h\n")


def test_incidents_that_could_not_be_read_are_exit_code_2(server: Any, dead_url: str) -> None:
    server.give("/api/v1/incidents", b'{"incidents": 7}')
    assert run("incidents", "--url", server.url).exit_code == 2
    assert run("incidents", "--url", server.url, "--json").stdout == ""
    assert run("incidents", "--url", dead_url).exit_code == 2


# --- reading the state when no sidecar answers


class RecordingState(ModuleType):
    """Stands in for the module that reads the state; remembers what it was asked."""

    def __init__(self, document: dict[str, Any] | Exception) -> None:
        super().__init__("session_exporter.sidecar.summary")
        self.document, self.asked = document, []

    def read_summary(self, directory: Path, **question: Any) -> dict[str, Any]:
        assert question.pop("now_us") > 1_600_000_000_000_000
        self.asked.append((directory, question))
        if isinstance(self.document, Exception):
            raise self.document
        return self.document

    def read_incidents(self, directory: Path, **question: Any) -> list[dict[str, Any]]:
        return self.read_summary(directory, **question)["incidents"]


@pytest.fixture
def state(documents: Any, monkeypatch: pytest.MonkeyPatch) -> RecordingState:
    document = documents.healthy() | {"incidents": [documents.duplicate()]}
    module = RecordingState(document)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_the_state_is_read_when_no_sidecar_answers(state: RecordingState, dead_url: str, tmp_path: Path) -> None:
    source = Source(Sidecar.at(dead_url), state_directory=tmp_path)
    answer = source.summary(Question(60.0, scope="web"))
    assert answer.document is state.document
    assert state.asked == [(tmp_path, {"since_s": 60.0, "scope": "web"})]
    assert answer.note == (
        f"no sidecar answers at {dead_url}: [Errno 111] Connection refused; this is the state in {tmp_path}"
    )


def test_the_incidents_are_read_from_the_state_too(state: RecordingState, dead_url: str, tmp_path: Path) -> None:
    source = Source(Sidecar.at(dead_url), state_directory=tmp_path)
    question = Question(60.0, kind="context_loss", cause="same_request", limit=3)
    assert source.incidents(question).document == {"incidents": state.document["incidents"]}
    asked = {"since_s": 60.0, "scope": None, "kind": "context_loss", "cause": "same_request", "limit": 3}
    assert state.asked == [(tmp_path, asked)]


def test_a_named_state_is_read_without_asking_any_sidecar(state: RecordingState, tmp_path: Path) -> None:
    result = run("--state.directory", str(tmp_path))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "HEALTHY" in result.stdout
    assert run("incidents", "--state.directory", str(tmp_path)).exit_code == 0
    assert [directory for directory, _ in state.asked] == [tmp_path, tmp_path]


def test_the_configuration_names_the_state(state: RecordingState, dead_url: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"state: {{directory: {tmp_path / 'state'}}}\n")
    Source(Sidecar.at(dead_url), config_file=config).summary(Question(60.0))
    assert [directory for directory, _ in state.asked] == [tmp_path / "state"]


def test_a_sidecar_that_answers_wrongly_is_not_passed_over(state: RecordingState, server: Any, tmp_path: Path) -> None:
    server.summary(b'{"error": "not ready"}', 503)
    with pytest.raises(PeerError, match="not ready"):
        Source(Sidecar.at(server.url), state_directory=tmp_path).summary(Question(60.0))
    assert state.asked == []


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (StateError("it is locked"), "it is locked"),
        (PermissionError(13, "Permission denied"), "cannot be read: [Errno 13] Permission denied"),
        (KeyError("web"), "knows no scope 'web'"),
        (ModuleNotFoundError("No module named 'x'"), "pip install 'session-exporter[sidecar]'"),
    ],
)
def test_a_state_that_cannot_be_read_is_exit_code_2(
    state: RecordingState, tmp_path: Path, failure: Exception, said: str
) -> None:
    state.document = failure
    result = run("--state.directory", str(tmp_path), "--scope", "web")
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_when_neither_answers_both_are_named(state: RecordingState, dead_url: str, tmp_path: Path) -> None:
    state.document = StateError("there is no state in /x")
    with pytest.raises(StateError, match=f"no sidecar answers at {dead_url}.*; and there is no state in /x"):
        Source(Sidecar.at(dead_url), state_directory=tmp_path).summary(Question(60.0))


def test_a_mistake_of_our_own_never_looks_like_a_judgement(state: RecordingState, tmp_path: Path) -> None:
    state.document = ZeroDivisionError()
    result = run("--state.directory", str(tmp_path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "ZeroDivisionError" in result.stderr


def test_a_state_directory_without_a_state_is_exit_code_2(tmp_path: Path) -> None:
    result = run("--state.directory", str(tmp_path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: " in result.stderr


# --- the command as it is typed


@pytest.mark.parametrize(("name", "code"), [("healthy", 0), ("unhealthy", 1), ("unknown", 2)])
def test_the_process_exits_with_the_judgement(server: Any, documents: Any, name: str, code: int) -> None:
    server.summary(getattr(documents, name)())
    done = subprocess.run(
        command("--url", server.url), env=environ(), capture_output=True, timeout=DEADLINE_S, check=False
    )
    assert (done.returncode, done.stderr) == (code, b"")


@pytest.mark.parametrize(
    "locale", [{"LANG": "C"}, {"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "ascii"}]
)
def test_a_terminal_without_emoji_gets_ascii_marks(server: Any, documents: Any, locale: dict[str, str]) -> None:
    incident = documents.duplicate()
    incident["creates"][0]["call_sites"] = ["café.py:1:naïve"]
    server.summary(documents.unhealthy() | {"problems": ["größer"]})
    server.incidents(incident)
    for arguments, code in ((("--url", server.url), 1), (("incidents", "--url", server.url), 0)):
        done = subprocess.run(
            command(*arguments), env=environ(**locale), capture_output=True, timeout=DEADLINE_S, check=False
        )
        assert (done.returncode, done.stderr) == (code, b"")
    server.summary(documents.unhealthy())
    done = subprocess.run(
        command("--url", server.url), env=environ(**locale), capture_output=True, timeout=DEADLINE_S, check=False
    )
    assert done.stdout.isascii()
    assert b"  [!!] Session reuse ratio is BELOW TARGET (<95%)\n" in done.stdout


def test_rich_is_imported_for_the_live_view_only(server: Any, documents: Any) -> None:
    server.summary(documents.healthy())
    program = (
        "import sys\nfrom session_exporter.cli.view_metrics import main\n"
        f"main(['--url', '{server.url}'], standalone_mode=False)\n"
        "sys.exit('rich' in sys.modules or 'aiohttp' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ(), capture_output=True, timeout=DEADLINE_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_reader_that_leaves_early_does_not_change_the_exit_code(server: Any, documents: Any) -> None:
    server.summary(documents.healthy())
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run(
            command("--url", server.url),
            env=environ(),
            stdout=write_end,
            stderr=subprocess.PIPE,
            timeout=DEADLINE_S,
            check=False,
        )
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (0, b"")


# --- watching, piped


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
