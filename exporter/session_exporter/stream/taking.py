"""From entries to events that are counted: each once, with what is known of those that are missing."""

from collections.abc import Mapping
from typing import Any

import msgspec

from session_exporter.core.events import FleetEvent, Writer
from session_exporter.stream.entries import BadEntry, Entry
from session_exporter.stream.holds import Holds
from session_exporter.stream.merging import Arrived
from session_exporter.stream.positions import FIRST, Place, Progress, StreamId


class StreamBatch(msgspec.Struct, frozen=True):
    """Events of one writer and one stream, in the order written.

    Attributes:
        writer: Who wrote them.
        stream: The partition they came by, or `keys.SHARED`.
        events: None of which was returned before.
        unknown: As of a `journal.Batch`; 0.
        malformed: As of a `journal.Batch`; 0: what is no entry is counted in `StreamReader.skipped`.
        cut: Events of this writer that stood in the stream before these, and were lost before they were read.
    """

    writer: Writer
    stream: int
    events: list[FleetEvent]
    unknown: int = 0
    malformed: int = 0
    cut: int = 0


class Taking:
    """Takes in entries in the order sent.

    Args:
        positions: What was committed: by stream and writer, the `Position` or at least its segment and offset.
        holds: Told what entries say of those who sent them.

    Attributes:
        progress: How far it has come.
        redelivered: Events that arrived again.
        skipped: Entries that are none, by reason.
    """

    def __init__(self, positions: Mapping[Place, tuple[Any, ...]], holds: Holds) -> None:
        self.progress = Progress(positions)
        self._holds = holds
        self.redelivered = 0
        self.skipped = {"malformed": 0, "newer_version": 0}
        self._skipped_until: dict[int, StreamId] = {}

    def take(self, arrived: Arrived, entry: Entry | BadEntry) -> StreamBatch | None:
        """Take in an entry that has events, if it is one; None when nothing in it is new."""
        if isinstance(entry, BadEntry):
            self._skip(arrived, entry.reason)
            return None
        events_us = (entry.events[0].at_us, entry.events[-1].at_us)
        self._holds.hear(entry.forwarder, events_us, entry.sent_us, entry.behind_us)
        known, cut = self.progress.take(arrived.stream, entry, arrived.ms * 1000)
        self.redelivered += known
        if known == len(entry.events):
            return None
        events = entry.events[known:] if known else entry.events
        return StreamBatch(entry.origin.writer(), arrived.stream, events, cut=cut)

    def skip_until(self, applied: Mapping[int, StreamId]) -> None:
        """Note up to where what is no entry was counted before, by stream."""
        for stream, identifier in applied.items():
            self._skipped_until[stream] = max(self._skipped_until.get(stream, FIRST), identifier)

    def _skip(self, arrived: Arrived, reason: str) -> None:
        """Count what is no entry, once, however often it is read."""
        if arrived[:2] > self._skipped_until.get(arrived.stream, FIRST):
            self._skipped_until[arrived.stream] = arrived[:2]
            self.skipped[reason] += 1
