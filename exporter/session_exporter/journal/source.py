"""The reader's view of one writer: its segments, its control block, and whether it lives."""

import os
from collections.abc import Collection
from pathlib import Path

import msgspec

from session_exporter.core.events import Event, Writer
from session_exporter.journal.control import CONTROL_BYTES, BadControl, Control, parse_control
from session_exporter.journal.frame import HEADER_BYTES
from session_exporter.journal.segment import Segment
from session_exporter.journal.trusted import Unreadable, is_locked, open_trusted


class Batch(msgspec.Struct, frozen=True):
    """Events of one writer, in the order written.

    Attributes:
        writer: Who wrote them.
        seq: The segment they come from.
        start: Offset of the first byte read, from the start of the segment.
        end: Offset behind the last byte read.
        events: What could be read; may be empty.
        unknown: Frames of kinds this version does not know.
        malformed: Damaged frames, or runs of bytes, that were skipped.
        ends: Of each event, the offset behind its frame; empty unless the reader locates.
    """

    writer: Writer
    seq: int
    start: int
    end: int
    events: list[Event]
    unknown: int = 0
    malformed: int = 0
    ends: list[int] = []


class Source:
    """All segments of one writer that still exist.

    Args:
        writer_id: Its identity.
        directory: Where its files are.
        owners: The users whose files are believed.

    Attributes:
        control: The path of its control block.
        has_control: Whether the control block was there when the directory was last listed.
        last_control: What the control block of a dead writer says; it will not change.
        segments: Ascending by number.
        dead: Whether its process is known to have ended; that is for ever.
        queued: Whether it waits in the reader's queue.
        tries: How often in a row a bad tail was taken for one that is not complete yet.
        read_until_us: The event time it was read up to; None before the first event.
    """

    __slots__ = (
        "_owners",
        "control",
        "dead",
        "has_control",
        "id",
        "last_control",
        "queued",
        "read_until_us",
        "segments",
        "tries",
    )

    def __init__(self, writer_id: str, directory: Path, owners: Collection[int]) -> None:
        self.id = writer_id
        self._owners = owners
        self.control = directory / f"{writer_id}.ctl"
        self.has_control = False
        self.last_control: Control | None = None
        self.segments: list[Segment] = []
        self.dead = False
        self.queued = False
        self.tries = 0
        self.read_until_us: int | None = None

    def add(self, segment: Segment) -> None:
        """Take in a segment that was found."""
        self.segments.append(segment)
        self.segments.sort(key=lambda known: known.seq)

    def start_over(self) -> None:
        """Be as nothing had been read yet."""
        self.queued, self.tries, self.read_until_us = False, 0, None
        for segment in self.segments:
            segment.position = HEADER_BYTES

    def next_unread(self) -> Segment | None:
        """The first segment with unread bytes, None when there is none."""
        return next((segment for segment in self.segments if segment.unread_bytes), None)

    def behind_us(self) -> int | None:
        """The event time this writer has been read up to, None when nothing is unread."""
        segment = self.next_unread()
        if segment is None:
            return None
        return segment.created_at_us if self.read_until_us is None else self.read_until_us

    def growing(self) -> list[Segment]:
        """The segments that may still grow, those that have just been found included."""
        return [segment for segment in self.segments if not segment.final]

    def settle(self, segment: Segment) -> None:
        """Say whether a segment that has just been asked is final."""
        # Who is not the newest that the directory listed will not be written to again; nor will any of a dead writer.
        segment.final = self.dead or segment is not self.segments[-1]
        if segment.final:
            segment.close()

    def is_alive(self) -> bool:
        """Whether the process still runs: it holds the lock of its control block, or of its newest segment."""
        if not self.dead:
            places = [self.control, *(segment.path for segment in self.segments[-1:])]
            self.dead = not any(is_locked(place, self._owners) for place in places)
        return not self.dead

    def read_control(self) -> Control | None:
        """What the writer says about itself, None when its control block is gone.

        Raises:
            Unreadable: It is no control block.
            OSError: It cannot be read now.
        """
        if self.last_control:
            return self.last_control
        # First whether it lives, then the counts: those of a dead writer are complete.
        alive = self.is_alive()
        try:
            fd, _ = open_trusted(self.control, self._owners)
        except FileNotFoundError:
            return None
        try:
            control = parse_control(os.pread(fd, CONTROL_BYTES, 0), alive=alive)
        except BadControl as error:
            raise Unreadable(f"{self.control}: {error}") from error
        finally:
            os.close(fd)
        if control.writer.id != self.id:
            raise Unreadable(f"{self.control}: says it is of {control.writer.id!r}")
        self.last_control = None if alive else control
        return control
