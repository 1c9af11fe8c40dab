"""Journal in, committed counts out: exactly once, whatever happens between two commits."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import at
from sidecars import CHAT, FULL_DISK, Sidecar, killed_in, lose, lost, tampered

from session_exporter.core import events as wire
from session_exporter.core.scopes import Limits
from session_exporter.errors import StateError
from session_exporter.journal import JournalReader
from session_exporter.sidecar.schema import DATABASE_NAME
from session_exporter.sidecar.state import State

LATER_S = 60.0


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    with closing(Sidecar(tmp_path)) as sidecar:
        yield sidecar


def test_what_was_recorded_before_a_cycle_is_committed_by_it(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.reused(1, "s1")
    chat = sidecar.chat(LATER_S)
    assert (chat.creates, chat.reuses, chat.active_sessions) == (1, 1, 1)
    assert sidecar.summary()["scopes"]["chat"]["totals"]["creates"] == 1


def test_verdicts_wait_for_the_lateness(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    assert sidecar.chat(2).creates == 0
    assert sidecar.chat(2.000001).creates == 1


def test_stopping_judges_what_waits(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.cycle(0)
    sidecar.stop()
    assert sidecar.chat(0).creates == 1


def test_counts_go_on_after_a_restart_with_the_time_when_they_began(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    before = sidecar.chat(LATER_S)
    sidecar.stop()
    sidecar.reused(70, "s1")
    after = sidecar.chat(2 * LATER_S)
    assert (after.creates, after.reuses, after.born_us) == (1, 1, before.born_us)


def test_an_engine_that_is_killed_before_it_commits_counts_once(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.cycle(LATER_S)
    sidecar.reused(61, "s1")
    sidecar.created(61, "s2", "bob")
    assert killed_in(sidecar, State, "commit")
    chat = sidecar.chat(2 * LATER_S)
    assert (chat.creates, chat.reuses) == (2, 1)


@pytest.mark.parametrize("step", ["release", "retire"])
def test_an_engine_that_is_killed_after_it_committed_counts_once(sidecar: Sidecar, step: str) -> None:
    sidecar.created(0, "s1")
    sidecar.reused(1, "s1")
    sidecar.created(1, "s2")
    sidecar.now_us = at(LATER_S)
    sidecar.end_worker()
    assert killed_in(sidecar, JournalReader, step)
    chat = sidecar.chat(LATER_S)
    assert (chat.creates, chat.reuses, chat.duplicate_creates) == (2, 1, 1)
    assert sidecar.cycle().ledger.events["created"] == 2


def test_a_killed_process_counts_once(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.cycle(LATER_S)
    sidecar.kill()
    sidecar.reused(61, "s1")
    child = os.fork()
    if not child:
        try:
            JournalReader.release = lambda *_: os.kill(os.getpid(), 9)
            sidecar.cycle(2 * LATER_S)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    chat = sidecar.chat(2 * LATER_S)
    assert (chat.creates, chat.reuses) == (1, 1)


moves = st.sampled_from(["record", "record", "cycle", "kill", "stop", "end worker", "kill before commit", "kill after"])


@settings(max_examples=15)
@given(st.lists(st.tuples(moves, st.integers(0, 2)), max_size=15))
def test_nothing_is_lost_and_nothing_counts_twice_however_it_is_killed(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    recorded = 0
    with closing(Sidecar(tmp_path_factory.mktemp("killed"))) as sidecar:
        for step, (move, number) in enumerate(steps):
            sidecar.now_us = at(step * 20)
            worker = f"w{number}"
            if move == "record":
                sidecar.created(step * 20, f"s{step}", f"u{step}", worker=worker)
                sidecar.reused(step * 20, f"s{step}", f"u{step}", worker=worker)
                recorded += 1
            elif move == "cycle":
                assert sidecar.chat().reuses == recorded
            elif move == "kill":
                sidecar.kill()
            elif move == "stop":
                sidecar.stop()
            elif move == "end worker":
                sidecar.worker(worker)
                sidecar.end_worker(worker)
            elif move == "kill before commit":
                killed_in(sidecar, State, "commit")
            else:
                killed_in(sidecar, JournalReader, "release")
        chat = sidecar.chat(step * 20 + 3 if steps else 0)
        assert (chat.creates, chat.reuses, chat.duplicate_creates) == (recorded, recorded, 0)


def test_what_a_worker_lost_stays_in_the_totals_when_it_is_gone(sidecar: Sidecar) -> None:
    lose(sidecar, 3)
    assert lost(sidecar) == 3
    lose(sidecar, 2)
    sidecar.end_worker()
    assert [lost(sidecar) for _ in range(3)] == [5, 5, 5]
    assert not list(sidecar.journal.glob("*.ctl"))
    sidecar.stop()
    assert lost(sidecar) == 5


@pytest.mark.parametrize("step", ["release", "retire"])
def test_what_a_dead_worker_lost_counts_once_when_the_engine_is_killed_before_it_retires_it(
    sidecar: Sidecar, step: str
) -> None:
    lose(sidecar, 3)
    sidecar.cycle()
    lose(sidecar, 2)
    sidecar.end_worker()
    assert killed_in(sidecar, JournalReader, step)
    assert [lost(sidecar) for _ in range(3)] == [5, 5, 5]
    assert not list(sidecar.journal.glob("*.ctl"))


def test_a_commit_that_fails_is_made_up_for_by_the_next_one(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.cycle(LATER_S)
    sidecar.reused(61, "s1")
    sidecar.created(62, "s2")
    sidecar.created(63, "s3")
    lose(sidecar, 2)
    with tampered(sidecar, FULL_DISK) as other:
        for _ in range(3):
            with pytest.raises(StateError, match="disk full; nothing was committed"):
                sidecar.cycle(2 * LATER_S)
        other.execute("DROP TRIGGER full_disk")
    chat = sidecar.chat()
    assert (chat.creates, chat.reuses, chat.duplicate_creates, lost(sidecar)) == (3, 1, 1, 2)
    assert sidecar.cycle().ledger.events["created"] == 3


def test_a_snapshot_never_shows_what_is_not_committed(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    committed = sidecar.cycle(LATER_S)
    sidecar.reused(61, "s1")
    sidecar.created(61, "s2", "bob")
    with tampered(sidecar, FULL_DISK) as other:
        with pytest.raises(StateError):
            sidecar.cycle(2 * LATER_S)
        assert sidecar.engine.snapshot is committed
        assert (committed.ledger.scopes["chat"].creates, committed.ledger.scopes["chat"].reuses) == (1, 0)
        other.execute("DROP TRIGGER full_disk")


def test_a_snapshot_does_not_change_any_more(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    first = sidecar.cycle(LATER_S)
    sidecar.created(61, "s2", "bob")
    sidecar.reused(61, "s2", "bob")
    sidecar.cycle(2 * LATER_S)
    assert (first.ledger.scopes["chat"].creates, first.ledger.events["created"]) == (1, 1)
    assert first.ledger.scopes["chat"].reuses == 0


def test_alarms_are_told_once_they_are_committed_and_once_only(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.created(1, "s2")
    sidecar.cycle(2)
    with tampered(sidecar, FULL_DISK) as other:
        with pytest.raises(StateError):
            sidecar.cycle(LATER_S)
        assert sidecar.alarms == []
        other.execute("DROP TRIGGER full_disk")
    for _ in range(3):
        sidecar.cycle()
    sidecar.stop()
    sidecar.cycle()
    assert [each.kind for each in sidecar.alarms] == ["rapid_duplicate_create"]


def written_by(sidecar: Sidecar, act: Callable[[], object]) -> bool:
    """Whether something wrote to the database, as another connection sees it."""
    with closing(sqlite3.connect(sidecar.state / DATABASE_NAME, isolation_level=None)) as other:
        before = other.execute("PRAGMA data_version").fetchone()
        act()
        return other.execute("PRAGMA data_version").fetchone() != before


def test_cycles_with_nothing_new_do_not_write(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.tell(wire.Observed, 1, "s2", "bob")
    sidecar.cycle(LATER_S)
    for step in range(1, 10):
        assert not written_by(sidecar, lambda step=step: sidecar.cycle(LATER_S + step))
    sidecar.reused(71, "s1")
    assert written_by(sidecar, lambda: sidecar.cycle(72))


def test_a_worker_that_has_recorded_nothing_yet_is_seen_by_whoever_reads_the_state(sidecar: Sidecar) -> None:
    sidecar.cycle(0)
    assert sidecar.summary()["exporter"]["workers"] == 0
    assert str(sidecar.journal) in sidecar.summary()["exporter"]["hint"]
    sidecar.worker().open()
    assert sidecar.cycle(1).exporter.workers == 1
    assert (sidecar.summary()["exporter"]["workers"], sidecar.summary()["exporter"]["hint"]) == (1, "")


def test_a_worker_that_has_ended_is_no_longer_seen_by_whoever_reads_the_state(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.worker("other").open()
    sidecar.cycle(LATER_S)
    sidecar.end_worker()
    sidecar.end_worker("other")
    for step in range(3):
        sidecar.cycle(LATER_S + step)
    assert sidecar.summary()["exporter"]["workers"] == 0


def test_ids_that_expired_are_known_after_a_restart(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.cycle(LATER_S)
    assert sidecar.chat(2 * 3600).ends["expired"] == 1
    sidecar.stop()
    sidecar.tell(wire.Observed, 7300, "s1")
    chat = sidecar.chat(7400)
    assert (chat.creates, chat.adopted, chat.reuses) == (1, 0, 1)


def test_known_ids_are_bounded_by_the_configuration(sidecar: Sidecar) -> None:
    sidecar.config = replace(CHAT, limits=Limits(known_ids_max=3))
    for number in range(6):
        sidecar.created(number, f"s{number}", f"u{number}")
    sidecar.cycle(LATER_S)
    sidecar.cycle(2 * 3600)
    sidecar.cycle(2 * 3600 + 61)
    with closing(sqlite3.connect(sidecar.state / DATABASE_NAME)) as other:
        assert other.execute("SELECT count(*) FROM known").fetchone() == (3,)
