"""How far the events have been read that the state knows: in segments of a journal, or in streams of many journals."""

import sqlite3
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from session_exporter.stream.positions import Place, Position, StreamPositions

# By writer and segment: the offset behind what was read.
JournalPositions: TypeAlias = Mapping[tuple[str, int], int]


class Positions(NamedTuple):
    """What a commit stores of how far events were read.

    Attributes:
        journal: Of all segments that still exist.
        streams: What has changed of the streams since the last commit.
    """

    journal: JournalPositions = MappingProxyType({})
    streams: StreamPositions = StreamPositions()


def store(connection: sqlite3.Connection, positions: Positions) -> None:
    """Store how far was read."""
    connection.execute("DELETE FROM positions")
    segments = ((writer, segment, offset) for (writer, segment), offset in positions.journal.items())
    connection.executemany("INSERT INTO positions VALUES (?, ?, ?)", segments)
    connection.executemany(
        "DELETE FROM stream_positions WHERE stream = ? AND writer = ?", sorted(positions.streams.forgotten)
    )
    moved = ((*place, *position) for place, position in sorted(positions.streams.moved.items()))
    connection.executemany("INSERT OR REPLACE INTO stream_positions VALUES (?, ?, ?, ?, ?, ?, ?)", moved)


def read_journal(connection: sqlite3.Connection) -> dict[tuple[str, int], int]:
    """How far each segment had been read."""
    rows = connection.execute("SELECT writer, segment, offset FROM positions")
    return {(writer, segment): offset for writer, segment, offset in rows}


def read_streams(connection: sqlite3.Connection) -> dict[Place, Position]:
    """How far each writer had been read in each stream."""
    rows = connection.execute("SELECT stream, writer, segment, offset, run, sent, seen_us FROM stream_positions")
    return {(stream, writer): Position(*position) for stream, writer, *position in rows}
