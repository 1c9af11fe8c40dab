"""Where measurements put their files, and how they start other interpreters."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

SHARED_MEMORY: Final = Path("/dev/shm")
SOURCES: Final = Path(__file__).resolve().parents[2] / "exporter"


@contextmanager
def journal_place() -> Iterator[Path]:
    """A directory on tmpfs where there is one: the place recommended for a journal."""
    where = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    with _directory(where) as path:
        yield path


@contextmanager
def disk_place() -> Iterator[Path]:
    """A directory where the system keeps temporary files: the state's place, usually a disk."""
    with _directory(None) as path:
        yield path


@contextmanager
def _directory(where: Path | None) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="session-exporter-bench-", dir=where))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def environment(**more: str) -> dict[str, str]:
    """The environment of children: the package's sources in front, bytecode caches allowed."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    paths = [str(SOURCES), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), **more}


def in_child(script: Path, *arguments: str, **more: str) -> Any:
    """What a script, run by an interpreter of its own, writes to its standard output as JSON."""
    command = [sys.executable, str(script), *arguments]
    done = subprocess.run(command, env=environment(**more), stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)
