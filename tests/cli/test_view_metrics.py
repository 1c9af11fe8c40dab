import json
import os
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner, Result

from session_exporter._version import __version__
from session_exporter.cli.view_metrics import main

DEADLINE_S = 20


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="view-metrics", env={"LC_ALL": "C.UTF-8"})


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "session_exporter.cli.view_metrics", *arguments]


def environ(**more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONIO"))}
    return {**inherited, **more}


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


@pytest.mark.parametrize(("name", "code"), [("healthy", 0), ("unhealthy", 1), ("unknown", 2)])
def test_the_process_exits_with_the_judgement(server: Any, documents: Any, name: str, code: int) -> None:
    server.summary(getattr(documents, name)())
    done = subprocess.run(
        command("--url", server.url), env=environ(), capture_output=True, timeout=DEADLINE_S, check=False
    )
    assert (done.returncode, done.stderr) == (code, b"")


def test_an_unhealthy_judgement_names_the_command_that_explains_the_newest_incident(
    server: Any, documents: Any
) -> None:
    server.summary(documents.unhealthy())
    server.incidents(documents.duplicate())
    result = run("--url", server.url, "--scope", "conversation")
    assert f"  view-metrics explain --url {server.url} d-1f3a9c0b2e " in result.stdout
    assert server.asked[1] == "/api/v1/incidents?since=1h&scope=conversation&limit=1"
    server.give("/api/v1/incidents", {"error": "busy"}, 503)
    result = run("--url", server.url)
    assert (result.exit_code, result.stderr, "explain" in result.stdout) == (1, "", False)


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
