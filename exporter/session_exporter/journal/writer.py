"""The application's side of the journal: one writer per worker process."""

import mmap
import os
import struct
import time
from array import array
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import Final, TypeAlias
from weakref import WeakSet

import msgspec

from session_exporter.journal.control import ControlBlock, Lost
from session_exporter.journal.files import WriterFiles, new_replica
from session_exporter.journal.forkguard import wiped_on_fork
from session_exporter.journal.frame import (
    COMMITTED_WORD,
    FRAME,
    FRAME_BYTES,
    HEADER_BYTES,
    KIND_INDEX,
    PAYLOAD_BYTES_MAX,
    checksum,
)
from session_exporter.journal.limits import JournalLimits, Refusal

Fields: TypeAlias = tuple[object, ...]

SPILL_MAX: Final = 1024
# How often a writer looks whether its files were deleted under it.
CHECK_EVERY_US: Final = 1_000_000
_CLOSE: Final[Fields] = ()
_SMALL_MAX: Final = 512
# A segment without room, for a writer that has none: whatever is appended takes the slow way.
_NO_SEGMENT: Final = memoryview(array("Q", [1 << 62] * (COMMITTED_WORD + 1)))
_NO_MAP: Final = mmap.mmap(-1, mmap.PAGESIZE)

_encode = msgspec.msgpack.Encoder().encode
# One call writes header and payload; compiled once per size, those of usual events ahead of time.
_packers: Final = [struct.Struct(f"<II{size}s").pack_into for size in range(_SMALL_MAX + 1)]


class JournalWriter:
    """Appends events to this process's own segments; never raises into the application, never loses silently.

    Any thread may call, signal handlers and finalizers included, and so may a forked child: it becomes a writer of its
    own with its first event. Files are made with the first event, or by `open`. Memory is bounded: one segment, the
    control block, and `SPILL_MAX` events that arrived while the same thread was in the middle of an append.

    Args:
        directory: The journal's directory; made when it is missing.
        limits: What bounds it.
        replica: The host or pod name; `$HOSTNAME` or the kernel's by default.
        clock_us: The time in microseconds since the epoch.
    """

    def __init__(
        self,
        directory: Path,
        *,
        limits: JournalLimits | None = None,
        replica: str = "",
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._directory = Path(directory)
        self._limits = limits or JournalLimits()
        self._room = self._limits.segment_bytes
        self._replica = replica or new_replica()
        self._clock_us = clock_us
        self._closed = False
        self._uncounted = 0
        self._block = ControlBlock()
        self._guard, self._wiping = wiped_on_fork()
        self._begin()
        _writers.add(self)

    def _begin(self) -> None:
        """Start with no files, as a new process does."""
        # Reentrant, so that a signal handler or finalizer on the same thread gets in and finds `_busy` set.
        self._lock = RLock()
        self._busy = False
        self._spill: deque[Fields] = deque()
        self._words: memoryview[int] = _NO_SEGMENT
        self._map = _NO_MAP
        self._files: WriterFiles | None = None
        self._refusal = Refusal()
        self._pid = os.getpid()

    @property
    def directory(self) -> Path:
        """Where the files are."""
        return self._directory

    @property
    def writer_id(self) -> str:
        """This writer's identity, `""` while it has no files."""
        return self._files.writer.id if self._files else ""

    def append(self, fields: Fields) -> None:
        """Record one event; whatever goes wrong is counted, by reason and kind.

        Args:
            fields: The kind's number, the event time in microseconds, then the kind's other fields.
        """
        try:
            at_us = fields[1]
            # The guard holds the time of the next look around. The kernel wipes it to 0 in a forked child, however it
            # was forked, so that this one comparison is the check of the process id as well.
            if at_us >= self._guard[0]:  # type: ignore[operator] # the tracker's fields; else a TypeError, counted
                self._look_around()
            payload = _encode(fields)
        except Exception:  # noqa: BLE001 - hooks never raise into the application; it is counted
            self._count_lost("encoding", fields)
            return
        lock = self._lock
        try:
            # Inside of `try`, because an exception from a signal handler can come right behind this call; `with` would
            # do the same at twice the cost.
            lock.acquire()
            if self._busy:
                self._set_aside(fields)
                return
            try:
                self._busy = True
                words = self._words
                start = words[COMMITTED_WORD]
                size = len(payload)
                end = start + FRAME_BYTES + size
                if end <= self._room and size <= _SMALL_MAX:
                    _packers[size](self._map, start, size, checksum(payload), payload)
                    words[COMMITTED_WORD] = end
                else:
                    self._write(fields, payload)
            finally:
                self._busy = False
                if self._spill:
                    self._drain()
        except Exception:  # noqa: BLE001 - hooks never raise into the application; it is counted
            self._count_lost("unavailable", fields)
        finally:
            try:  # noqa: SIM105 - suppress() costs more than the lock
                lock.release()
            except RuntimeError:
                pass  # The exception came while it still waited for another thread.

    def open(self) -> None:
        """Make this worker visible before its first event; without effect when it is, or when it cannot be."""
        with self._lock:
            if not self._busy and not self._closed:
                try:
                    self._busy = True
                    self._open_files(self._clock_us())
                finally:
                    self._busy = False
                    if self._spill:
                        self._drain()

    def close(self) -> None:
        """Give everything back; events appended later count as lost, `unavailable`. Idempotent.

        When it is called by a signal handler in the middle of an append of the same thread, that append closes.
        """
        if os.getpid() != self._pid:
            self._leave_parent()
        with self._lock:
            if self._busy:
                self._spill.append(_CLOSE)
                return
            self._closed = True
            self._leave_files(cut=True)

    def register_hook(self, name: str, active: bool) -> bool:  # noqa: FBT001 - the state of a hook, as it reports it
        """Report that a hook is installed, or no longer; False when the table of hooks is full."""
        with self._lock:
            return self._block.set_hook(name, active=active)

    def count_hook_error(self, name: str) -> None:
        """Count one error of a hook."""
        with self._lock:
            self._block.count_hook_error(name)

    def set_gauge(self, name: str, value: int) -> None:
        """Show a gauge of this process, one of `GAUGES`."""
        with self._lock:
            self._block.set_gauge(name, value)

    def add_count(self, name: str, amount: int) -> None:
        """Add to a count of this process, one of `COUNTS`."""
        with self._lock:
            self._block.add_count(name, amount)

    def pool_waited(self, duration_us: int) -> None:
        """Count how long a connection was waited for, microseconds."""
        with self._lock:
            self._block.add_pool_wait(duration_us)

    def lost(self) -> Lost:
        """Events this process lost, by (reason, kind); those not yet in a control block included."""
        with self._lock:
            self._count_uncounted()
            return self._block.lost()

    def _set_aside(self, fields: Fields) -> None:
        if len(self._spill) < SPILL_MAX:
            self._spill.append(fields)
        else:
            self._count_lost("spill_overflow", fields)

    def _drain(self) -> None:
        """Write what was set aside. Lock held, not busy; an append that interrupts this writes by itself."""
        while self._spill:
            try:
                self._busy = True
                if self._spill:
                    self._write_aside(self._spill.popleft())
            finally:
                self._busy = False

    def _write_aside(self, fields: Fields) -> None:
        if fields is _CLOSE:
            self._closed = True
            self._leave_files(cut=True)
            return
        reason = "encoding"
        try:
            payload = _encode(fields)
            reason = "unavailable"
            self._write(fields, payload)
        except Exception:  # noqa: BLE001 - hooks never raise into the application; it is counted
            self._count_lost(reason, fields)

    def _write(self, fields: Fields, payload: bytes) -> None:
        """The slow way: large payloads, rotation, and everything that may go wrong. Lock held, busy."""
        size = len(payload)
        if size > min(PAYLOAD_BYTES_MAX, self._room - HEADER_BYTES - FRAME_BYTES):
            self._count_lost("too_large", fields)
            return
        if self._words[COMMITTED_WORD] + FRAME_BYTES + size > self._room:
            refusal = self._rotate(self._clock_us())
            if refusal:
                self._count_lost(refusal, fields)
                return
        start = self._words[COMMITTED_WORD]
        FRAME.pack_into(self._map, start, size, checksum(payload))
        self._map[start + FRAME_BYTES : start + FRAME_BYTES + size] = payload
        self._words[COMMITTED_WORD] = start + FRAME_BYTES + size

    def _rotate(self, now_us: int) -> str:
        """Go on in a new segment; the reason when that is not possible."""
        if self._closed:
            return "unavailable"
        self._count_uncounted()
        if not self._refusal.is_over(now_us):
            return self._refusal.reason
        if self._files and not self._files.are_linked():
            self._leave_files()
        self._words = _NO_SEGMENT
        if self._open_files(now_us) and self._files:
            self._refusal.note(self._files.rotate(self._limits, now_us), now_us)
        if not self._refusal.reason and self._files and self._files.segment:
            self._map = self._files.segment.map
            self._words = self._files.segment.words
        return self._refusal.reason

    def _open_files(self, now_us: int) -> bool:
        if self._files is None:
            files = WriterFiles(self._directory, self._replica, now_us)
            self._refusal.note(files.open(self._block), now_us)
            if not self._refusal.reason:
                # From here on counts go to the file; what was counted before is added, so that none falls between.
                self._files, waiting, self._block = files, self._block, files.block
                self._block.add_counts_of(waiting)
        return self._files is not None

    def _look_around(self) -> None:
        """Once in a while: am I a forked child, and are my files still there?"""
        if os.getpid() != self._pid:
            self._leave_parent()
        with self._lock:
            if self._busy:
                return
            try:
                self._busy = True
                self._count_uncounted()
                if self._wiping:
                    self._guard[0] = self._clock_us() + CHECK_EVERY_US
                if self._files and not self._files.are_linked():
                    self._leave_files()
            finally:
                self._busy = False
                if self._spill:
                    self._drain()

    def _leave_files(self, *, cut: bool = False) -> None:
        """Go on without files; counts are kept in memory, from zero, since the sidecar has had those of the file."""
        files, self._files = self._files, None
        self._words, self._map = _NO_SEGMENT, _NO_MAP
        block = ControlBlock()
        block.declare_hooks_of(self._block)
        self._block = block
        if files:
            files.close(cut=cut)

    def _leave_parent(self) -> None:
        """In a forked child: the files and the lock are the parent's, and so is what it has counted."""
        files = self._files
        block = ControlBlock()
        block.declare_hooks_of(self._block)
        self._block = block
        self._begin()
        if files:
            files.close()

    def _count_lost(self, reason: str, fields: Fields) -> None:
        try:
            self._block.count_lost(reason, KIND_INDEX.get(fields[0], 0))
        except Exception:  # noqa: BLE001 - at the recursion limit, or no fields at all: counted without a kind, later
            self._uncounted += 1

    def _count_uncounted(self) -> None:
        while self._uncounted:
            self._uncounted -= 1
            self._block.count_lost("encoding", 0)


_writers: "WeakSet[JournalWriter]" = WeakSet()


def _after_fork_in_child() -> None:
    for writer in tuple(_writers):
        writer._leave_parent()  # noqa: SLF001 - the module's own class


os.register_at_fork(after_in_child=_after_fork_in_child)
