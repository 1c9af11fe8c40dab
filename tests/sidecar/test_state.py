"""What was committed last: all of it or nothing, for one owner, bounded, and never somebody else's database."""

import resource
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import Book, at
from states import POSITIONS, commit, creates, nothing, opened, tampered

from session_exporter.core.checkpoint import Changes, Waiting, take_changes
from session_exporter.core.incidents import Incident
from session_exporter.core.minutes import MINUTE_US, Minute
from session_exporter.core.population import Known
from session_exporter.core.totals import LedgerTotals
from session_exporter.errors import StateError
from session_exporter.sidecar.positions import Positions
from session_exporter.sidecar.records import ExporterState, Identity
from session_exporter.sidecar.schema import DATABASE_NAME
from session_exporter.sidecar.state import MINUTES_KEPT, State
from session_exporter.stream.keys import SHARED
from session_exporter.stream.positions import Position, StreamPositions

DAY_US = 86_400_000_000


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def state(directory: Path) -> Iterator[State]:
    with opened(directory) as state:
        yield state


def incident(number: int) -> Incident:
    return Incident(f"d-{number}", "rapid_duplicate_create", at(number), "chat", {"cause": "same_request"})


def left(*sessions: tuple[bytes, int]) -> Changes:
    """Sessions that have left the ledger, with their last activity."""
    return nothing(left_sessions=[(1, session, Known(last_us, True, True)) for session, last_us in sessions])


def broken(table: str, statement: str = "INSERT") -> str:
    return f"CREATE TRIGGER broken BEFORE {statement} ON {table} BEGIN SELECT RAISE(ABORT, 'broken on purpose'); END"


def rows(directory: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(directory / DATABASE_NAME)) as connection:
        return connection.execute(sql).fetchall()


def test_a_new_state_knows_nothing(state: State) -> None:
    assert (state.identity(), state.exporter()) == (None, None)
    assert (state.totals(), state.waiting()) == (LedgerTotals(), Waiting())
    assert (state.positions(), state.numbers(), list(state.sessions()), list(state.owners())) == ({}, {}, [], [])
    assert list(state.requests()) == []


def test_what_was_committed_is_there_when_it_is_opened_again(directory: Path) -> None:
    book = Book()
    book.created(0, "s1", request="r1")
    book.created(3, "s2", key="phone", request="r1")
    book.looked_up(4, "s2", request="r2")
    book.ended(5, "s1", "deleted")
    book.advance(5.5)
    changes = take_changes(book.ledger)
    with opened(directory) as state:
        exporter, identity = ExporterState(lost={"encoding/created": 3}), Identity("me", "plain", at(0))
        state.commit(changes, Positions(POSITIONS), exporter, {"chat": 3}, identity)
    with opened(directory) as state:
        assert state.identity() == Identity("me", "plain", at(0))
        assert (state.totals(), state.waiting()) == (changes.totals, changes.waiting)
        assert (state.positions(), state.numbers()) == (POSITIONS, {"chat": 3})
        assert state.exporter() == ExporterState(lost={"encoding/created": 3})
        assert {row.id for row in state.sessions()} == {b"s1", b"s2"}
        assert {row.id for row in state.owners()} == {row.id for row in changes.owners}
        assert list(state.requests()) == [(changes.waiting.epoch, changes.requests)]


def test_a_commit_changes_the_positions_in_streams_that_have_moved_and_no_other(directory: Path) -> None:
    first, second, third = Position(1, 100, "f/1", 9, 5), Position(7, 4096), Position(2, 64, "g/3", 1, 6)
    with opened(directory) as state:
        commit(state, nothing(), streams=StreamPositions({(SHARED, "w"): first, (3, "w"): second, (3, "x"): first}))
    with opened(directory) as state:
        assert state.stream_positions() == {(SHARED, "w"): first, (3, "w"): second, (3, "x"): first}
        commit(state, nothing(), streams=StreamPositions({(3, "w"): third}, forgotten=((3, "x"),)))
        assert state.stream_positions() == {(SHARED, "w"): first, (3, "w"): third}
        commit(state, nothing())
        assert state.stream_positions() == {(SHARED, "w"): first, (3, "w"): third}


def test_a_commit_replaces_positions_and_adds_rows(state: State) -> None:
    commit(state, nothing(requests={b"a": 1}))
    commit(state, nothing(requests={b"a": 2, b"b": 1}), {("writer-3", 1): 64})
    assert state.positions() == {("writer-3", 1): 64}
    assert list(state.requests()) == [(0, {b"a": 1}), (0, {b"a": 2, b"b": 1})]


def test_requests_of_epochs_that_are_forgotten_leave_the_state(state: State) -> None:
    for epoch in range(5):
        commit(state, nothing(waiting=Waiting(epoch=epoch), requests={b"%d" % epoch: 1}))
    assert [epoch for epoch, _ in state.requests()] == [3, 4]


@pytest.mark.parametrize(
    "table", ["sessions", "owners", "known", "requests", "minutes", "incidents", "positions", "stream_positions"]
)
def test_a_commit_that_fails_in_its_middle_leaves_the_one_before_it(state: State, directory: Path, table: str) -> None:
    book = Book()
    book.created(-4000, "s0", "bob")
    book.created(0, "s1", request="r1")
    book.created(3, "s2", request="r1")
    book.ledger.finish()
    commit(state, nothing(totals=creates(5)))
    before = state.positions()
    with tampered(directory, broken(table)) as other:
        with pytest.raises(StateError, match=f"{directory}: broken on purpose; nothing was committed"):
            commit(state, take_changes(book.ledger), {("writer-9", 1): 1}, StreamPositions({(3, "w"): Position(1, 64)}))
        assert (state.totals(), state.positions(), state.stream_positions()) == (creates(5), before, {})
        assert (list(state.sessions()), list(state.owners()), list(state.requests())) == ([], [], [])
        assert rows(directory, "SELECT * FROM minutes UNION ALL SELECT number, id, kind, cause FROM incidents") == []
        other.execute("DROP TRIGGER broken")
    commit(state, nothing(totals=creates(6)))
    assert state.totals() == creates(6)


@contextmanager
def no_file_grows_beyond(size_bytes: int) -> Iterator[None]:
    """The disk is full for this process: a write beyond the limit fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_stores_nothing_and_the_next_commit_after_it_works(state: State, directory: Path) -> None:
    commit(state, nothing(totals=creates(5)))
    big = nothing(totals=creates(6), incidents=[incident(number) for number in range(4000)])
    used = max(path.stat().st_size for path in directory.iterdir())
    for _ in range(2):
        with no_file_grows_beyond(used + 65536), pytest.raises(StateError, match="nothing was committed"):
            commit(state, big)
        assert state.totals() == creates(5)
    commit(state, big)
    assert state.totals() == creates(6)
    assert rows(directory, "SELECT count(*) FROM incidents") == [(4000,)]


def test_a_failed_commit_leaves_the_previous_one_for_the_next_owner(directory: Path) -> None:
    with opened(directory) as state:
        commit(state, nothing(totals=creates(5)))
        with tampered(directory, broken("incidents")), pytest.raises(StateError):
            commit(state, nothing(totals=creates(6), incidents=[incident(1)]))
    with opened(directory) as again:
        assert again.totals() == creates(5)


counts = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from(["chat", "job"]),
            st.integers(0, 3),
            st.builds(
                Minute, st.integers(0, 3), st.dictionaries(st.sampled_from(["creates", "ends:other"]), st.just(2))
            ),
        ),
        max_size=4,
        unique_by=lambda entry: entry[:2],
    ),
    max_size=5,
)


@settings(max_examples=25)
@given(counts)
def test_the_minutes_of_all_commits_add_up(commits: list[list[tuple[str, int, Minute]]]) -> None:
    expected: dict[tuple[int, str, str], int] = {}
    with _temporary() as directory, opened(directory) as state:
        for minutes in commits:
            commit(state, nothing(minutes=minutes))
            for scope, number, minute in minutes:
                for name, count in {**minute.counts, "reuses": minute.reuses}.items():
                    if count:
                        key = (number, scope, name)
                        expected[key] = expected.get(key, 0) + count
        found = {tuple(row[:3]): row[3] for row in rows(directory, "SELECT minute, scope, name, count FROM minutes")}
    assert found == expected


@contextmanager
def _temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as place:
        yield Path(place) / "state"


def test_minutes_are_kept_for_a_month(state: State, directory: Path) -> None:
    now_us = at(0)
    newest = now_us // MINUTE_US
    minutes = [("chat", newest - age, Minute(1)) for age in (0, 31 * 24 * 60, MINUTES_KEPT, MINUTES_KEPT + 1)]
    commit(state, nothing(minutes=minutes))
    state.forget_old(now_us)
    kept = sorted(newest - minute for (minute,) in rows(directory, "SELECT minute FROM minutes"))
    assert kept == [0, 31 * 24 * 60, MINUTES_KEPT]


def test_the_oldest_incidents_leave_when_there_are_too_many(directory: Path) -> None:
    with opened(directory, max_incidents=10) as state:
        for start in range(0, 30, 3):
            commit(state, nothing(incidents=[incident(start + number) for number in range(3)]))
    kept = rows(directory, "SELECT id FROM incidents ORDER BY number")
    assert kept == [(f"d-{number}",) for number in range(20, 30)]


def test_an_incident_that_is_judged_again_is_kept_once_and_pushes_no_other_out(directory: Path) -> None:
    with opened(directory, max_incidents=3) as state:
        commit(state, nothing(incidents=[incident(1), incident(2), incident(3)]))
        for _ in range(5):
            commit(state, nothing(incidents=[incident(1), incident(3)]))
    assert rows(directory, "SELECT id FROM incidents ORDER BY number") == [("d-1",), ("d-2",), ("d-3",)]


def test_sessions_that_have_left_are_remembered(state: State) -> None:
    changes = nothing(
        left_sessions=[
            (1, b"ended", Known(at(1), ended=True, born=True, user=(1 << 56) - 1)),
            (1, b"evicted", Known(at(2), ended=False, born=False)),
        ]
    )
    commit(state, changes)
    assert state.find(1, b"ended") == Known(at(1), ended=True, born=True, user=(1 << 56) - 1)
    assert state.find(1, b"evicted") == Known(at(2), ended=False, born=False)
    assert (state.find(2, b"ended"), state.find(1, b"never seen")) == (None, None)


def test_known_ids_are_forgotten_when_they_are_too_old(directory: Path) -> None:
    with opened(directory, known_ids_retention_us=30 * DAY_US) as state:
        commit(state, left((b"old", at(0) - 1), (b"young", at(0))))
        state.forget_old(at(0) + 30 * DAY_US)
        assert state.find(1, b"old") is None
        assert state.find(1, b"young") is not None


def test_the_oldest_known_ids_are_forgotten_when_they_are_too_many(directory: Path) -> None:
    with opened(directory, known_ids_max=3) as state:
        commit(state, left(*((b"s%d" % number, at(number)) for number in range(5))))
        state.forget_old(at(100))
        assert [state.find(1, b"s%d" % number) is not None for number in range(5)] == [False, False, True, True, True]
        commit(state, left((b"s5", at(5))))
        state.forget_old(at(100))
        assert [state.find(1, b"s%d" % number) is not None for number in range(2, 6)] == [False, True, True, True]


def test_ids_that_leave_again_and_again_push_no_other_out(directory: Path) -> None:
    with opened(directory, known_ids_max=3) as state:
        state.forget_old(at(0))
        for turn in range(5):
            commit(state, left((b"s1", at(turn)), (b"s2", at(turn))))
        state.forget_old(at(100))
        assert state.find(1, b"s1") is not None
        assert state.find(1, b"s2") is not None


def test_ids_of_a_commit_that_failed_push_no_other_out(directory: Path) -> None:
    with opened(directory, known_ids_max=3) as state:
        commit(state, left((b"s1", at(1)), (b"s2", at(2))))
        state.forget_old(at(0))
        with tampered(directory, broken("incidents")) as other:
            for _ in range(3):
                failing = left((b"s3", at(3)))
                failing.incidents = [incident(1)]
                with pytest.raises(StateError):
                    commit(state, failing)
            other.execute("DROP TRIGGER broken")
        state.forget_old(at(100))
        assert state.find(1, b"s1") is not None


def test_forgetting_that_fails_is_an_error_of_the_state(state: State, directory: Path) -> None:
    commit(state, left((b"s1", at(0))))
    with tampered(directory, broken("known", "DELETE")), pytest.raises(StateError, match="broken on purpose"):
        state.forget_old(at(0) + 100 * DAY_US)
    assert state.find(1, b"s1") is not None


def test_a_long_memory_that_cannot_be_read_is_an_error_of_the_state(state: State, directory: Path) -> None:
    with tampered(directory, "DROP TABLE known"), pytest.raises(StateError, match=f"{directory}: no such table: known"):
        state.find(1, b"s1")


def test_forgetting_ids_keeps_the_counts(state: State, directory: Path) -> None:
    book = Book()
    book.created(0, "s1")
    book.created(1, "s2")
    book.advance(1.5)
    commit(state, take_changes(book.ledger))
    commit(state, left((b"s0", at(0))))
    totals = state.totals()
    state.forget_ids(Identity("me", "plain", at(0)))
    assert (list(state.sessions()), list(state.owners()), list(state.requests())) == ([], [], [])
    assert (state.find(1, b"s0"), state.waiting()) == (None, Waiting())
    assert (state.totals(), state.numbers(), state.positions()) == (totals, {"chat": 1}, POSITIONS)
    assert rows(directory, "SELECT sum(count) FROM minutes WHERE name = 'creates'") == [(2,)]
