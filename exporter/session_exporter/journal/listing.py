"""Which files there are: writers and segments found by listing the directory."""

import logging
import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

from session_exporter.journal.frame import HEADER_BYTES, segment_name
from session_exporter.journal.segment import Key, Segment
from session_exporter.journal.source import Source
from session_exporter.journal.trusted import Unreadable, is_locked

_NAME: Final = re.compile(r"(?P<writer>[a-z0-9-]{1,94})\.(?:(?P<seq>[0-9]{8,18})\.seg|ctl)")
_NEWBORN: Final = re.compile(r"\.[a-z0-9-]{1,94}\.(?:[0-9]{8,18}\.seg|ctl)\.tmp")
# A file under a temporary name that is not locked, in so many listings, has lost its writer.
_ABANDONED_AFTER: Final = 3

_log = logging.getLogger("session_exporter.journal")


class Listing:
    """The files of a journal directory, as they were when it was last listed.

    Args:
        directory: The journal's directory; may be missing.
        positions: Where to start in segments that were read before.
        owners: Users whose files are believed, beside this process's own, the directory's owner and root.

    Attributes:
        skipped_files: Files that are none of ours, of another version, or of somebody else; each counts once.
    """

    def __init__(self, directory: Path, positions: Mapping[Key, int], owners: Collection[int]) -> None:
        self.skipped_files = 0
        self._directory = directory
        self._unclaimed = dict(positions)
        self._owners = {os.geteuid(), 0, *owners}
        self._names: set[str] = set()
        self._newborns: dict[str, int] = {}
        self._sources: dict[str, Source] = {}
        self._segments: dict[Key, Segment] = {}
        self._growing: dict[str, Source] = {}

    @property
    def growing_count(self) -> int:
        """How many writers may still append, as far as is known."""
        return len(self._growing)

    def refresh(self) -> str:
        """List the directory; why that failed, `""` when it did not. What was known stays when it fails."""
        try:
            # The set is shared with all files: who owns a directory may change when it is made anew.
            self._owners.add(self._directory.stat().st_uid)
            names = set(os.listdir(self._directory))  # noqa: PTH208 - names alone, at a tenth of the cost
        except OSError as error:
            return f"{self._directory}: {error.strerror}"
        problem = ""
        # Positions of files that are gone are of no use: names are never used again.
        self._unclaimed = {key: at for key, at in self._unclaimed.items() if segment_name(*key) in names}
        for name in self._names - names:
            self._forget(name)
        for name in sorted(names - self._names):
            try:
                self._discover(name)
            except FileNotFoundError:
                names.discard(name)
            except OSError as error:
                # Not known now, so that it is looked at again the next time.
                problem = f"{self._directory / name}: {error.strerror}"
                names.discard(name)
            except Unreadable as error:
                self._count_skipped(str(error))
        self._count_newborns(names)
        self._names = names
        return problem

    def _discover(self, name: str) -> None:
        if name.startswith("."):
            return
        found = _NAME.fullmatch(name)
        if found is None:
            raise Unreadable(f"{self._directory}: {name!r} is not a name that the journal uses")
        if found["seq"] is None:
            self._source(found["writer"]).has_control = True
            return
        segment = Segment(self._directory / name, self._owners)
        segment.position = max(HEADER_BYTES, self._unclaimed.pop(segment.key, 0))
        self._segments[segment.key] = segment
        source = self._source(segment.writer.id)
        source.add(segment)
        self._growing[source.id] = source

    def _source(self, writer_id: str) -> Source:
        if writer_id not in self._sources:
            self._sources[writer_id] = Source(writer_id, self._directory, self._owners)
        return self._sources[writer_id]

    def _forget(self, name: str) -> None:
        found = _NAME.fullmatch(name)
        if found is None:
            return
        source = self._sources.get(found["writer"])
        if found["seq"] is None:
            if source:
                source.has_control = False
                self._forget_empty(source)
        elif segment := self._segments.get((found["writer"], int(found["seq"]))):
            self.drop(segment)

    def drop(self, segment: Segment) -> None:
        """Forget a segment that is gone."""
        segment.close()
        self._names.discard(segment.path.name)
        if self._segments.pop(segment.key, None):
            source = self._sources[segment.writer.id]
            source.segments.remove(segment)
            self._forget_empty(source)

    def _forget_empty(self, source: Source) -> None:
        if not source.segments:
            self._growing.pop(source.id, None)
            if not source.has_control:
                self._sources.pop(source.id, None)

    def _count_skipped(self, reason: str) -> None:
        self.skipped_files += 1
        _log.warning("skipped %s", reason)

    def _count_newborns(self, names: set[str]) -> None:
        newborns = (name for name in names if _NEWBORN.fullmatch(name))
        self._newborns = {name: self._newborns.get(name, 0) + 1 for name in newborns}

    def growing(self) -> list[Source]:
        """The writers some of whose segments may still grow, as far as is known."""
        for source in [source for source in self._growing.values() if not source.growing()]:
            del self._growing[source.id]
        return list(self._growing.values())

    def sources(self) -> list[Source]:
        """All writers that have a file."""
        return list(self._sources.values())

    def start_over(self) -> list[Source]:
        """Set all segments back to their beginning; returns all writers that have a file."""
        self._unclaimed.clear()
        for source in self._sources.values():
            source.start_over()
        return self.sources()

    def segments(self) -> Iterable[Segment]:
        """All segments."""
        return tuple(self._segments.values())

    def segment(self, key: Key) -> Segment | None:
        """One segment, None when it is gone."""
        return self._segments.get(key)

    def positions(self) -> dict[Key, int]:
        """How far each segment was read; those that cannot be opened now keep the position they had."""
        here = {key: segment.position for key, segment in self._segments.items()}
        return {**self._unclaimed, **here}

    def retire(self, writer_id: str) -> bool:
        """Delete the control block of a writer that is dead and has no segments left; whether that was done."""
        source = self._sources.get(writer_id)
        if source is None or not source.dead or source.segments:
            return False
        try:
            source.control.unlink(missing_ok=True)
        except OSError:
            return False
        self._forget(source.control.name)
        self._names.discard(source.control.name)
        return True

    def sweep(self) -> None:
        """Delete files that never got their name because their writer was killed before."""
        for name in [name for name, seen in self._newborns.items() if seen >= _ABANDONED_AFTER]:
            path = self._directory / name
            if not is_locked(path, self._owners):
                path.unlink(missing_ok=True)
                del self._newborns[name]

    def skip_control(self, source: Source, reason: str) -> None:
        """Look no further at a control block that is none; its writer is judged by its segments' locks."""
        source.has_control = False
        self._count_skipped(reason)
        self._forget_empty(source)

    def close(self) -> None:
        """Close all files."""
        for segment in self._segments.values():
            segment.close()
