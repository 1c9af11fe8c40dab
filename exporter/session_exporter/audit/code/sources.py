"""The source files below a path, and how much of them is read."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

EXCLUDED: Final = (
    ".git",
    ".venv",
    "venv",
    "node_modules",
    "build",
    "dist",
    "__pycache__",
    ".tox",
    ".nox",
    ".mypy_cache",
)
MAX_FILE_BYTES: Final = 2_000_000
MAX_FILES: Final = 200_000
MAX_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """How much is read at most: bytes of a file, files, and seconds for all of them."""

    file_bytes: int = MAX_FILE_BYTES
    files: int = MAX_FILES
    seconds: float = MAX_S


@dataclass(slots=True)
class SourceTree:
    """Finds source files, and remembers why it stopped.

    Attributes:
        excluded: Globs; a folder or file whose name, or whose path below what is read, matches one is left out.
        stopped: Which limit ended it; nothing when all was read.
        skipped: The files that were not read, each with the reason.
    """

    limits: SourceLimits = field(default_factory=SourceLimits)
    excluded: Sequence[str] = EXCLUDED
    stopped: str = ""
    files: int = 0
    skipped: dict[str, str] = field(default_factory=dict)

    def read(self, paths: Sequence[Path]) -> Iterator[tuple[Path, str, bytes]]:
        """Read the files below paths, each once: its path, its path from where its package is imported, its bytes.

        Symbolic links to folders are not followed, and nothing but regular files is opened.
        """
        deadline_s = time.monotonic() + self.limits.seconds
        seen: set[tuple[int, int]] = set()
        for root in paths:
            package = _package_of(root)
            for path in self._below(root):
                if self._is_over(deadline_s):
                    return
                source = self._bytes_of(path, seen)
                if source is not None:
                    self.files += 1
                    yield path, f"{package}{_inside(path, root)}", source

    def _is_over(self, deadline_s: float) -> bool:
        if self.files >= self.limits.files:
            self.stopped = f"after {self.limits.files} files"
        elif time.monotonic() > deadline_s:
            self.stopped = f"after {self.limits.seconds:g} s"
        return bool(self.stopped)

    def _bytes_of(self, path: Path, seen: set[tuple[int, int]]) -> bytes | None:
        try:
            stat = path.stat()
            if (stat.st_dev, stat.st_ino) in seen or not path.is_file():
                return None
            seen.add((stat.st_dev, stat.st_ino))
            if stat.st_size > self.limits.file_bytes:
                self.skipped[str(path)] = f"larger than {self.limits.file_bytes} bytes"
                return None
            with path.open("rb") as file:
                return file.read(self.limits.file_bytes)
        except OSError as error:
            self.skipped[str(path)] = error.strerror or type(error).__name__
            return None

    def _below(self, root: Path) -> Iterator[Path]:
        if not root.is_dir():
            yield root
            return
        for folder, folders, names in os.walk(root, onerror=self._unreadable):
            here = Path(folder)
            folders[:] = sorted(name for name in folders if not self._is_excluded(here / name, root))
            for name in sorted(names):
                if name.endswith(".py") and not self._is_excluded(here / name, root):
                    yield here / name

    def _unreadable(self, error: OSError) -> None:
        self.skipped[str(error.filename)] = error.strerror or type(error).__name__

    def _is_excluded(self, path: Path, root: Path) -> bool:
        inside = _inside(path, root)
        return any(fnmatchcase(path.name, glob) or fnmatchcase(inside, glob) for glob in self.excluded)


def _inside(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path != root else path.name


def _package_of(root: Path) -> str:
    """The packages that a folder is in, itself among them: `app/db/` for a folder `db` in a package `app`."""
    folder = root.resolve() if root.is_dir() else root.resolve().parent
    names = []
    while (folder / "__init__.py").exists() and folder.name:
        names.append(f"{folder.name}/")
        folder = folder.parent
    return "".join(reversed(names))
