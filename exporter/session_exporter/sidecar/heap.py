"""How the process uses memory, where Python leaves that to the C library."""

import contextlib
import ctypes
from typing import Final

# mallopt's M_MMAP_THRESHOLD, from glibc's malloc.h.
_MMAP_THRESHOLD: Final = -3
_THRESHOLD_BYTES: Final = 1 << 20


def give_back_large_blocks() -> None:
    """Have large blocks given back to the system when they are freed.

    glibc raises its threshold when a large block is freed, and keeps later ones of up to 32 MiB for itself: with a
    million sessions, whose tables and batches come and go, that held 70 MiB. A fixed threshold keeps none. Elsewhere
    than on glibc this has no effect.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _THRESHOLD_BYTES)
