"""`session-exporter run` as its user types it: what becomes of the program, its environment and its end."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hooked import GENEROUS_S, RUN, SOURCES, environment, finished, hooked, python
from journals import Journal

pytestmark = pytest.mark.integration


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def config(tmp_path: Path, journal: Journal) -> Path:
    path = tmp_path / "sessions.yml"
    path.write_text(f"journal: {{directory: {journal.directory}}}\n", encoding="utf-8")
    return path


def test_the_exit_code_and_the_output_are_the_programs_own(config) -> None:
    done = hooked(config, *python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"))
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_a_program_that_raises_ends_as_it_would_without(config, tmp_path) -> None:
    script = tmp_path / "failing.py"
    script.write_text("def main():\n    raise LookupError('nothing there')\n\nmain()\n", encoding="utf-8")
    with_hooks, without = hooked(config, sys.executable, script), finished([sys.executable, script])
    assert with_hooks.returncode == 1
    assert (with_hooks.stdout, with_hooks.stderr) == (without.stdout, without.stderr)


def test_the_command_becomes_the_program(config) -> None:
    with subprocess.Popen(
        [*RUN, "--config.file", str(config), "--", *python("import os; print(os.getpid())")],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        printed, _ = started.communicate(timeout=GENEROUS_S)
    assert int(printed) == started.pid


def test_a_worker_and_its_hooks_are_visible_before_the_first_event(config, journal) -> None:
    done = hooked(config, *python("import os; print(os.getpid())"))
    assert journal.pids() == [int(done.stdout)]
    assert journal.hooks()[int(done.stdout)]["autoload"] is True
    assert journal.events() == []


@pytest.mark.parametrize("handled", [True, False], ids=["with a handler", "without one"])
def test_a_signal_is_the_programs_own(handled, config) -> None:
    handler = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3));" if handled else ""
    program = f"import signal, sys; {handler} print('ready', flush=True); signal.pause()"
    with subprocess.Popen(
        [*RUN, "--config.file", str(config), "--", *python(program)],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        started.terminate()
        assert started.wait(GENEROUS_S) == (3 if handled else -signal.SIGTERM)


def test_no_signal_is_ignored_that_was_not_before(config) -> None:
    [line] = [line for line in hooked(config, "cat", "/proc/self/status").stdout.splitlines() if "SigIgn" in line]
    ignored = int(line.split()[1], 16)
    assert not ignored & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)


def test_a_wrong_configuration_starts_nothing(tmp_path) -> None:
    wrong, trace = tmp_path / "wrong.yml", tmp_path / "trace"
    wrong.write_text("scopes:\n  chat: {colour: blue}\n", encoding="utf-8")
    done = hooked(wrong, "touch", trace)
    assert done.returncode == 2
    assert f"{wrong}:2: scopes.chat.colour: unknown key" in done.stderr
    assert not trace.exists()


def test_a_missing_configuration_starts_nothing(tmp_path) -> None:
    done = hooked(tmp_path / "none.yml", "touch", tmp_path / "trace")
    assert done.returncode == 2
    assert "none.yml: cannot be read: No such file or directory" in done.stderr
    assert not (tmp_path / "trace").exists()


def test_a_command_that_does_not_exist_is_127(config) -> None:
    done = hooked(config, "no-such-command-anywhere", "--help")
    assert (done.returncode, done.stderr) == (127, "session-exporter: no-such-command-anywhere: command not found\n")


def test_what_cannot_be_executed_is_126(config, tmp_path) -> None:
    plain, formless, uninterpreted = tmp_path / "plain", tmp_path / "formless", tmp_path / "uninterpreted"
    for path, text, mode in (
        (plain, "#!/bin/sh\n", 0o644),
        (formless, "no program\n", 0o755),
        (uninterpreted, "#!/no/such/python\n", 0o755),
    ):
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
    expected = {
        plain: "cannot be executed: Permission denied",
        formless: "cannot be executed: Exec format error",
        uninterpreted: "the interpreter that its first line names is missing",
        tmp_path: "cannot be executed: Permission denied",
    }
    for path, problem in expected.items():
        done = hooked(config, path)
        assert (done.returncode, done.stderr) == (126, f"session-exporter: {path}: {problem}\n")


def test_the_programs_options_are_its_own_also_without_a_separator(config) -> None:
    done = finished(
        [*RUN, "--config.file", config, sys.executable, "-c", "import sys; print(sys.argv)", "-h", "--", "-x"]
    )
    assert done.stdout == "['-c', '-h', '--', '-x']\n"


def test_without_a_command_it_says_what_is_missing(config) -> None:
    done = finished([*RUN, "--config.file", config])
    assert done.returncode == 2
    assert "Missing argument 'COMMAND...'" in done.stderr


def test_the_configuration_may_be_named_by_the_environment(config, journal) -> None:
    done = finished([*RUN, "--", *python("")], SESSION_EXPORTER_CONFIG_FILE=str(config))
    assert done.returncode == 0
    assert len(journal.pids()) == 1


def test_a_relative_path_is_found_from_wherever_the_program_goes(config, journal) -> None:
    child = f"import os, subprocess; os.chdir('/'); subprocess.run([{sys.executable!r}, '-c', ''], check=True)"
    done = hooked(Path(config.name), *python(child), cwd=config.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(journal.pids()) == 2


def test_the_environments_directory_wins_over_the_files(config, journal, tmp_path) -> None:
    other = Journal(tmp_path / "other")
    program = "import os; print(os.environ['SESSION_EXPORTER_DIR'])"
    assert hooked(config, *python(program), SESSION_EXPORTER_DIR=str(other.directory)).stdout == f"{other.directory}\n"
    assert (len(other.pids()), journal.pids()) == (1, [])
    assert hooked(config, *python(program)).stdout == f"{journal.directory}\n"


def test_the_programs_own_python_path_stays_behind_ours(config, tmp_path) -> None:
    (tmp_path / "wanted.py").write_text("", encoding="utf-8")
    inherited = f"{tmp_path}:{SOURCES}"
    program = "import os, wanted; print(os.environ['PYTHONPATH'])"
    first, *rest = hooked(config, *python(program), PYTHONPATH=inherited).stdout.strip().split(":")
    assert first.endswith("/session_exporter/bootstrap")
    assert rest == [str(tmp_path), str(SOURCES)]


def test_one_run_inside_of_another_is_one(config, journal) -> None:
    program = "import os; print(os.environ['PYTHONPATH'].count('bootstrap'))"
    done = hooked(config, *RUN, "--config.file", config, "--", *python(program))
    assert (done.stdout, done.stderr) == ("1\n", "")
    assert len(journal.pids()) == 1


def test_with_everything_disabled_nothing_is_recorded(config, journal) -> None:
    program = "import sys; print('session_exporter' in sys.modules)"
    assert hooked(config, *python(program), SESSION_EXPORTER_DISABLED="1").stdout == "False\n"
    assert not journal.directory.exists()


def test_a_directory_that_cannot_be_written_leaves_the_program_alone(tmp_path) -> None:
    config = tmp_path / "sessions.yml"
    config.write_text(f"journal: {{directory: {config}/journal}}\n", encoding="utf-8")
    program = "import session_exporter; session_exporter.SessionTracker().created('u', 's'); print('done')"
    done = hooked(config, *python(program))
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_the_sidecar_and_its_tools_watch_nobody(config, journal) -> None:
    done = hooked(config, sys.executable, "-m", "session_exporter", "check-config", config)
    assert done.returncode == 0
    assert journal.pids() == []
