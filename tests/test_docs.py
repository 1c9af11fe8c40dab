"""The documents: every command and every example in them is run, but for those that say why not.

A block `sh`, `python` or `yaml` is run or checked. One whose first line is a comment with a file name (`# app.py`) is
saved as that file. A block after a comment `<!-- not run: why -->` is left alone. Blocks of a document share a
directory, in the order of the document; a block of another kind is output, or not for a shell.
"""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from document_blocks import BLOCKS, DOCUMENTS, PROJECT, Block, shape

from session_exporter.config import SCHEMA, parse

# Of the sidecar, and of applications. They may be taken here, and tests run beside each other: others stand in.
PORTS = ("9897", "8000")
# Their output is compared with what they show.
SHOWN = (
    "docs/howto/audit-a-database.md",
    "docs/howto/audit-your-code.md",
    "docs/howto/find-redundant-lookups.md",
    "docs/howto/find-sessions.md",
)
DEADLINE_S = 90.0
# Examples run in directories of their own, where a relative path would lead nowhere.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(PROJECT / "exporter")}


TO_RUN = {name: [block for block in blocks if not block.why] for name, blocks in BLOCKS.items()}


def with_kind(kind: str) -> dict[str, Block]:
    return {
        f"{name} {number}": block
        for name, blocks in TO_RUN.items()
        for number, block in enumerate(blocks)
        if block.kind == kind
    }


@pytest.fixture
def free_ports() -> dict[str, str]:
    """For each port of the documents one that is free."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in PORTS]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return {port: str(probe.getsockname()[1]) for port, probe in zip(PORTS, probes, strict=True)}


PROGRAMS = {
    "session-exporter": "from session_exporter.cli.session_exporter import main; main()",
    # In the documents it asks at the usual port.
    "view-metrics": (
        "import sys; from session_exporter.cli.view_metrics import main;"
        "main(['--url', 'http://127.0.0.1:{port}', *sys.argv[1:]])"
    ),
}


@pytest.fixture
def programs(tmp_path_factory, free_ports) -> Path:
    """A directory with the programs of the documents, which run by this interpreter."""
    directory = tmp_path_factory.mktemp("bin")
    commands = {name: f'-c "{program.format(port=free_ports["9897"])}"' for name, program in PROGRAMS.items()}
    for name, arguments in {**commands, "python": ""}.items():
        path = directory / name
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        path.chmod(0o755)
    return directory


def run_shell(script: str, directory: Path, programs: Path, ports: Mapping[str, str]) -> str:
    """Run commands as somebody types them; returns what they print."""
    # Servers of applications are installed beside the interpreter.
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**ENVIRONMENT, "PATH": path, "HOME": str(directory)}
    for port, free in ports.items():
        script = re.sub(rf"\b{port}\b", free, script)
    with subprocess.Popen(
        ["bash", "-c", f"set -o pipefail -m\n{script}"],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            printed, _ = shell.communicate(timeout=DEADLINE_S)
        finally:
            _end_session(shell.pid)
    assert shell.returncode == 0, printed
    return printed


def _end_session(leader: int) -> None:
    """End what a shell has started and not stopped: job control gives every job a group of its own."""
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            fields = (directory / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader:
            os.kill(int(directory.name), signal.SIGKILL)


def save_files(name: str, directory: Path) -> None:
    for block in TO_RUN[name]:
        if block.file_name:
            (directory / block.file_name).write_text(block.text, encoding="utf-8")


def shell_of(name: str) -> str:
    return "\n".join(block.text for block in TO_RUN[name] if block.kind == "sh")


@pytest.mark.e2e
def test_the_tutorial_finds_the_race_and_then_does_not(tmp_path, programs, free_ports) -> None:
    save_files("docs/tutorial.md", tmp_path)
    printed = run_shell(shell_of("docs/tutorial.md"), tmp_path, programs, free_ports)
    racy, repaired = printed.split("SESSION MANAGEMENT METRICS")[1:]
    for text, words in {
        racy: ["Sessions Created: 4", "Reused: 58", "Duplicate Creates: 2", "BELOW TARGET", "exit code 1"],
        repaired: ["Sessions Created: 2", "Reused: 58", "Duplicate Creates: 0", "is HEALTHY", "exit code 0"],
    }.items():
        assert all(word in re.sub(" +", " ", text) for word in words), text
    document = (PROJECT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    sites = set(re.findall(r"at app\.py:\d+:\S+", document))
    assert set(re.findall(r"at app\.py:\d+:\S+", racy)) == sites
    assert re.search(r"^session_rapid_duplicate_creates_total\{.*same_request.*\} 2\.0$", racy, re.MULTILINE)


@pytest.mark.e2e
def test_the_demo_prints_what_the_readme_shows(tmp_path, programs, free_ports) -> None:
    printed = {shape(line) for line in run_shell("session-exporter demo", tmp_path, programs, free_ports).splitlines()}
    [picture] = [block for block in BLOCKS["README.md"] if block.text.startswith("$ make demo\n")]
    shown = [line for line in picture.text.splitlines()[1:] if line != "[...]"]
    assert [line for line in shown if shape(line) not in printed] == []


@pytest.mark.e2e
@pytest.mark.parametrize("name", SHOWN)
def test_what_is_looked_for_is_found_as_the_document_shows(name, tmp_path, programs, free_ports) -> None:
    save_files(name, tmp_path)
    printed = run_shell(shell_of(name), tmp_path, programs, free_ports)
    shapes = {shape(line) for line in printed.splitlines()}
    blocks = [block.text for block in BLOCKS[name] if not block.kind and not block.text.startswith("sum by ")]
    shown = [line for text in blocks for line in text.splitlines() if line != "[...]"]
    assert [line for line in shown if shape(line) not in shapes] == [], printed
    sites = set(re.findall(r"\bapp\.py:\d+:\w+", "\n".join(shown)))
    assert set(re.findall(r"\bapp\.py:\d+:\w+", printed)) == sites


def test_the_commands_of_the_other_documents_run(tmp_path, programs, free_ports) -> None:
    for name in TO_RUN:
        script = "\n".join(line for line in shell_of(name).splitlines() if not line.startswith("make "))
        if name not in {"docs/tutorial.md", *SHOWN} and script:
            directory = tmp_path / name.replace("/", "-")
            directory.mkdir()
            save_files(name, directory)
            run_shell(script, directory, programs, free_ports)


def test_every_make_target_of_the_documents_exists() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in [*DOCUMENTS, PROJECT / "tests" / "README.md"])
    targets = set(re.findall(r"(?:^|`|\$ )make ([a-z-]+)", text, re.MULTILINE))
    assert {"demo", "test", "servers"} <= targets
    for target in targets:
        dry = subprocess.run(["make", "-n", target], cwd=PROJECT, capture_output=True, text=True, check=False)
        assert dry.returncode == 0, dry.stderr


@pytest.mark.parametrize("name", [name for name in TO_RUN if name != "docs/tutorial.md"])
def test_the_python_examples_run(name, tmp_path) -> None:
    save_files(name, tmp_path)
    environment = {**ENVIRONMENT, "SESSION_EXPORTER_DIR": str(tmp_path / "journal")}
    for block in TO_RUN[name]:
        if block.kind == "python":
            subprocess.run([sys.executable, "-c", block.text], cwd=tmp_path, env=environment, check=True, timeout=60)


@pytest.mark.parametrize("block", with_kind("yaml").values(), ids=with_kind("yaml"))
def test_the_configurations_are_correct(block, request, tmp_path) -> None:
    if "scrape_configs" not in yaml.safe_load(block.text):
        parse(block.text, "document")
        return
    (tmp_path / "prometheus.yml").write_text(block.text, encoding="utf-8")
    promtool = request.getfixturevalue("require_server")("promtool")
    subprocess.run([promtool, "check", "config", tmp_path / "prometheus.yml"], check=True, stdout=subprocess.PIPE)


def test_every_key_and_metric_that_the_documents_name_exists() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    keys = set(re.findall(r"`((?:journal|state|limits|privacy)\.[\w.]+)`", text))
    assert keys
    assert keys <= set(SCHEMA) | {"limits.known_ids"}
    metrics = (PROJECT / "docs" / "metrics.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(session_\w+?(?:_total|_seconds|_bytes|_ratio|_sessions|_users|_successful))\b", text))
    assert named
    assert {name for name in named if f"`{name}`" not in metrics} == set()


def test_every_link_between_the_documents_leads_somewhere() -> None:
    for path in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", path.read_text(encoding="utf-8")):
            name, _, anchor = target.partition("#")
            linked = (path.parent / name).resolve() if name else path
            assert linked.exists(), f"{path}: {target}"
            if anchor:
                titles = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
                assert anchor in {anchor_of(title) for title in titles}, f"{path}: {target}"


def anchor_of(title: str) -> str:
    """What a heading is called in links."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def test_what_is_not_run_says_why() -> None:
    for name, blocks in BLOCKS.items():
        for block in blocks:
            assert block.kind in {"", "sh", "python", "yaml", "ini"}, f"{name}: {block.kind}"
            assert not block.why or len(block.why.split()) > 3, f"{name}: {block.why}"
