"""What a state refuses: a second owner, and what is not its own."""

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from states import commit, creates, nothing, opened, tampered

from session_exporter.core.scopes import Limits
from session_exporter.core.totals import LedgerTotals
from session_exporter.errors import StateError, StateIncompatible, StateLocked
from session_exporter.sidecar.schema import DATABASE_NAME, VERSION
from session_exporter.sidecar.state import State


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def state(directory: Path) -> Iterator[State]:
    with opened(directory) as state:
        yield state


def rows(directory: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(directory / DATABASE_NAME)) as connection:
        return connection.execute(sql).fetchall()


def test_a_second_owner_is_refused_and_told_the_first(state: State, directory: Path) -> None:
    with pytest.raises(StateLocked, match=rf"{directory}: in use by process {os.getpid()} on \S+ since \d{{4}}-"):
        State(directory, Limits())
    commit(state, nothing(totals=creates(1)))
    assert state.totals() == creates(1)


def test_an_owner_that_was_killed_is_no_owner_any_more(directory: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from session_exporter.core.scopes import Limits
from session_exporter.sidecar.state import State
state = State(Path(sys.argv[1]), Limits())
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code, str(directory)], check=False).returncode == -9
    with opened(directory) as state:
        assert state.totals() == LedgerTotals()


def test_a_state_of_a_newer_version_is_refused_and_not_touched(directory: Path) -> None:
    with opened(directory):
        pass
    with tampered(directory, f"PRAGMA user_version = {VERSION + 1}"):
        pass
    with pytest.raises(StateIncompatible, match=f"{DATABASE_NAME}: state version {VERSION + 1}; expected {VERSION}"):
        State(directory, Limits())
    assert rows(directory, "PRAGMA user_version") == [(VERSION + 1,)]


def test_a_database_of_another_program_is_refused_and_not_touched(directory: Path) -> None:
    directory.mkdir()
    with closing(sqlite3.connect(directory / DATABASE_NAME)) as other:
        other.execute("CREATE TABLE songs (title TEXT)")
    before = (directory / DATABASE_NAME).read_bytes()
    with pytest.raises(StateIncompatible, match="expected a state of session-exporter"):
        State(directory, Limits())
    assert (directory / DATABASE_NAME).read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_not_touched(directory: Path) -> None:
    directory.mkdir()
    garbage = bytes(range(256)) * 40
    (directory / DATABASE_NAME).write_bytes(garbage)
    with pytest.raises(StateIncompatible, match=f"{DATABASE_NAME}: not a database"):
        State(directory, Limits())
    assert (directory / DATABASE_NAME).read_bytes() == garbage


def test_whoever_is_refused_gives_the_lock_back(directory: Path) -> None:
    directory.mkdir()
    (directory / DATABASE_NAME).write_bytes(b"garbage" * 1000)
    for _ in range(2):
        with pytest.raises(StateIncompatible):
            State(directory, Limits())
    (directory / DATABASE_NAME).unlink()
    with opened(directory) as state:
        assert state.identity() is None


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StateError, match=f"{tmp_path}/file/state/lock: .*; expected a directory that can be written"):
        State(tmp_path / "file" / "state", Limits())


def test_nobody_else_can_read_the_state(directory: Path) -> None:
    umask = os.umask(0)
    try:
        with opened(directory) as state:
            commit(state, nothing(totals=creates(1)))
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    finally:
        os.umask(umask)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {DATABASE_NAME, f"{DATABASE_NAME}-wal"} <= set(modes)
    assert set(modes.values()) == {0o600}
