"""What one writer has on disk: its identity, its control block and the segment it appends to."""

import os
from pathlib import Path
from typing import Final

from session_exporter.core.events import Writer
from session_exporter.journal.control import CONTROL_BYTES, ControlBlock, pack_control
from session_exporter.journal.frame import COMMITTED_WORD, Header, pack_header, segment_name
from session_exporter.journal.limits import JournalLimits, limit_reached
from session_exporter.journal.mapped import FULL, MappedFile

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class WriterFiles:
    """The files of one identity, which is new for every instance and never used again.

    Args:
        directory: The journal's directory; made, for its owner only, when it is missing.
        replica: The host or pod name.
        started_at_us: Microseconds since the epoch.
    """

    def __init__(self, directory: Path, replica: str, started_at_us: int) -> None:
        self.writer = Writer(new_writer_id(started_at_us), replica, os.getpid())
        self.block = ControlBlock()
        self.segment: MappedFile | None = None
        self._directory = directory
        self._started_at_us = started_at_us
        self._control: MappedFile | None = None
        self._seq = 0

    def open(self, previous: ControlBlock) -> str:
        """Make the control block, with the hooks of the previous one; the reason when that is not possible."""
        path = self._directory / f"{self.writer.id}.ctl"
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            start = pack_control(self.writer, self._started_at_us)
            self._control = MappedFile.create(path, start, CONTROL_BYTES)
        except OSError as error:
            return _reason(error)
        self.block = ControlBlock(self._control.words)
        self.block.declare_hooks_of(previous)
        return ""

    def rotate(self, limits: JournalLimits, now_us: int) -> str:
        """Replace the segment by a new one; the reason when that is not possible, and the old one stays."""
        try:
            refusal = limit_reached(self._directory, self.writer.id, limits)
            if not refusal:
                self._replace_segment(limits.segment_bytes, now_us)
        except OSError as error:
            return _reason(error)
        return refusal

    def _replace_segment(self, size_bytes: int, now_us: int) -> None:
        # A number that was tried is never used again.
        self._seq += 1
        path = self._directory / segment_name(self.writer.id, self._seq)
        header = pack_header(Header(self.writer, self._seq, now_us))
        old, self.segment = self.segment, MappedFile.create(path, header, size_bytes)
        if old:
            old.close()

    def are_linked(self) -> bool:
        """Whether the files still have their names; False once somebody has deleted one of them."""
        files = (self._control, self.segment)
        return all(file.is_linked() for file in files if file)

    def close(self, *, cut: bool = False) -> None:
        """Close everything, `cut` giving back the space that the segment did not need."""
        segment, self.segment = self.segment, None
        if segment and cut:
            segment.cut(segment.words[COMMITTED_WORD])
        elif segment:
            segment.close()
        if self._control:
            self._control.close()


def new_writer_id(started_at_us: int) -> str:
    """An identity that is unique over hosts, restarts and processes, in characters that every file system takes."""
    try:
        # Bytes, because looking up a text file's codec imports it: on the application's path, nothing is imported.
        boot = _BOOT_ID.read_bytes()[:8].decode()
    except OSError:
        boot = "noboot"
    return f"{boot}-{started_at_us:x}-{os.urandom(8).hex()}".lower()


def new_replica() -> str:
    """The host or pod name: `$HOSTNAME`, else the kernel's."""
    return os.environ.get("HOSTNAME") or os.uname().nodename


def _reason(error: OSError) -> str:
    return "disk_full" if error.errno in FULL else "unavailable"
