"""The `sitecustomize` of `session-exporter run`: what Python would have done without it still happens."""

import os
import sys
from pathlib import Path

import pytest
from hooked import Done, finished, hooked, python
from journals import Journal

pytestmark = pytest.mark.integration

# An interpreter that has none of our libraries.
BARE = [str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())]
SITE = "import sys; print([line for line in sys.path], 'sitecustomize' in sys.modules)"


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def config(tmp_path: Path, journal: Journal) -> Path:
    path = tmp_path / "sessions.yml"
    path.write_text(f"journal: {{directory: {journal.directory}}}\n", encoding="utf-8")
    return path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A directory of modules that the program has on its path."""
    directory = tmp_path / "own"
    directory.mkdir()
    return directory


def on_path(own: Path, command: list[str]) -> list[str]:
    """A program with this directory on its path; `session-exporter run` has it not."""
    return ["sh", "-c", f'PYTHONPATH="$PYTHONPATH:{own}" exec "$@"', "sh", *command]


def alike(config: Path, command: list[str]) -> Done:
    """Runs a program with and without hooks, and checks that nobody can tell them apart."""
    without, with_hooks = finished(command), hooked(config, *command)
    assert (with_hooks.returncode, with_hooks.stdout) == (without.returncode, without.stdout)
    assert with_hooks.stderr == without.stderr
    return with_hooks


def test_the_path_and_the_modules_of_a_program_are_what_they_would_be(config, journal) -> None:
    assert alike(config, python(SITE)).stdout.endswith("False\n")
    assert len(journal.pids()) == 1


def test_the_programs_own_sitecustomize_runs_and_is_the_one_it_sees(config, own, journal) -> None:
    (own / "sitecustomize.py").write_text("import sys\nprint('own', __name__)\nVALUE = 5\n", encoding="utf-8")
    program = python("import sitecustomize; print(sitecustomize.VALUE, sitecustomize.__file__)")
    assert alike(config, on_path(own, program)).stdout == f"own sitecustomize\n5 {own}/sitecustomize.py\n"
    assert len(journal.pids()) == 1


@pytest.mark.parametrize(
    "failing",
    [
        "raise LookupError('no such thing')",
        "import a_module_that_is_missing",
        "raise ImportError('x', name='x')",
        "1/0",
    ],
)
def test_a_sitecustomize_that_fails_is_told_as_python_tells_it(failing, config, own, journal) -> None:
    (own / "sitecustomize.py").write_text(f"{failing}\n", encoding="utf-8")
    done = alike(config, on_path(own, python(SITE)))
    assert "Error in sitecustomize" in done.stderr
    assert len(journal.pids()) == 1


def test_a_sitecustomize_that_ends_the_program_ends_it(config, own) -> None:
    (own / "sitecustomize.py").write_text("raise SystemExit(4)\n", encoding="utf-8")
    program = on_path(own, python("print('never')"))
    done, without = hooked(config, *program), finished(program)
    assert (done.returncode, done.stdout) == (without.returncode, "")
    assert "SystemExit: 4" in done.stderr.splitlines()
    assert "SystemExit: 4" in without.stderr.splitlines()


def test_a_usercustomize_runs_as_ever(config, tmp_path) -> None:
    user_site = finished([*BARE, "-m", "site", "--user-site"], PYTHONUSERBASE=str(tmp_path)).stdout.strip()
    Path(user_site).mkdir(parents=True)
    (Path(user_site) / "usercustomize.py").write_text("print('the user was here')\n", encoding="utf-8")
    done = hooked(config, *BARE, "-c", "print('done')", PYTHONUSERBASE=str(tmp_path))
    assert done.stdout == "the user was here\ndone\n"


def test_an_interpreter_without_the_package_runs_on_and_says_so_in_one_line(config, own, journal) -> None:
    program = [*BARE, "-c", "import sys; print('done'); sys.exit(5)"]
    done = hooked(config, *program)
    assert (done.returncode, done.stdout) == (5, "done\n")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"session-exporter: {BARE[0]} runs without hooks: ModuleNotFoundError: No module named ")
    assert journal.pids() == []


def test_a_package_that_is_broken_there_leaves_the_program_alone(config, own) -> None:
    (own / "session_exporter").mkdir()
    (own / "session_exporter" / "__init__.py").write_text("def this is no Python\n", encoding="utf-8")
    only_there = ["sh", "-c", f'PYTHONPATH="${{PYTHONPATH%%:*}}:{own}" exec "$@"', "sh"]
    done = hooked(config, *only_there, *python("print('done')"))
    assert (done.returncode, done.stdout) == (0, "done\n")
    [line] = done.stderr.splitlines()
    assert "runs without hooks: SyntaxError" in line


@pytest.mark.parametrize("flag", ["-I", "-E", "-S"])
def test_an_interpreter_that_ignores_its_environment_runs_without_hooks(flag, config, journal) -> None:
    done = hooked(config, *BARE, flag, "-c", "print('done')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    assert journal.pids() == []


def test_a_configuration_that_became_wrong_is_counted_and_the_program_runs(config, journal, tmp_path) -> None:
    script = tmp_path / "starts_another.py"
    script.write_text(
        "import pathlib, subprocess, sys\n"
        f"pathlib.Path({str(config)!r}).write_text('colour: blue')\n"
        "subprocess.run([sys.executable, '-c', \"print('done')\"], check=True)\n",
        encoding="utf-8",
    )
    done = hooked(config, sys.executable, script)
    assert done.stdout == "done\n"
    [line] = done.stderr.splitlines()
    assert line.startswith(f"hook autoload failed, the application goes on without it: {config}:1: colour: unknown key")
    assert journal.errors() == {"autoload": 1}
    assert sorted(hooks["autoload"] for hooks in journal.hooks().values()) == [False, True]


def test_a_start_imports_nothing_that_a_program_may_want_to_replace_first(config) -> None:
    sections = (
        "tables: [{table: t}]\ncalls: [{call: 'm:f', kind: get}]\nstores: [{pattern: 's:*'}]\ndb_sessions: true\n"
    )
    frameworks = "middleware: [{framework: starlette}, {framework: flask}, {framework: django}, {framework: aiohttp}]\n"
    config.write_text(config.read_text(encoding="utf-8") + sections + frameworks, encoding="utf-8")
    names = ("asyncio", "concurrent.futures", "selectors", "socket", "ssl", "subprocess", "wrapt", "sqlalchemy")
    program = f"import sys; print([name for name in {names} if name in sys.modules])"
    assert hooked(config, *python(program)).stdout == "[]\n"


def test_the_bootstrap_is_all_that_is_on_the_path_of_other_interpreters(config) -> None:
    done = hooked(config, "sh", "-c", 'ls "${PYTHONPATH%%:*}"')
    assert [name for name in done.stdout.split() if not name.startswith("__")] == ["sitecustomize.py"]
    assert os.environ.get("SESSION_EXPORTER_CONFIG_FILE") is None
