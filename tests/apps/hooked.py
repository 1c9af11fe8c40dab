"""Programs under `session-exporter run`, and the same ones without it."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

Done: TypeAlias = "subprocess.CompletedProcess[str]"

PROJECT = Path(__file__).resolve().parents[2]
APPS = Path(__file__).resolve().parent
SOURCES = PROJECT / "exporter"
RUN = [sys.executable, "-m", "session_exporter", "run"]
GENEROUS_S = 60.0


def environment(**more: str) -> dict[str, str]:
    """One in which the package is found from everywhere, and no directory of this machine is."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("SESSION_EXPORTER_D")}
    return {**own, "PYTHONPATH": str(SOURCES), **more}


def finished(command: Sequence[str | Path], *, cwd: Path | None = None, **more: str) -> Done:
    """Run a program to its end."""
    return subprocess.run(
        [str(word) for word in command],
        env=environment(**more),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=GENEROUS_S,
        check=False,
    )


def hooked(config: Path, *command: str | Path, cwd: Path | None = None, **more: str) -> Done:
    """Run a program to its end, with hooks."""
    return finished([*RUN, "--config.file", config, "--", *command], cwd=cwd, **more)


def python(text: str) -> list[str]:
    return [sys.executable, "-c", text]
