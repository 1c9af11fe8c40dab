"""The reader's view of one segment file."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Final, TypeAlias

from session_exporter.journal.decoding import damaged_bytes
from session_exporter.journal.frame import (
    COMMITTED_OFFSET,
    FRAME_BYTES,
    HEADER_BYTES,
    PAYLOAD_BYTES_MAX,
    BadHeader,
    parse_header,
    segment_name,
)
from session_exporter.journal.trusted import Unreadable, open_trusted

Key: TypeAlias = tuple[str, int]

# What fits every integer column that may have to keep it.
_OFFSET_MAX: Final = 1 << 62


class Segment:
    """One segment file and how far it has been read.

    Args:
        path: The file, named as its writer named it.
        owners: The users whose files are believed.

    Attributes:
        writer: Who writes it.
        seq: Its number.
        created_at_us: When it was made; the writer's clock.
        size_bytes: The file's size when it was found.
        committed: What the file says is committed, when it was last asked; an offset.
        position: Everything before it has been read; an offset.
        final: Whether `committed` cannot grow any more.

    Raises:
        Unreadable: It is no segment, or says that it is another one.
        OSError: It is gone, or cannot be opened now.
    """

    __slots__ = (
        "_end",
        "_fd",
        "_owners",
        "committed",
        "created_at_us",
        "final",
        "path",
        "position",
        "seq",
        "size_bytes",
        "writer",
    )

    def __init__(self, path: Path, owners: Collection[int]) -> None:
        self.path = path
        self._owners = owners
        self._fd, self.size_bytes = open_trusted(path, owners)
        try:
            header = parse_header(os.pread(self._fd, HEADER_BYTES, 0))
        except BadHeader as error:
            raise Unreadable(f"{path}: {error}") from error
        finally:
            self.close()
        if path.name != segment_name(header.writer.id, header.seq):
            raise Unreadable(f"{path}: says it is {segment_name(header.writer.id, header.seq)}")
        self.writer = header.writer
        self.seq = header.seq
        self.created_at_us = header.created_at_us
        self.committed = self.position = HEADER_BYTES
        self.final = False
        # Where the file was found to end before its committed length did.
        self._end = _OFFSET_MAX

    @property
    def key(self) -> Key:
        """Writer and number: the name under which its position is kept."""
        return self.writer.id, self.seq

    @property
    def unread_bytes(self) -> int:
        """Committed, but not read yet."""
        return max(0, self.committed - self.position)

    def look(self) -> None:
        """Ask the file what is committed now.

        Raises:
            OSError: It is gone, or cannot be asked now.
        """
        raw = self._pread(8, COMMITTED_OFFSET)
        # Never back, and never beyond what can be an offset: the bytes may be anything.
        self.committed = max(self.committed, min(int.from_bytes(raw, "little"), self._end))

    def chunk(self, max_bytes: int) -> bytes:
        """The next committed bytes, at most `max_bytes`; fewer when the file ends before it should.

        Raises:
            OSError: It is gone, or cannot be read now.
        """
        try:
            return self._pread(min(max_bytes, self.unread_bytes), self.position)
        finally:
            if self.final:
                self.close()

    def skip(self, chunk: bytes) -> None:
        """Step over what `chunk`, the next bytes, starts with: a damaged frame, or all that is left."""
        damaged = damaged_bytes(chunk)
        if damaged < len(chunk):
            self.position += damaged
        elif len(chunk) < min(self.unread_bytes, FRAME_BYTES + PAYLOAD_BYTES_MAX):
            # The file was cut: there will never be more.
            self.committed = self.position = self._end = self.position + len(chunk)
        else:
            self.position = self.committed

    def _pread(self, size_bytes: int, offset: int) -> bytes:
        if self._fd < 0:
            try:
                self._fd, _ = open_trusted(self.path, self._owners)
            except Unreadable as error:
                raise FileNotFoundError(str(error)) from error
        return os.pread(self._fd, size_bytes, offset)

    def close(self) -> None:
        """Close the descriptor; it is opened again when needed."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
