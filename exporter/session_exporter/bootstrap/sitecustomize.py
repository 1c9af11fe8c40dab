# ruff: noqa: INP001 - a directory on PYTHONPATH, not a package
"""Runs at the start of every Python program under `session-exporter run`: the hooks first, then the program's own.

Interpreters that know nothing of this package, or are too old for it, read this as well: plain syntax, and nothing but
the standard library until there is something to do.
"""

import os
import sys


def _install_hooks() -> None:
    disabled = os.environ.get("SESSION_EXPORTER_DISABLED", "").lower() in {"1", "true", "yes", "on"}
    if disabled or not os.environ.get("SESSION_EXPORTER_CONFIG_FILE"):
        return
    try:
        from session_exporter.hooks import autoload  # noqa: PLC0415 - it may not be there

        autoload.load()
    except Exception as error:  # noqa: BLE001 - said, and the program runs as it would without us
        problem = f"{type(error).__name__}: {error}"
        sys.stderr.write(f"session-exporter: {sys.executable} runs without hooks: {problem}\n")


def _leave_path() -> None:
    """Make `sys.path` what it would be without us."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib takes milliseconds
    sys.path[:] = [entry for entry in sys.path if entry != here]


_install_hooks()
_leave_path()
# Python has asked for a `sitecustomize`: the one that it would have found without us takes our place. When there is
# none, or when it fails, Python is told by the same exception as ever.
sys.modules.pop(__name__, None)
__import__("sitecustomize")
