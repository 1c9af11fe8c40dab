"""The command `session-exporter` as its user types it: real processes, real signals, real sockets."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from session_exporter._version import __version__
from session_exporter.cli.session_exporter import main

COMMAND = [sys.executable, "-m", "session_exporter"]
GENEROUS_S = 30.0

CORRECT = """
scopes:
  conversation: {duplicate_window: 5s}
"""
WRONG = """scopes:
  conversation:
    duplicate_window: soon
    colour: blue
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """One in which no directory of this machine is found."""
    own = {name: value for name, value in os.environ.items() if name != "SESSION_EXPORTER_DIR"}
    return {**own, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "xdg"), "XDG_RUNTIME_DIR": str(tmp_path)}


def run(environment: dict[str, str], *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        timeout=GENEROUS_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def typed(*arguments: str | Path) -> Result:
    """What the command says to arguments that need no process of their own."""
    return CliRunner().invoke(main, [*map(str, arguments)], prog_name="session-exporter")


class Serving:
    """A sidecar in a process of its own; its log is read to the end, so that it never blocks."""

    def __init__(self, environment: dict[str, str], *arguments: str | Path) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)], env=environment, stderr=subprocess.PIPE, text=True
        )
        self.log: list[str] = []
        self._url = ""
        self._known = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(r"listening.*url=\"?(http://[^\s\"]+)", line)
            if found:
                self._url = found[1]
                self._known.set()
        self._known.set()

    @property
    def url(self) -> str:
        assert self._known.wait(GENEROUS_S), "it never listened"
        assert self._url, "".join(self.log)
        return self._url

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        status = self.process.wait(GENEROUS_S)
        self._thread.join(GENEROUS_S)
        return status

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._thread.join()
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextmanager
def serving(environment: dict[str, str], place: Path, *arguments: str | Path, command: str = "") -> Iterator[Serving]:
    directories = ["--journal.directory", place / "journal", "--state.directory", place / "state"]
    running = Serving(environment, *command.split(), *arguments, *directories, "--web.listen-address", "127.0.0.1:0")
    try:
        yield running
    finally:
        running.close()


def answered(url: str) -> str:
    with urllib.request.urlopen(url, timeout=GENEROUS_S) as answer:
        return answer.read().decode()


def refused(result: "subprocess.CompletedProcess[str] | Result", *patterns: str) -> None:
    """It ended with exit code 2 and a message of its own, and without a traceback."""
    if isinstance(result, Result):
        assert isinstance(result.exception, SystemExit), result.exception
        status, said = result.exit_code, result.output
    else:
        status, said = result.returncode, result.stderr
    assert status == 2, said
    assert "Traceback" not in said
    for pattern in patterns:
        assert re.search(pattern, said), said


def test_serve_is_the_default_command(environment: dict[str, str], tmp_path: Path) -> None:
    with serving(environment, tmp_path) as sidecar:
        metrics = answered(f"{sidecar.url}/metrics")
        assert re.search(f'session_exporter_build_info{{.*version="{re.escape(__version__)}"', metrics)
        assert sidecar.stop() == 0
        assert "Traceback" not in "".join(sidecar.log)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_ends_in_peace_when_it_is_told_to(environment: dict[str, str], tmp_path: Path, number: int) -> None:
    with serving(environment, tmp_path, command="serve") as sidecar:
        assert answered(f"{sidecar.url}/-/healthy")
        assert sidecar.stop(number) == 0
        assert "Traceback" not in "".join(sidecar.log)


def test_serve_tells_which_directories_it_uses(environment: dict[str, str], tmp_path: Path) -> None:
    with serving(environment, tmp_path) as sidecar:
        assert sidecar.url
        sidecar.stop()
        log = "".join(sidecar.log)
    assert str(tmp_path / "journal") in log
    assert str(tmp_path / "state") in log


def test_a_configuration_is_used_and_a_bad_one_does_not_replace_it(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text(CORRECT)
    with serving(environment, tmp_path, "--config.file", file, "--web.enable-lifecycle") as sidecar:
        assert 'session_creates_total{scope="conversation"} 0' in answered(f"{sidecar.url}/metrics")
        file.write_text(WRONG)
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(urllib.request.Request(f"{sidecar.url}/-/reload", method="POST"), timeout=GENEROUS_S)
        metrics = answered(f"{sidecar.url}/metrics")
        assert "session_exporter_config_last_reload_successful 0" in metrics
        assert 'session_creates_total{scope="conversation"} 0' in metrics


def test_the_version_is_told(environment: dict[str, str]) -> None:
    result = run(environment, "--version")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"session-exporter, version {__version__}\n"


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_names_the_commands(option: str) -> None:
    result = typed(option)
    assert result.exit_code == 0
    for command in ("serve", "check-config", "demo"):
        assert re.search(rf"^  {command} ", result.output, re.MULTILINE)


def test_a_correct_configuration_is_told_to_be_so_with_what_it_means(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text(CORRECT)
    result = typed("check-config", file)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == f"{file}: correct"
    assert "scopes.conversation.duplicate_window: 5s" in lines
    assert "scopes.conversation.idle_timeout: 30m" in lines
    assert "lateness: 2s" in lines


def test_a_configuration_that_is_not_enough_for_a_fleet_is_told_to_be_so(tmp_path: Path) -> None:
    file = tmp_path / "f.yml"
    file.write_text("stream: {url: 'redis://localhost'}\n")
    told = typed("check-config", file)
    assert told.exit_code == 0
    assert "forward and serve --source=stream also need privacy.key_file" in told.output


def test_every_mistake_of_a_configuration_is_named_with_line_and_key(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "config.yml"
    file.write_text(WRONG)
    for result in (typed("check-config", file), run(environment, "--config.file", file)):
        refused(
            result,
            rf"{file}:3: scopes\.conversation\.duplicate_window: value soon: expected",
            rf"{file}:4: scopes\.conversation\.colour: unknown key",
        )


def test_a_configuration_that_is_missing_is_named(tmp_path: Path) -> None:
    refused(typed("check-config", tmp_path / "nothing.yml"), r"nothing.yml: cannot be read: No such file")


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["--no-such-option"],
        ["serve", "--log.level", "loud"],
        ["serve", "--log.format", "xml"],
        ["check-config"],
    ],
)
def test_wrong_arguments_are_told_in_a_line_of_their_own(arguments: list[str]) -> None:
    refused(typed(*arguments), r"Error: ")


@pytest.mark.parametrize("library", ["aiohttp", "prometheus_client", "re2"])
def test_a_sidecar_without_one_of_its_libraries_says_what_to_install(
    environment: dict[str, str], tmp_path: Path, library: str
) -> None:
    (tmp_path / f"{library}.py").write_text(f"raise ModuleNotFoundError('hidden', name='{library}')")
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment.get("PYTHONPATH", "")])
    refused(run(environment, "serve"), rf"{library} is missing; expected: pip install 'session-exporter\[sidecar\]'")


@pytest.mark.parametrize("address", ["127.0.0.1:no", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_named(environment: dict[str, str], tmp_path: Path, address: str) -> None:
    directories = ["--journal.directory", tmp_path / "journal", "--state.directory", tmp_path / "state"]
    result = run(environment, *directories, "--web.listen-address", address)
    refused(result, re.escape(address.rpartition(":")[0] or address))


def test_an_address_that_is_taken_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    directories = ["--journal.directory", tmp_path / "journal", "--state.directory", tmp_path / "state"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refused(run(environment, *directories, "--web.listen-address", address), f"session-exporter: .*{address}")


def test_a_second_sidecar_is_refused_and_told_the_first(environment: dict[str, str], tmp_path: Path) -> None:
    listen = ["--web.listen-address", "127.0.0.1:0"]
    with serving(environment, tmp_path) as first:
        assert first.url
        pid = first.process.pid
        journal = ["--journal.directory", tmp_path / "journal"]
        other_state = ["--state.directory", tmp_path / "other"]
        refused(
            run(environment, *listen, *journal, *other_state), f"already read by process {pid}|in use by process {pid}"
        )
        same_state = ["--journal.directory", tmp_path / "other-journal", "--state.directory", tmp_path / "state"]
        refused(run(environment, *listen, *same_state), f"in use by process {pid}|already \\w+ by process {pid}")


@pytest.mark.parametrize("which", ["--journal.directory", "--state.directory"])
def test_a_directory_that_cannot_be_made_is_named(environment: dict[str, str], tmp_path: Path, which: str) -> None:
    (tmp_path / "file").write_text("in the way")
    places = {"--journal.directory": tmp_path / "journal", "--state.directory": tmp_path / "state"}
    places[which] = tmp_path / "file" / "below"
    arguments = [each for option, place in places.items() for each in (option, place)]
    refused(
        run(environment, *arguments, "--web.listen-address", "127.0.0.1:0"),
        f"session-exporter: .*{tmp_path}/file/below",
    )


def test_a_state_that_is_none_is_named_and_left_alone(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "state.sqlite3").write_bytes(b"garbage" * 1000)
    directories = ["--journal.directory", tmp_path / "journal", "--state.directory", tmp_path / "state"]
    result = run(environment, *directories, "--web.listen-address", "127.0.0.1:0")
    refused(result, r"state.sqlite3: not a database; expected a state of session-exporter")
    assert (tmp_path / "state" / "state.sqlite3").read_bytes() == b"garbage" * 1000


def test_a_key_of_a_wrong_length_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "short.key").write_bytes(b"short")
    (tmp_path / "config.yml").write_text(f"privacy: {{key_file: {tmp_path}/short.key}}\n")
    directories = ["--journal.directory", tmp_path / "journal", "--state.directory", tmp_path / "state"]
    result = run(
        environment, *directories, "--config.file", tmp_path / "config.yml", "--web.listen-address", "127.0.0.1:0"
    )
    refused(result, r"short.key: 5 bytes; expected a key of 16 to 64")
    assert "short\n" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stream.partitions=0-3"], "--stream.partitions: expected only with --source=stream"),
        (["--source=stream", "--journal.directory=/j"], "--journal.directory: expected only with --source=journal"),
        (["--source=stream", "--stream.partitions=1,9-3"], "such as 0-7,9; ranges are ascending: 3-9"),
        (
            ["--source=stream"],
            "--config.file: expected with --source=stream: a file with stream.url (or stream.url_file)",
        ),
        (["--source=stream", "--stream.partitions=1,,2"], "'1,,2': expected whole numbers and ranges of them"),
        (["--source=redis"], "'redis' is not one of 'journal', 'stream'"),
    ],
)
def test_a_source_is_asked_for_with_what_belongs_to_it(arguments: list[str], message: str) -> None:
    said = typed("serve", *arguments)
    assert said.exit_code == 2
    assert message in " ".join(said.output.split())


@pytest.mark.parametrize(
    ("config", "partitions", "message"),
    [
        ("", "0", "stream.url: not set"),
        ("stream: {url: redis://x}", "0", "privacy.key_file: not set"),
        (
            "privacy: {key_file: /k}\nstream: {url: redis://x}",
            "7,16-17",
            "--stream.partitions: 16-17; expected numbers",
        ),
    ],
)
def test_what_a_stream_needs_is_named(
    tmp_path: Path, environment: dict[str, str], config: str, partitions: str, message: str
) -> None:
    path = tmp_path / "c.yml"
    path.write_text(config)
    done = run(environment, "--config.file", path, "--source=stream", f"--stream.partitions={partitions}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"session-exporter: {message}")
    assert not (tmp_path / "xdg").exists()
