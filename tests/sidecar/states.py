"""States for tests to open, fill and spoil."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from session_exporter.core.checkpoint import Changes, Waiting
from session_exporter.core.scopes import Limits
from session_exporter.core.totals import LedgerTotals, ScopeTotals
from session_exporter.sidecar.positions import Positions
from session_exporter.sidecar.records import ExporterState
from session_exporter.sidecar.schema import DATABASE_NAME
from session_exporter.sidecar.state import State
from session_exporter.stream.positions import StreamPositions

POSITIONS = {("writer-1", 1): 100, ("writer-2", 7): 4096}


@contextmanager
def opened(directory: Path, **limits: int) -> Iterator[State]:
    with closing(State(directory, Limits(**limits))) as state:
        yield state


def nothing(**changes: Any) -> Changes:
    empty = Changes(LedgerTotals(), Waiting(), [], [], [], [], [], [], {})
    for name, value in changes.items():
        setattr(empty, name, value)
    return empty


def commit(state: State, changes: Changes, positions: Any = None, streams: Any = None) -> None:
    read = Positions(POSITIONS if positions is None else positions, streams or StreamPositions())
    state.commit(changes, read, ExporterState(), {"chat": 1})


def creates(number: int) -> LedgerTotals:
    return LedgerTotals(scopes={"chat": ScopeTotals(born_us=1, creates=number)})


@contextmanager
def tampered(directory: Path, sql: str) -> Iterator[sqlite3.Connection]:
    """A second connection to the state's database that has done something to it."""
    with closing(sqlite3.connect(directory / DATABASE_NAME, isolation_level=None)) as other:
        other.execute(sql)
        yield other
