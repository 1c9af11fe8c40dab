"""Journal in, committed counts out: exactly once, whatever happens between two commits."""

import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import SECOND, at
from sidecars import CHAT, Sidecar

from session_exporter.config import Config, PrivacySettings
from session_exporter.core import events as wire
from session_exporter.core.scopes import Limits, ScopeRules
from session_exporter.errors import StateError, StateLocked
from session_exporter.journal import JournalReader
from session_exporter.sidecar.schema import DATABASE_NAME
from session_exporter.sidecar.state import State

LATER_S = 60.0


class Killed(BaseException):
    """The process was killed here."""


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    with closing(Sidecar(tmp_path)) as sidecar:
        yield sidecar


def killed_in(sidecar: Sidecar, owner: type[State | JournalReader], step: str) -> bool:
    """Run a cycle that is killed at the beginning of a step; False when it did not get there."""

    def die(*_: object, **__: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, step, die)
        try:
            sidecar.engine.cycle(60.0)
        except Killed:
            sidecar.kill()
            return True
    return False


@contextmanager
def tampered(sidecar: Sidecar, sql: str) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(sidecar.state / DATABASE_NAME, isolation_level=None)) as other:
        other.execute(sql)
        yield other


FULL_DISK = "CREATE TRIGGER full_disk BEFORE INSERT ON meta BEGIN SELECT RAISE(ABORT, 'disk full'); END"


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


def lose(sidecar: Sidecar, events: int, worker: str = "w") -> None:
    """Let a worker lose events, which it counts in its control block."""
    sidecar.worker(worker).open()
    for _ in range(events):
        sidecar.worker(worker).append((1, at(0), object()))


def lost(sidecar: Sidecar) -> int:
    return sum(sidecar.cycle().exporter.events_lost.values())


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


SECRETS = [
    "plain-user",
    "plain-session",
    "plain-key",
    "plain-request",
    "plain-expected",
    "plain-actual",
    "plain-second",
]


def record_secrets(sidecar: Sidecar) -> None:
    user, session, key, request, expected, actual, second = SECRETS
    who = {"key": key, "request": request}
    sidecar.created(0, session, user, **who)
    sidecar.created(1, second, user, **who)
    sidecar.tell(wire.LookedUp, 2, session, user, **who)
    sidecar.reused(2, session, user, **who)
    sidecar.tell(wire.Observed, 3, second, user, **who)
    sidecar.tell(wire.ContextLost, 3, "", user, expected=expected, actual=actual, **who)
    sidecar.tell(wire.Ended, 4, session, user, reason="deleted", **who)
    sidecar.tell(wire.Attributed, 59, second, user, **who)
    sidecar.created(59, f"{second}-3", "")


def found_in_files(directory: Path) -> set[str]:
    content = b"".join(path.read_bytes() for path in directory.iterdir())
    return {secret for secret in SECRETS if secret.encode() in content}


def test_no_plain_id_rests_in_any_file_of_the_state(sidecar: Sidecar) -> None:
    record_secrets(sidecar)
    sidecar.cycle(LATER_S)
    assert sidecar.cycle(LATER_S).ledger.scopes["chat"].duplicate_creates == 1
    assert {path.name for path in sidecar.state.iterdir()} >= {"key", DATABASE_NAME, f"{DATABASE_NAME}-wal"}
    assert found_in_files(sidecar.state) == set()
    sidecar.cycle(3 * 3600)
    assert found_in_files(sidecar.state) == set()
    sidecar.stop()
    assert found_in_files(sidecar.state) == set()


def test_ids_are_shown_where_the_owner_wants_them(sidecar: Sidecar) -> None:
    sidecar.config = replace(CHAT, privacy=PrivacySettings(show_ids=True))
    record_secrets(sidecar)
    sidecar.cycle(LATER_S)
    (duplicate,) = sidecar.incidents(kind="rapid_duplicate_create")
    assert (duplicate["user"], duplicate["sessions"]) == ("plain-user", ["plain-session", "plain-second"])


def test_ids_that_are_no_longer_to_be_shown_leave_every_file_of_the_state(sidecar: Sidecar) -> None:
    sidecar.config = replace(CHAT, privacy=PrivacySettings(show_ids=True))
    record_secrets(sidecar)
    sidecar.cycle(LATER_S)
    assert found_in_files(sidecar.state)
    sidecar.stop()
    sidecar.config = CHAT
    assert sidecar.chat(2 * LATER_S).creates == 3
    sidecar.stop()
    assert found_in_files(sidecar.state) == set()


def test_the_state_can_be_read_by_its_owner_alone(sidecar: Sidecar) -> None:
    record_secrets(sidecar)
    sidecar.cycle(LATER_S)
    assert stat.S_IMODE(sidecar.state.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in sidecar.state.iterdir()} == {0o600}


def test_two_sidecars_with_one_key_file_call_a_user_the_same(tmp_path: Path) -> None:
    (tmp_path / "shared.key").write_bytes(b"k" * 32)
    shared = replace(CHAT, privacy=PrivacySettings(key_file=tmp_path / "shared.key"))
    users = []
    for name, config in [("one", shared), ("two", shared), ("three", CHAT)]:
        with closing(Sidecar(tmp_path / name, config)) as sidecar:
            sidecar.created(0, "s1")
            sidecar.created(1, "s2")
            sidecar.cycle(LATER_S)
            users.append(sidecar.incidents()[0]["user"])
    assert users[0] == users[1] != users[2]


def test_another_key_forgets_sessions_and_keeps_the_counts(sidecar: Sidecar, tmp_path: Path) -> None:
    sidecar.created(0, "s1")
    sidecar.cycle(LATER_S)
    sidecar.stop()
    (tmp_path / "new.key").write_bytes(b"n" * 32)
    sidecar.config = replace(CHAT, privacy=PrivacySettings(key_file=tmp_path / "new.key"))
    chat = sidecar.chat(2 * LATER_S)
    assert (chat.creates, chat.active_sessions) == (1, 0)


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
