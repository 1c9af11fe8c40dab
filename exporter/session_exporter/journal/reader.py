"""The sidecar's side of the journal: all writers of one directory, merged by event time."""

from collections.abc import Collection, Iterable, Mapping
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from session_exporter.errors import JournalError
from session_exporter.journal.control import Control
from session_exporter.journal.decoding import decode_frames, frame_ends, split_frames
from session_exporter.journal.frame import FRAME_BYTES, PAYLOAD_BYTES_MAX
from session_exporter.journal.listing import Listing
from session_exporter.journal.ownership import Ownership
from session_exporter.journal.segment import Key, Segment
from session_exporter.journal.source import Batch, Source
from session_exporter.journal.trusted import Unreadable

Mark: TypeAlias = Mapping[Key, int]

READ_BYTES: Final = 256 * 1024
# A bad tail of a living writer is looked at in this many scans before it is given up as malformed. On every machine
# the bytes behind a committed length become visible within microseconds of it.
NOT_YET_MAX: Final = 8
# Beyond this many living writers their segments are opened for every look instead of being kept open.
KEPT_OPEN_MAX: Final = 256


class Retained(NamedTuple):
    """A segment that still exists, its size, and whether it has been read to an end that is final."""

    key: Key
    size_bytes: int
    is_over: bool


class JournalReader:
    """Reads what all writers of a directory have committed; one thread at a time.

    `scan` finds out what there is, `read` returns it piece by piece, `positions` says how far that went: whoever keeps
    them together with what was made of the events, and passes them to the next reader, gets every event exactly once.
    Whatever the files hold, neither raises; damage is skipped and counted.

    Args:
        directory: The journal's directory; may be missing.
        positions: What `positions()` of the previous reader returned.
        owners: Users whose files are believed, beside this process's own, the directory's owner and root.
        locating: Whether batches say where each of their events ends.

    Attributes:
        unknown: Frames skipped because their kind is not known to this version.
        malformed: Damaged frames, or runs of bytes, that were skipped.
        skipped_files: Files that are no segments or control blocks of this version, or belong to others.
        problem: Why the directory, or a file in it, could not be read when it was last tried; `""` when all is well.
    """

    def __init__(
        self, directory: Path, positions: Mapping[Key, int], *, owners: Collection[int] = (), locating: bool = False
    ) -> None:
        self.directory = Path(directory)
        self.unknown = 0
        self.malformed = 0
        self.problem = ""
        self._ownership = Ownership(self.directory)
        self._locating = locating
        self._listing = Listing(self.directory, positions, owners)
        self._queue: list[tuple[int, int, Source]] = []
        self._waiting: dict[str, Source] = {}
        self._reported_dead: set[str] = set()
        self._order = count()

    @property
    def skipped_files(self) -> int:
        """Files that are none of ours, or of another version."""
        return self._listing.skipped_files

    def lock(self) -> None:
        """Become the one reader that may release; the directory is made when it is missing.

        Raises:
            StateLocked: Another sidecar is; the message names it.
            JournalUnavailable: The directory cannot be made, or not written.
        """
        self._ownership.take()

    def start_over(self) -> None:
        """Read everything that is still there once more, from the beginning."""
        self._queue.clear()
        self._waiting.clear()
        for source in self._listing.start_over():
            self._enqueue(source)

    def close(self) -> None:
        """Close all files and give the lock back. Idempotent."""
        self._listing.close()
        self._ownership.give_up()

    def scan(self) -> None:
        """Find new and vanished files, and what is committed now in those that may have grown.

        Raises:
            StateLocked: The directory was replaced by a new one, and another sidecar was the first to lock that.
            JournalUnavailable: The directory was deleted and cannot be made again.
        """
        self._ownership.keep()
        self.problem = self._listing.refresh()
        self._waiting.clear()
        self.look()

    def look(self) -> None:
        """See what is committed now in the files that are known, also in those that were deleted since the last scan.

        For a reader without the lock, before each scan: what the sidecar has read and deleted meanwhile is still there.
        """
        for source in self._listing.growing():
            self._look(source)

    def _look(self, source: Source) -> None:
        for segment in source.growing():
            try:
                segment.look()
            except FileNotFoundError:
                self._listing.drop(segment)
                continue
            except OSError as error:
                self.problem = f"{segment.path}: {error.strerror}"
                continue
            source.settle(segment)
            if self._listing.growing_count > KEPT_OPEN_MAX:
                segment.close()
        self._enqueue(source)

    def _enqueue(self, source: Source) -> None:
        behind_us = source.behind_us()
        if behind_us is not None and not source.queued:
            source.queued = True
            heappush(self._queue, (behind_us, next(self._order), source))

    def read(self, max_bytes: int = READ_BYTES) -> Batch | None:
        """The next events of the writer that is furthest behind in event time.

        Args:
            max_bytes: How much to read at once; at least one frame of the largest size is.

        Returns:
            What was read, possibly without any event when all of it was damaged; None when everything that the last
            `scan` saw has been read.
        """
        max_bytes = max(max_bytes, FRAME_BYTES + PAYLOAD_BYTES_MAX)
        while self._queue:
            source = heappop(self._queue)[2]
            source.queued = False
            batch = self._read_from(source, max_bytes)
            if source.id not in self._waiting:
                self._enqueue(source)
            if batch:
                return batch
        return None

    def _read_from(self, source: Source, max_bytes: int) -> Batch | None:
        segment = source.next_unread()
        if segment is None:
            return None
        try:
            chunk = segment.chunk(max_bytes)
        except FileNotFoundError:
            self._listing.drop(segment)
            return None
        except OSError as error:
            self.problem = f"{segment.path}: {error.strerror}"
            self._waiting[source.id] = source
            return None
        payloads, taken = split_frames(chunk)
        return self._take(source, segment, payloads, taken) if taken else self._skip(source, segment, chunk)

    def _take(self, source: Source, segment: Segment, payloads: list[bytes], taken: int) -> Batch:
        start = segment.position
        segment.position += taken
        source.tries = 0
        found = decode_frames(payloads)
        if found.events:
            source.read_until_us = found.events[-1].at_us
        self.unknown += found.unknown
        self.malformed += found.malformed
        ends = frame_ends(payloads, start) if self._locating else []
        if ends and len(found.places) < len(ends):
            ends = [ends[place] for place in found.places]
        events, unknown, malformed = found.events, found.unknown, found.malformed
        return Batch(segment.writer, segment.seq, start, segment.position, events, unknown, malformed, ends)

    def _skip(self, source: Source, segment: Segment, chunk: bytes) -> Batch | None:
        if not segment.final and source.tries < NOT_YET_MAX and source.is_alive():
            source.tries += 1
            self._waiting[source.id] = source
            return None
        start = segment.position
        source.tries = 0
        segment.skip(chunk)
        self.malformed += 1
        return Batch(segment.writer, segment.seq, start, segment.position, [], malformed=1)

    def behind_us(self) -> int | None:
        """The least event time that any writer with unread bytes was read up to; None when nothing is unread.

        Before its first event is read, a writer counts as read up to when its next segment was made.
        """
        while self._queue and self._queue[0][2].next_unread() is None:
            heappop(self._queue)[2].queued = False
        waiting = [behind for source in self._waiting.values() if (behind := source.behind_us()) is not None]
        return min((*waiting, *(self._queue[0][:1] if self._queue else ())), default=None)

    def has_more(self) -> bool:
        """Whether there is more to read than was read."""
        return self.behind_us() is not None

    def mark(self) -> Mark:
        """Scan, and remember what is committed at this moment and still unread."""
        self.scan()
        return {segment.key: segment.committed for segment in self._listing.segments() if segment.unread_bytes}

    def passed(self, mark: Mark) -> bool:
        """Whether everything that was committed at the mark has been read, or is gone."""
        segments = (self._listing.segment(key) for key in mark)
        return all(segment.position >= min(mark[segment.key], segment.committed) for segment in segments if segment)

    def positions(self) -> dict[Key, int]:
        """How far each segment that still exists has been read; an offset per writer and number."""
        return self._listing.positions()

    def retained(self) -> list[Retained]:
        """The segments that still exist, the oldest first."""
        found = sorted(self._listing.segments(), key=lambda segment: (segment.created_at_us, segment.key))
        return [
            Retained(segment.key, segment.size_bytes, segment.final and not segment.unread_bytes) for segment in found
        ]

    def release(self, committed: Mapping[Key, int]) -> list[Key]:
        """Delete the segments that are finished and covered by the positions that were committed.

        Returns:
            The segments that were deleted.

        Raises:
            JournalError: This reader does not hold the lock.
        """
        self._require_lock()
        for source in self._listing.growing():
            # Only an idle writer can have died without having been noticed.
            if source.next_unread() is None and not source.is_alive():
                self._look(source)
        finished = [segment for segment in self._listing.segments() if segment.final and not segment.unread_bytes]
        covered = [segment for segment in finished if committed.get(segment.key, 0) >= segment.committed]
        self._listing.sweep()
        return [segment.key for segment in covered if self._delete(segment)]

    def _delete(self, segment: Segment) -> bool:
        try:
            segment.path.unlink(missing_ok=True)
        except OSError as error:
            self.problem = f"{segment.path}: {error.strerror}"
            return False
        self._listing.drop(segment)
        return True

    def controls(self) -> list[Control]:
        """What every writer says about itself, the dead ones until they are retired."""
        sources = [source for source in self._listing.sources() if source.has_control]
        found = [control for source in sources if (control := self._control_of(source))]
        self._reported_dead = {control.writer.id for control in found if not control.alive}
        return found

    def _control_of(self, source: Source) -> Control | None:
        try:
            return source.read_control()
        except Unreadable as error:
            self._listing.skip_control(source, str(error))
        except OSError as error:
            self.problem = f"{source.control}: {error.strerror}"
        return None

    def gone(self, writer_ids: Iterable[str]) -> list[str]:
        """Those of the writers that have no control block any more; none while the directory cannot be listed."""
        if self.problem:
            return []
        listed = {source.id for source in self._listing.sources() if source.has_control}
        return [writer_id for writer_id in writer_ids if writer_id not in listed]

    def retire(self, writer_ids: Iterable[str]) -> list[str]:
        """Delete the control blocks of dead writers whose counts were committed and whose segments are gone.

        Args:
            writer_ids: Writers whose counts, as `controls` returned them, are committed; any others are ignored, and
                so are those that `controls` has not reported dead.

        Returns:
            The writers whose control block was deleted.

        Raises:
            JournalError: This reader does not hold the lock.
        """
        self._require_lock()
        dead = [writer_id for writer_id in writer_ids if writer_id in self._reported_dead]
        retired = [writer_id for writer_id in dead if self._listing.retire(writer_id)]
        self._reported_dead.difference_update(retired)
        return retired

    def _require_lock(self) -> None:
        if not self._ownership.held:
            raise JournalError(f"{self.directory}: deleting needs the reader's lock; expected lock() before")

    def unread_bytes(self) -> int:
        """Committed, but not read yet, in all segments."""
        return sum(segment.unread_bytes for segment in self._listing.segments())

    def size_bytes(self) -> int:
        """The size of all segments, read or not."""
        return sum(segment.size_bytes for segment in self._listing.segments())

    def workers(self) -> int:
        """The writers whose process runs."""
        return sum(source.is_alive() for source in self._listing.sources())
