"""`session-exporter run`: another program, with the hooks of a configuration in it and in all it starts."""

import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

import session_exporter
from session_exporter.config import Config
from session_exporter.errors import SessionExporterError
from session_exporter.hooks.autoload import CONFIG_KEY
from session_exporter.journal.directory import ENVIRONMENT_KEY

# As shells have it.
EXIT_NOT_EXECUTABLE: Final = 126
EXIT_NOT_FOUND: Final = 127
BOOTSTRAP: Final = Path(session_exporter.__file__).resolve().parent / "bootstrap"
PYTHON_PATH: Final = "PYTHONPATH"


class NotStarted(SessionExporterError):
    """The program could not be started.

    Args:
        exit_code: 127 when it was not found, 126 when it cannot be executed.
        message: What stands in the way.
    """

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def run_program(command: Sequence[str], config_file: Path, config: Config) -> NoReturn:
    """Become another program: same process id, its own signals and exit code.

    Args:
        command: The program, looked for on `$PATH`, and its arguments.
        config_file: What the hooks are told to read.
        config: What it holds, for the journal's directory.

    Raises:
        NotStarted: The program was not found, or cannot be executed.
    """
    environment = hooked_environment(os.environ, config_file, config)
    sys.stdout.flush()
    sys.stderr.flush()
    _restore_signals()
    try:
        os.execvpe(command[0], list(command), environment)  # noqa: S606 - the program that the user has asked for
    except (OSError, ValueError) as error:
        raise _not_started(command[0], error) from error


def hooked_environment(environ: Mapping[str, str], config_file: Path, config: Config) -> dict[str, str]:
    """The environment in which every Python program loads the hooks."""
    inherited = environ.get(PYTHON_PATH, "")
    entries = [entry for entry in inherited.split(os.pathsep) if entry != str(BOOTSTRAP)] if inherited else []
    added = {PYTHON_PATH: os.pathsep.join([str(BOOTSTRAP), *entries]), CONFIG_KEY: str(config_file.absolute())}
    if config.journal.directory is not None and not environ.get(ENVIRONMENT_KEY):
        # Trackers that the application makes itself have not read the file.
        added[ENVIRONMENT_KEY] = str(config.journal.directory)
    return {**environ, **added}


def _restore_signals() -> None:
    """Python ignores these from its start on, and what is ignored stays so in the next program."""
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)


def _not_started(program: str, error: OSError | ValueError) -> NotStarted:
    found = shutil.which(program)
    missing = isinstance(error, FileNotFoundError | NotADirectoryError)
    if missing and found is None:
        return NotStarted(EXIT_NOT_FOUND, f"{program}: command not found")
    if missing:
        return NotStarted(EXIT_NOT_EXECUTABLE, f"{found}: the interpreter that its first line names is missing")
    why = getattr(error, "strerror", None) or error
    return NotStarted(EXIT_NOT_EXECUTABLE, f"{program}: cannot be executed: {why}")
