"""Noticing a fork without asking the kernel for the process id each time."""

import mmap
from typing import Final

# Since Linux 4.14; the mmap module has no name for it.
_MADV_WIPEONFORK: Final = 18


def wiped_on_fork() -> tuple["memoryview[int]", bool]:
    """One word that the kernel wipes to 0 in every forked child, and whether this kernel does."""
    page = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        page.madvise(_MADV_WIPEONFORK)
    except (OSError, ValueError):
        # It then has to stay 0, and every append looks at the process id itself.
        return memoryview(page).cast("Q"), False
    return memoryview(page).cast("Q"), True
