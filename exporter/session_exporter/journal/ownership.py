"""Who owns a directory: one process, kept by a lock that the kernel gives back when it ends."""

import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from session_exporter.errors import JournalUnavailable, SessionExporterError, StateLocked

LOCK_NAME: Final = ".reader.lock"
_DESCRIPTION_BYTES_MAX: Final = 512


class Ownership:
    """The exclusive right to one directory: to read, and delete from, a journal, or to keep a state.

    Args:
        directory: Made, for its owner only, when it is missing.
        lock_name: The file in it that is locked, and says by whom.
        unavailable: What is raised when it cannot be made or written.
    """

    def __init__(
        self,
        directory: Path,
        lock_name: str = LOCK_NAME,
        unavailable: type[SessionExporterError] = JournalUnavailable,
    ) -> None:
        self._directory = directory
        self._lock_name = lock_name
        self._unavailable = unavailable
        self._fd = -1

    @property
    def held(self) -> bool:
        """Whether this process has it."""
        return self._fd >= 0

    def take(self) -> None:
        """Become the owner; without effect when this object already is.

        Raises:
            StateLocked: Another process is; the message names it.
            JournalUnavailable: The directory cannot be made, or not written.
        """
        if self.held:
            return
        path = self._directory / self._lock_name
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unavailable(f"{path}: {error.strerror}; expected a directory that can be written") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(fd, _DESCRIPTION_BYTES_MAX, 0).decode("utf-8", "replace").strip()
            os.close(fd)
            raise StateLocked(f"{self._directory}: in use by {owner or 'another process'}") from error
        self._describe(fd)
        self._fd = fd

    def keep(self) -> None:
        """Take it again when the directory was deleted and made anew; otherwise without effect.

        Raises:
            StateLocked: Another process was faster.
            JournalUnavailable: The directory cannot be made, or not written.
        """
        if self.held and os.fstat(self._fd).st_nlink == 0:
            self.give_up()
            self.take()

    def give_up(self) -> None:
        """Let another process have it. Idempotent."""
        if self.held:
            fd, self._fd = self._fd, -1
            os.close(fd)

    @staticmethod
    def _describe(fd: int) -> None:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        text = f"process {os.getpid()} on {os.uname().nodename} since {since}\n".encode()
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, text, 0)
        except OSError:
            # A full disk: the lock holds all the same, only nameless.
            os.ftruncate(fd, 0)
