"""Where the journal is, when nobody says: the same answer on both sides."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from session_exporter.errors import JournalUnavailable

ENVIRONMENT_KEY: Final = "SESSION_EXPORTER_DIR"
SHARED_DIRECTORY: Final = Path("/run/session-exporter")
_NAME: Final = "session-exporter"

_log = logging.getLogger("session_exporter.journal")
_logged: set[Path] = set()


def find_directory(
    argument: str | Path | None = None,
    *,
    configured: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    shared: Path = SHARED_DIRECTORY,
) -> Path:
    """The journal's directory: the argument, `$SESSION_EXPORTER_DIR`, the configuration, else a usual place.

    The usual places are `/run/session-exporter` when it can be written or made, else `$XDG_RUNTIME_DIR`, else the
    directory for temporary files, with the user's id in its name. Nothing is created. The answer is logged once.

    Args:
        argument: What the command line or the constructor said.
        configured: What the configuration file said.
        environ: The environment; the process's own by default.
        shared: The first of the usual places.

    Raises:
        JournalUnavailable: The last resort exists, but belongs to somebody else.
    """
    variables = os.environ if environ is None else environ
    chosen = argument or variables.get(ENVIRONMENT_KEY) or configured
    directory = Path(chosen).absolute() if chosen else _usual_directory(variables, shared)
    if directory not in _logged:
        _logged.add(directory)
        _log.info("journal directory: %s", directory)
    return directory


def _usual_directory(variables: Mapping[str, str], shared: Path) -> Path:
    if _usable(shared):
        return shared
    runtime = variables.get("XDG_RUNTIME_DIR")
    if runtime and _usable(Path(runtime) / _NAME):
        return Path(runtime) / _NAME
    return _own_temporary_directory()


def _usable(directory: Path) -> bool:
    place = directory if directory.exists() else directory.parent
    return place.is_dir() and os.access(place, os.W_OK | os.X_OK)


def _own_temporary_directory() -> Path:
    import tempfile  # noqa: PLC0415 - it imports random and shutil, which few applications pay for otherwise

    directory = Path(tempfile.gettempdir()).absolute() / f"{_NAME}-{os.geteuid()}"
    if directory.is_symlink() or (directory.exists() and directory.stat().st_uid != os.geteuid()):
        raise JournalUnavailable(
            f"{directory}: belongs to another user; set ${ENVIRONMENT_KEY} to a directory of yours"
        )
    return directory
