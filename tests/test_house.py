"""What `make` does on machines that lack something."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture
def machine(tmp_path):
    """A directory of programs, as the only ones there are."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "env", "id", "rm", "sh"):
        (programs / name).symlink_to(str(shutil.which(name)))

    def program(name: str, text: str) -> None:
        (programs / name).unlink(missing_ok=True)  # else the program that a link stands for would be written to
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)

    def run(*command: object, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(word) for word in command],
            env={"PATH": str(programs), **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    run.program = program
    return run


OLD = 'if [ "$1" = --version ]; then echo "Python 3.9.2"; else exit 1; fi'
NEW = f'exec {sys.executable} "$@"'
ENVIRONMENT = PROJECT / ".ci" / "environment"


def test_a_python_that_is_too_old_is_named_with_what_to_do(machine, tmp_path) -> None:
    machine.program("python3", OLD)
    done = machine(ENVIRONMENT, tmp_path / "venv")
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed; found: Python 3.9.2. Choose one with: make PYTHON=" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_a_newer_python_is_found_beside_one_that_is_too_old(machine, tmp_path) -> None:
    machine.program("python3", OLD)
    machine.program("python3.13", "exit 127")  # a shim for a version that is not installed
    machine.program("python3.12", NEW)
    done = machine(ENVIRONMENT, tmp_path / "venv")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "venv" / "bin" / "python").exists()


def test_a_python_that_was_chosen_is_not_replaced_by_another(machine, tmp_path) -> None:
    machine.program("python3.9", OLD)
    machine.program("python3.12", NEW)
    done = machine(ENVIRONMENT, tmp_path / "venv", PYTHON="python3.9")
    assert done.returncode == 1
    assert "found: Python 3.9.2" in done.stderr


def test_a_python_without_its_venv_module_says_which_package_has_it(machine, tmp_path) -> None:
    machine.program("python3", 'if [ "$1" = -m ]; then mkdir -p venv; echo no ensurepip; exit 1; fi')
    done = machine(ENVIRONMENT, tmp_path / "venv")
    assert done.returncode == 1
    assert "no ensurepip" in done.stderr
    assert "apt-get install python3-venv" in done.stderr


def test_servers_that_are_there_are_left_alone(machine) -> None:
    for name in ("prometheus", "promtool", "initdb", "postgres", "psql", "redis-server"):
        machine.program(name, "")
    done = machine(PROJECT / ".ci" / "servers")
    assert (done.returncode, done.stdout) == (0, "All servers are installed.\n")


def test_on_another_system_it_says_which_servers_to_install(machine) -> None:
    done = machine(PROJECT / ".ci" / "servers")
    assert done.returncode == 1
    # PostgreSQL is found where Debian keeps it, whatever the PATH.
    assert re.search(r"^Missing: prometheus( postgresql)? redis-server\. This is no Debian", done.stderr)
    assert "https://prometheus.io/download/" in done.stderr


def test_who_may_not_install_is_told_what_root_has_to_type(machine) -> None:
    machine.program("id", "echo 1000")
    machine.program("apt-get", "exit 1")
    done = machine(PROJECT / ".ci" / "servers")
    assert done.returncode == 1
    assert "as root: apt-get install prometheus" in done.stderr


@pytest.mark.parametrize(("variables", "outcome"), [({"CI": "true"}, "failed"), ({"CI": ""}, "skipped")])
def test_a_missing_server_is_named_and_fails_in_ci_only(tmp_path, variables, outcome) -> None:
    shutil.copy(PROJECT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text('def test_it(require_server):\n    require_server("no-such-server")\n')
    command = [sys.executable, "-m", "pytest", "-q", "-rsf", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert f"1 {outcome}" in done.stdout
    assert "no-such-server is missing; install it with: make servers" in done.stdout


@pytest.mark.parametrize(
    "leaving",
    [
        # A process has no environment to be known by for a moment after it has begun: until it says something.
        "[p := subprocess.Popen(['sh', '-c', 'echo; sleep 60; :'], stdout=subprocess.PIPE), p.stdout.readline()]",
        "subprocess.Popen(['sh', '-c', 'sleep 60 & exit']).wait()",
    ],
    ids=["a process", "an orphan"],
)
def test_what_a_test_leaves_behind_fails_it(tmp_path, leaving) -> None:
    conftest = (PROJECT / "tests" / "conftest.py").read_text(encoding="utf-8")
    (tmp_path / "conftest.py").write_text(conftest.replace("AFTER_S = 10.0", "AFTER_S = 0.2"), encoding="utf-8")
    (tmp_path / "test_it.py").write_text(f"import subprocess\nkept = []\ndef test_it():\n    kept.append({leaving})\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as run:
        printed, _ = run.communicate(timeout=60)
        os.killpg(run.pid, 9)
    assert "left behind: process" in printed
    assert "sleep 60" in printed
