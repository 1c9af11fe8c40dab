"""What an engine makes of a lost state, a new configuration and another sidecar."""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from ledgers import SECOND, at
from sidecars import CHAT, FULL_DISK, Sidecar, killed_in, lose, lost, tampered

from session_exporter.config import Config
from session_exporter.core.scopes import ScopeRules
from session_exporter.errors import StateError, StateLocked
from session_exporter.sidecar.state import State

LATER_S = 60.0


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    with closing(Sidecar(tmp_path)) as sidecar:
        yield sidecar


def test_a_state_that_was_lost_starts_new_counters_and_knows_what_can_still_be_read(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.reused(1, "s1")
    born_us = sidecar.chat(LATER_S).born_us
    sidecar.kill()
    shutil.rmtree(sidecar.state)
    sidecar.now_us = at(2 * LATER_S)
    sidecar.created(120, "s1")
    chat = sidecar.chat(3 * LATER_S)
    assert (chat.creates, chat.reuses, chat.active_sessions) == (0, 0, 1)
    assert chat.born_us > born_us
    sidecar.reused(181, "s1")
    assert sidecar.chat(182).reuses == 1
    assert sidecar.cycle().exporter.states_lost == 1
    sidecar.stop()
    assert sidecar.cycle().exporter.states_lost == 1


def test_a_lost_state_is_told_in_the_log(sidecar: Sidecar, caplog: pytest.LogCaptureFixture) -> None:
    sidecar.created(0, "s1")
    sidecar.cycle(LATER_S)
    sidecar.kill()
    shutil.rmtree(sidecar.state)
    sidecar.cycle()
    assert [record.message for record in caplog.records if "is lost: counters start anew" in record.message]


def test_the_first_start_counts_what_the_workers_recorded_before_it(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    assert sidecar.chat(LATER_S).creates == 1
    assert sidecar.cycle().exporter.states_lost == 0


def test_a_start_that_is_killed_while_it_learns_after_a_lost_state_counts_nothing_of_it(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.reused(1, "s1")
    sidecar.cycle(LATER_S)
    sidecar.kill()
    shutil.rmtree(sidecar.state)
    assert killed_in(sidecar, State, "commit")
    chat = sidecar.chat(2 * LATER_S)
    assert (chat.creates, chat.reuses) == (0, 0)


def test_a_first_commit_that_fails_after_a_lost_state_counts_nothing_of_what_was_there(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.reused(1, "s1")
    sidecar.cycle(LATER_S)
    sidecar.kill()
    shutil.rmtree(sidecar.state)
    assert sidecar.engine
    with tampered(sidecar, FULL_DISK) as other:
        with pytest.raises(StateError):
            sidecar.cycle()
        other.execute("DROP TRIGGER full_disk")
    chat = sidecar.chat(2 * LATER_S)
    assert (chat.creates, chat.reuses) == (0, 0)


def test_what_workers_lost_before_the_state_was_lost_is_not_counted_again(sidecar: Sidecar) -> None:
    lose(sidecar, 3)
    sidecar.created(0, "s1")
    assert lost(sidecar) == 3
    sidecar.kill()
    shutil.rmtree(sidecar.state)
    assert lost(sidecar) == 0
    lose(sidecar, 2)
    assert lost(sidecar) == 2


def config(**scopes: ScopeRules) -> Config:
    return replace(CHAT, scopes={**CHAT.scopes, **scopes})


def test_a_reload_with_a_new_scope_keeps_the_counts(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.created(0, "t1", scope="thread")
    before = sidecar.cycle(LATER_S).ledger
    assert before.scopes["other"].creates == 1
    sidecar.now_us = at(100)
    sidecar.config = config(thread=ScopeRules("thread"))
    sidecar.engine.reload(sidecar.config)
    sidecar.created(101, "t2", scope="thread")
    sidecar.reused(101, "s1")
    after = sidecar.cycle(2 * LATER_S).ledger
    assert (after.scopes["chat"].creates, after.scopes["chat"].reuses, after.scopes["other"].creates) == (1, 1, 1)
    assert (after.scopes["thread"].creates, after.scopes["thread"].born_us) == (1, at(100))


def test_a_reload_with_another_window_keeps_the_counts_and_judges_by_it_from_then_on(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.created(5, "s2")
    sidecar.cycle(LATER_S)
    sidecar.config = config(chat=ScopeRules("chat", duplicate_window_us=3 * SECOND))
    sidecar.engine.reload(sidecar.config)
    sidecar.created(80, "s3")
    sidecar.created(85, "s4")
    chat = sidecar.chat(2 * LATER_S)
    assert (chat.creates, chat.duplicate_creates, chat.active_sessions, sum(chat.intervals.counts)) == (4, 1, 4, 3)
    assert 3.0 in chat.intervals.bounds_s
    sidecar.created(130, "s5")
    sidecar.created(132.9, "s6")
    assert sidecar.chat(180).duplicate_creates == 2


def test_a_reload_without_a_scope_keeps_its_counts_and_counts_no_live_sessions_in_it(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.cycle(LATER_S)
    sidecar.config = Config()
    sidecar.engine.reload(sidecar.config)
    sidecar.created(61, "s2")
    ledger = sidecar.cycle(2 * LATER_S).ledger
    assert (ledger.scopes["chat"].creates, ledger.scopes["chat"].active_sessions) == (1, 0)
    assert ledger.scopes["other"].creates == 1


def test_a_reload_loses_nothing_of_what_was_not_read_yet(sidecar: Sidecar) -> None:
    for number in range(50):
        sidecar.created(number * 20, f"s{number}", worker=f"w{number % 5}")
    sidecar.now_us = at(2000)
    sidecar.engine.reload(sidecar.config)
    assert sidecar.chat(2000).creates == 50


def test_a_second_sidecar_is_refused_on_the_same_journal_and_on_the_same_state(sidecar: Sidecar) -> None:
    sidecar.cycle(0)
    second = Sidecar(sidecar.state.parent)
    with pytest.raises(StateLocked, match=f"in use by process {os.getpid()}"):
        _ = second.engine
    second.state = sidecar.state.parent / "state of the second"
    with pytest.raises(StateLocked, match=f"in use by process {os.getpid()}"):
        _ = second.engine
    second.journal = sidecar.state.parent / "journal of the second"
    second.cycle(0)
    second.close()
