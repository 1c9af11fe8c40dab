import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result

from session_exporter.cli.client import Sidecar
from session_exporter.cli.source import DocumentSource, Question
from session_exporter.cli.view_metrics import main
from session_exporter.errors import PeerError, StateError


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="view-metrics", env={"LC_ALL": "C.UTF-8"})


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


@pytest.fixture
def state(documents: Any, monkeypatch: pytest.MonkeyPatch) -> RecordingState:
    module = RecordingState(documents.healthy())
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_the_state_is_read_when_no_sidecar_answers(state: RecordingState, dead_url: str, tmp_path: Path) -> None:
    source = DocumentSource(Sidecar.at(dead_url), state_directory=tmp_path)
    answer = source.summary(Question(60.0, scope="web"))
    assert answer.document is state.document
    assert state.asked == [(tmp_path, {"since_s": 60.0, "scope": "web"})]
    assert answer.note == (
        f"no sidecar answers at {dead_url}: [Errno 111] Connection refused; this is the state in {tmp_path}"
    )


def test_a_named_state_is_read_without_asking_any_sidecar(state: RecordingState, tmp_path: Path) -> None:
    result = run("--state.directory", str(tmp_path))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "HEALTHY" in result.stdout
    assert [directory for directory, _ in state.asked] == [tmp_path]


def test_the_configuration_names_the_state(state: RecordingState, dead_url: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"state: {{directory: {tmp_path / 'state'}}}\n")
    DocumentSource(Sidecar.at(dead_url), config_file=config).summary(Question(60.0))
    assert [directory for directory, _ in state.asked] == [tmp_path / "state"]


def test_a_sidecar_that_answers_wrongly_is_not_passed_over(state: RecordingState, server: Any, tmp_path: Path) -> None:
    server.summary(b'{"error": "not ready"}', 503)
    with pytest.raises(PeerError, match="not ready"):
        DocumentSource(Sidecar.at(server.url), state_directory=tmp_path).summary(Question(60.0))
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
        DocumentSource(Sidecar.at(dead_url), state_directory=tmp_path).summary(Question(60.0))


def test_a_mistake_of_our_own_never_looks_like_a_judgement(state: RecordingState, tmp_path: Path) -> None:
    state.document = ZeroDivisionError()
    result = run("--state.directory", str(tmp_path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "ZeroDivisionError" in result.stderr


def test_a_state_directory_without_a_state_is_exit_code_2(tmp_path: Path) -> None:
    result = run("--state.directory", str(tmp_path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: " in result.stderr
