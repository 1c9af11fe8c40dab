"""How much a journal may take, and where a writer stops."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from session_exporter.journal.frame import SEGMENT_BYTES

MIB: Final = 1024 * 1024
# A journal must not be what fills the disk of the application beside it: 16 MiB, on small file systems 1 %.
FREE_FLOOR_BYTES: Final = 16 * MIB
FREE_FLOOR_SHARE: Final = 100
# A limit ends when the sidecar has read on, which it does many times a second; what else fails takes somebody's hand.
RETRY_LIMITED_US: Final = 50_000
RETRY_OTHER_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class JournalLimits:
    """What bounds a journal; beyond it events are dropped and counted.

    Attributes:
        worker_limit_bytes: Unread segments of one worker process. A worker may always own one segment.
        directory_limit_bytes: All segments of the directory.
        segment_bytes: The size of one segment; a multiple of 4096.
    """

    worker_limit_bytes: int = 16 * MIB
    directory_limit_bytes: int = 256 * MIB
    segment_bytes: int = SEGMENT_BYTES


class Refusal:
    """Why a writer could not have another segment, and when it may try again.

    Attributes:
        reason: One of `LOST_REASONS`; `""` when nothing was refused.
    """

    __slots__ = ("_until_us", "reason")

    def __init__(self) -> None:
        self.reason = ""
        self._until_us = 0

    def note(self, reason: str, now_us: int) -> None:
        """Remember the outcome of a try; an empty reason is success."""
        self.reason = reason
        self._until_us = now_us + (RETRY_LIMITED_US if reason.endswith("_limit") else RETRY_OTHER_US)

    def is_over(self, now_us: int) -> bool:
        """Whether it is time to try; so it is when the clock was set back."""
        return not self.reason or not 0 < self._until_us - now_us <= RETRY_OTHER_US


def limit_reached(directory: Path, writer_id: str, limits: JournalLimits) -> str:
    """The reason why one more segment would be too many, `""` when it would not.

    Raises:
        OSError: The directory cannot be read.
    """
    listed = os.listdir(directory)  # noqa: PTH208 - names alone, at a tenth of the cost
    names = [name for name in listed if name.endswith(".seg")]
    own = [name for name in names if name.startswith(writer_id)]
    if own and _exceeds(directory, own, limits.segment_bytes, limits.worker_limit_bytes):
        return "worker_limit"
    if _exceeds(directory, names, limits.segment_bytes, limits.directory_limit_bytes):
        return "directory_limit"
    return "disk_full" if _free_bytes_short(directory) else ""


def _exceeds(directory: Path, names: list[str], segment_bytes: int, limit_bytes: int) -> bool:
    # Only near the limit is it worth asking for sizes: a writer that was closed has cut its last segment.
    if (len(names) + 1) * segment_bytes <= limit_bytes:
        return False
    return sum(_size_bytes(directory / name) for name in names) + segment_bytes > limit_bytes


def _size_bytes(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def _free_bytes_short(directory: Path) -> bool:
    disk = os.statvfs(directory)
    floor = min(FREE_FLOOR_BYTES, disk.f_blocks * disk.f_frsize // FREE_FLOOR_SHARE)
    return disk.f_bavail * disk.f_frsize < floor
