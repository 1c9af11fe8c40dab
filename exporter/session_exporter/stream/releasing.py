"""Deleting segments: what of them was sent over this connection, and what the consumers say they have committed."""

from collections.abc import Collection, Iterable
from typing import Final

from session_exporter.config import JournalSettings
from session_exporter.journal import JournalReader
from session_exporter.stream import keys
from session_exporter.stream.retention import Retention, Room, SegmentKey, read_positions
from session_exporter.stream.sending import Parcel
from session_exporter.stream.server import StreamServer

# Of what a journal may take, this part may wait for consumers; the other is for new events.
_KEPT: Final = 2


class Keeper:
    """Keeps segments until they are committed, or there is no room for them.

    Args:
        journal: Locked.
        server: Where consumers publish what they have committed.
        partitions: How many there are.
        limits: Of the journal.
    """

    def __init__(self, journal: JournalReader, server: StreamServer, partitions: int, limits: JournalSettings) -> None:
        self._journal = journal
        self._server = server
        self._partitions = partitions
        self._room = Room(limits.worker_limit_bytes // _KEPT, limits.directory_limit_bytes // _KEPT)
        self._retention = Retention()

    def committed_of(self, key: SegmentKey) -> dict[int, int]:
        """As of `Retention`."""
        return self._retention.committed_of(key)

    def start_over(self) -> None:
        """Nothing that was sent before is relied on; raises as `StreamServer.speaking`."""
        self._retention = Retention()
        writers = {segment.key[0] for segment in self._journal.retained()}
        self._ask(dict.fromkeys((*range(self._partitions), keys.SHARED), writers))

    def look(self, *, everything: bool) -> None:
        """Ask what of that which was sent has been committed since.

        Args:
            everything: Also of segments that are still written to, and stay anyway.

        Raises:
            StreamUnavailable: Redis does not answer.
            StreamRefused: It does not let us ask.
        """
        kept = {each.key for each in self._journal.retained() if each.is_over or everything}
        self._ask(self._retention.uncovered(kept))

    def _ask(self, writers: dict[int, set[str]]) -> None:
        with self._server.speaking() as client:
            self._retention.note_committed(read_positions(client, writers, self._partitions))

    def note_sent(self, parcels: Iterable[Parcel]) -> None:
        """Redis has acknowledged these."""
        for parcel in parcels:
            self._retention.note_sent(parcel.stream, (parcel.writer.id, parcel.segment), parcel.ends[-1])

    def release(self, held: Collection[SegmentKey]) -> int:
        """Delete what is committed, and as much of the rest as takes too much room.

        Args:
            held: Segments of which something that was read has not been sent.

        Returns:
            How many segments were deleted before they were committed.
        """
        covered = {each.key for each in self._journal.retained() if self._retention.is_covered(each.key)}
        self._delete(covered.difference(held))
        retained = self._journal.retained()
        unsent = [each._replace(is_over=False) if each.key in held else each for each in retained]
        early = self._delete(self._retention.excess(unsent, self._room))
        self._retention.forget_others({each.key for each in self._journal.retained()})
        return early

    def _delete(self, segments: Collection[SegmentKey]) -> int:
        if not segments:
            return 0
        positions = self._journal.positions()
        return len(self._journal.release({key: positions[key] for key in segments}))

    def uncommitted_bytes(self) -> int:
        """The size of the segments of which something was sent, and not committed yet."""
        kept = [each for each in self._journal.retained() if not self._retention.is_covered(each.key)]
        return sum(each.size_bytes for each in kept)
