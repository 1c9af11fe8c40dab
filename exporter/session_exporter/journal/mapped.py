"""Files as a writer makes them: space reserved, locked, and visible only when they are complete."""

import contextlib
import errno
import fcntl
import mmap
import os
from pathlib import Path
from typing import Final

_ATTEMPTS: Final = 2
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class MappedFile:
    """A file of fixed size, mapped shared and locked exclusively until it is closed, or its process has ended.

    The lock is never released by LOCK_UN: the mapping holds a duplicate of the descriptor and a forked child shares
    both, so unlocking in one would unlock all. It goes when the last of them is closed.

    Attributes:
        path: Its name.
        map: Its bytes.
        words: The same as 64-bit words.
    """

    __slots__ = ("_fd", "map", "path", "words")
    # Its own: when the interpreter exits, a finalizer may find the module's globals gone.
    _close_descriptor = staticmethod(os.close)
    map: mmap.mmap

    def __init__(self, path: Path) -> None:
        self.path = path
        # Whoever interrupts what follows, this object owns the descriptor, and nobody closes it twice.
        self._fd = -1
        self.words: memoryview[int] = memoryview(b"")

    @classmethod
    def create(cls, path: Path, start: bytes, size_bytes: int) -> "MappedFile":
        """Make the file `path`, `size_bytes` long, starting with the bytes `start`.

        Raises:
            OSError: It cannot be made; ENOSPC or EDQUOT when there is no room for it.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            file = cls(path)
            try:
                file._make(start, size_bytes)
            except FileNotFoundError:
                # A reader that cleans up may take a temporary file whose writer was held up before it had locked it.
                if attempt == _ATTEMPTS or not path.parent.is_dir():
                    raise
            else:
                return file
        raise FileNotFoundError(path)  # pragma: no cover - the loop has returned or raised

    def _make(self, start: bytes, size_bytes: int) -> None:
        newborn = self.path.with_name(f".{self.path.name}.tmp")
        try:
            self._fd = os.open(newborn, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(self._fd, 0, size_bytes)
            os.pwrite(self._fd, start, 0)
            self.map = mmap.mmap(self._fd, size_bytes, mmap.MAP_SHARED)
            self.words = memoryview(self.map).cast("Q")
            newborn.rename(self.path)
        except BaseException:
            self.close()
            with contextlib.suppress(OSError):
                newborn.unlink()
            raise

    def is_linked(self) -> bool:
        """Whether the file still has a name; False once somebody has deleted it."""
        return os.fstat(self._fd).st_nlink > 0

    def close(self) -> None:
        """Unmap and close; the lock goes with it unless another process holds the descriptor too. Idempotent."""
        # In this order: interrupted by an exception from a signal handler, it can be done again.
        self.words.release()
        if hasattr(self, "map"):
            self.map.close()
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._close_descriptor(fd)

    def __del__(self) -> None:
        # A writer that was dropped, or interrupted while it took this file over, must not seem alive for ever.
        self.close()

    def cut(self, size_bytes: int) -> None:
        """Give back the space behind `size_bytes` and close."""
        if self._fd >= 0:
            # Overflow: somebody has overwritten the committed length.
            with contextlib.suppress(OSError, OverflowError):
                os.ftruncate(self._fd, size_bytes)
            self.close()
