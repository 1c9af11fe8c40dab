"""Opening what others have left in a directory: plain files of trusted owners, and nothing else."""

import errno
import fcntl
import os
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Final

_OPEN_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_REFUSED: Final = frozenset({errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENXIO, errno.ENOTDIR, errno.EISDIR})


class Unreadable(Exception):
    """A file is not one of ours; the message says why."""


def open_trusted(path: Path, owners: Collection[int]) -> tuple[int, int]:
    """Open a plain file of a trusted owner for reading.

    Returns:
        Its descriptor and its size in bytes.

    Raises:
        Unreadable: It is a directory, pipe or link, or belongs to somebody else.
        FileNotFoundError: It is gone.
        OSError: It cannot be opened now, for want of descriptors or memory; another time it may.
    """
    try:
        fd = os.open(path, _OPEN_FLAGS)
    except OSError as error:
        if error.errno in _REFUSED:
            raise Unreadable(f"{path}: {error.strerror}") from error
        raise
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) and status.st_uid in owners:
        return fd, status.st_size
    os.close(fd)
    raise Unreadable(f"{path}: expected a plain file that belongs to one of the users {sorted(owners)}")


def is_locked(path: Path, owners: Collection[int]) -> bool:
    """Whether some process holds the file's lock; False when the file is gone, True when nobody can tell.

    A shared lock is enough to ask, so that two readers never see each other.
    """
    try:
        fd, _ = open_trusted(path, owners)
    except FileNotFoundError:
        return False
    except (OSError, Unreadable):
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        # Closing gives the lock back too: nobody else has this descriptor.
        os.close(fd)
    return False
