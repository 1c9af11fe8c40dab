"""What happened lately, and whether that is healthy."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import START, at
from sidecars import Sidecar

from session_exporter._version import __version__
from session_exporter.core import events as wire
from session_exporter.core.documents import iso
from session_exporter.core.scopes import CAUSES, LOSS_REASONS, VIOLATIONS, ScopeRules
from session_exporter.errors import StateError, StateIncompatible
from session_exporter.sidecar.incidents import Wanted, read_incidents
from session_exporter.sidecar.schema import DATABASE_NAME
from session_exporter.sidecar.summary import problems_of, read_hooks, read_summary, window_of

CHAT = ScopeRules("chat")


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    with closing(Sidecar(tmp_path)) as sidecar:
        yield sidecar


def problems(rules: ScopeRules = CHAT, **counts: int) -> list[str]:
    return problems_of(rules, window_of([{name.replace("__", ":"): count for name, count in counts.items()}]))


def test_a_window_adds_up_its_minutes() -> None:
    minutes = [
        {"creates": 1, "reuses": 19, "duplicates:same_request": 1, "ends:completed": 1},
        {"reuses": 20, "duplicates:same_request": 1, "duplicates:cross_worker": 1, "losses:reported": 2},
        {"lookups": 7, "redundant_lookups": 3, "ends:expired": 2},
        {"conflicts": 2, "failures:timeout": 4, "failures:auth": 1, "violations:db_session_crossed_tasks": 3},
        {"ids:thread/canonical": 5, "ids:thread/invalid": 1, "shapes:thread/invalid/text(>256)": 1},
        {"ids:thread/invalid": 2, "shapes:thread/invalid/text(12)": 1, "shapes:thread/invalid/text(>256)": 1},
        {"ids:user/legacy": 2, "shapes:user/legacy/int": 2, "id_mismatches": 4},
    ]
    assert window_of(minutes) == {
        "creates": 1,
        "reuses": 39,
        "operations": 40,
        "reuse_ratio": 0.975,
        "context_losses": 2,
        "rapid_duplicate_creates": 3,
        "duplicates_by_cause": {**dict.fromkeys(CAUSES, 0), "same_request": 2, "cross_worker": 1},
        "losses_by_reason": {**dict.fromkeys(LOSS_REASONS, 0), "reported": 2},
        "isolation_violations": 3,
        "violations_by_kind": {**dict.fromkeys(VIOLATIONS, 0), "db_session_crossed_tasks": 3},
        "create_conflicts": 2,
        "create_failures": 5,
        "lookups": 7,
        "redundant_lookups": 3,
        "ends": 3,
        "ids_checked": 10,
        "ids_legacy": 2,
        "ids_invalid": 3,
        "id_mismatches": 4,
        "id_compliance": 0.5,
        "ids_by_kind": {
            "user": {"canonical": 0, "legacy": 2, "invalid": 0},
            "thread": {"canonical": 5, "legacy": 0, "invalid": 3},
        },
        "id_shapes": {"thread": {"invalid": {"text(>256)": 2, "text(12)": 1}}, "user": {"legacy": {"int": 2}}},
        "high_create_rate": False,
    }


def test_a_window_without_operations_has_no_ratio() -> None:
    assert window_of([])["reuse_ratio"] is None
    assert window_of([{"lookups": 9}])["reuse_ratio"] is None


def test_a_window_in_which_no_id_was_checked_has_no_compliance() -> None:
    assert window_of([{"reuses": 9, "id_mismatches": 1}])["id_compliance"] is None


@pytest.mark.parametrize(
    ("creates", "reuses", "healthy"), [(1, 19, True), (5, 95, True), (2, 37, False), (1, 0, False)]
)
def test_a_ratio_of_exactly_the_target_is_healthy_and_one_below_is_not(
    creates: int, reuses: int, *, healthy: bool
) -> None:
    assert (problems(creates=creates, reuses=reuses) == []) == healthy


def test_the_target_is_that_of_the_scope() -> None:
    assert problems(ScopeRules("chat", reuse_target=0.5), creates=5, reuses=5) == []
    assert problems(ScopeRules("chat", reuse_target=0.0), creates=5) == []


@given(st.integers(0, 2000), st.integers(0, 2000))
def test_a_ratio_below_the_target_is_never_shown_as_the_target(creates: int, reuses: int) -> None:
    below = [each for each in problems(creates=creates, reuses=reuses) if "below" in each]
    assert bool(below) == (creates + reuses > 0 and 20 * reuses < 19 * (creates + reuses))
    for sentence in below:
        shown = float(sentence.split("reuse ratio ")[1].split("%")[0])
        assert shown < 95 <= float(sentence.split("target of ")[1].rstrip("%"))


def test_any_duplicate_is_a_problem() -> None:
    assert problems(reuses=1000, duplicates__same_request=1) == ["chat: 1 rapid duplicate create"]
    assert problems(reuses=1000, duplicates__same_request=1, duplicates__cross_replica=2) == [
        "chat: 3 rapid duplicate creates"
    ]


def test_any_loss_is_a_problem() -> None:
    assert problems(reuses=1000, losses__reported=1) == ["chat: 1 context loss"]
    assert problems(reuses=1000, losses__reported=2) == ["chat: 2 context losses"]


@given(st.integers(0, 300), st.integers(0, 300))
def test_creates_above_a_tenth_of_at_least_fifty_operations_are_a_problem(creates: int, reuses: int) -> None:
    operations = creates + reuses
    high = problems(ScopeRules("chat", reuse_target=0.0), creates=creates, reuses=reuses)
    assert bool(high) == (operations >= 50 and 10 * creates > operations)
    if high:
        assert high == [f"chat: high create rate: {creates} of {operations} operations are creates"]


def test_wrong_ids_are_no_problem() -> None:
    assert problems(reuses=10, **{"ids:session/invalid": 100, "id_mismatches": 9}) == []


def test_redundant_lookups_and_ends_are_no_problem() -> None:
    assert problems(reuses=10, lookups=100, redundant_lookups=90, ends__expired=10) == []


def test_without_traffic_nobody_can_tell(sidecar: Sidecar) -> None:
    sidecar.cycle(0)
    found = sidecar.summary()
    assert (found["healthy"], found["problems"], found["total"]["operations"]) == (None, [], 0)


def test_lookups_alone_are_no_traffic(sidecar: Sidecar) -> None:
    sidecar.tell(wire.LookedUp, 0, "")
    sidecar.cycle(60)
    assert (sidecar.summary()["healthy"], sidecar.summary()["total"]["lookups"]) == (None, 1)


def test_a_loss_without_traffic_is_unhealthy(sidecar: Sidecar) -> None:
    sidecar.tell(wire.ContextLost, 0, expected="a", actual="b")
    sidecar.cycle(60)
    assert sidecar.summary()["healthy"] is False


def test_reuses_alone_are_healthy(sidecar: Sidecar) -> None:
    sidecar.reused(0, "s1")
    sidecar.cycle(60)
    assert (sidecar.summary()["healthy"], sidecar.summary()["total"]["reuse_ratio"]) == (True, 1.0)


def test_one_unhealthy_scope_is_not_hidden_by_the_others(sidecar: Sidecar) -> None:
    for number in range(100):
        sidecar.reused(number, "s1")
    sidecar.created(0, "t1", scope="default")
    sidecar.cycle(200)
    found = sidecar.summary()
    assert found["total"]["reuse_ratio"] > 0.95
    assert (found["healthy"], found["problems"]) == (
        False,
        ["default: reuse ratio 0.00% is below the target of 95%"],
    )
    assert sidecar.summary(scope="chat")["healthy"] is True


def test_the_window_goes_by_minutes_of_event_time(sidecar: Sidecar) -> None:
    for minute in range(10):
        sidecar.reused(minute * 60 + 30, "s1")
    sidecar.cycle(600)
    assert START % 60_000_000 == 0
    assert sidecar.summary(since_s=3600)["total"]["reuses"] == 10
    assert sidecar.summary(since_s=180)["total"]["reuses"] == 3
    assert sidecar.summary(since_s=90)["total"]["reuses"] == 2  # the minute in which the window begins is a part of it
    assert [each["minute"] for each in sidecar.summary(since_s=120)["minutes"]] == [iso(at(480)), iso(at(540))]
    assert sidecar.summary(since_s=120)["window_seconds"] == 120
    sidecar.now_us = at(7200)
    assert sidecar.summary(since_s=3600)["healthy"] is None


def test_minutes_add_up_the_selected_scopes(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.created(1, "t1", scope="default")
    sidecar.reused(61, "s1")
    sidecar.cycle(200)
    minutes = sidecar.summary()["minutes"]
    assert [(each["creates"], each["reuses"]) for each in minutes] == [(2, 0), (0, 1)]
    assert set(minutes[0]) == {"minute", "creates", "reuses", "rapid_duplicate_creates", "context_losses"}
    assert [each["creates"] for each in sidecar.summary(scope="default")["minutes"]] == [1]


def test_one_scope_can_be_selected_and_an_unknown_one_is_a_key_error(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.created(0, "t1", scope="default")
    sidecar.cycle(60)
    found = sidecar.summary(scope="chat")
    assert list(found["scopes"]) == ["chat"]
    assert found["total"]["creates"] == 1
    assert set(sidecar.summary()["scopes"]) == {"chat", "default", "other"}
    for ask in (sidecar.summary, sidecar.incidents):
        with pytest.raises(KeyError, match="chatt"):
            ask(scope="chatt")


def test_a_summary_says_all_that_it_promises(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.created(1, "s2")
    sidecar.reused(2, "s2")
    sidecar.tell(wire.Ended, 3, "s1", reason="completed")
    born_us = sidecar.now_us
    sidecar.cycle(0)
    sidecar.cycle(60)
    found = sidecar.summary()
    assert set(found) == {
        *("version", "generated_at", "window_seconds", "healthy", "problems", "total", "scopes", "minutes", "exporter")
    }
    assert (found["version"], found["generated_at"]) == (__version__, iso(at(60)))
    chat = found["scopes"]["chat"]
    assert chat["window"] == found["total"]
    assert (chat["reuse_target"], chat["active_sessions"], chat["active_users"]) == (0.95, 1, 1)
    assert chat["since"] == iso(born_us)
    assert (chat["totals"]["creates"], chat["totals"]["reuses"], chat["totals"]["adopted"]) == (2, 1, 0)
    assert (chat["totals"]["ends"]["completed"], chat["totals"]["rapid_duplicate_creates"]["same_worker"]) == (1, 1)
    assert chat["system"]["sessions_created_today"] == 2
    assert found["exporter"] == {
        "workers": 1,
        "journal_directory": str(sidecar.journal),
        "source": str(sidecar.journal),
        "events_lost": 0,
        "last_commit_at": iso(at(60)),
        "hint": "",
        "notes": [],
    }
    msgspec.json.encode(found)


def test_a_sidecar_that_sees_no_worker_says_where_it_looks(sidecar: Sidecar) -> None:
    sidecar.cycle(0)
    hint = sidecar.summary()["exporter"]["hint"]
    assert hint == f"no worker writes to {sidecar.journal}; application and sidecar must use the same directory"


def test_hooks_of_living_workers_are_told(sidecar: Sidecar) -> None:
    sidecar.worker().register_hook("sqlalchemy", True)
    sidecar.created(0, "s1")
    sidecar.cycle(60)
    (found,) = read_hooks(sidecar.state)
    assert found["hooks"]["sqlalchemy"] == {"active": True, "errors": 0}
    assert (found["worker"], found["replica"]) == (sidecar.worker().writer_id, "pod")


def test_a_reader_sees_the_last_commit_while_the_next_one_is_written(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.cycle(60)
    with closing(sqlite3.connect(sidecar.state / DATABASE_NAME, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE minutes SET count = 1000")
        writer.execute("DELETE FROM meta WHERE name = 'totals'")
        found = sidecar.summary()
        assert (found["total"]["creates"], found["scopes"]["chat"]["totals"]["creates"]) == (1, 1)
        writer.execute("ROLLBACK")


def test_a_reader_hinders_no_commit(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.cycle(60)
    with closing(sqlite3.connect(f"file:{sidecar.state / DATABASE_NAME}?mode=ro", uri=True)) as reader:
        reader.isolation_level = None
        reader.execute("BEGIN")
        assert reader.execute("SELECT sum(count) FROM minutes WHERE name = 'creates'").fetchone() == (1,)
        sidecar.created(61, "s2", "bob")
        assert sidecar.chat(120).creates == 2
        assert reader.execute("SELECT sum(count) FROM minutes WHERE name = 'creates'").fetchone() == (1,)
    assert sidecar.summary()["total"]["creates"] == 2


def test_the_state_is_read_when_no_sidecar_runs(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.cycle(60)
    sidecar.stop()
    assert sidecar.summary()["total"]["creates"] == 1


def test_reading_changes_nothing(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.cycle(60)
    sidecar.stop()
    before = (sidecar.state / DATABASE_NAME).read_bytes()
    sidecar.summary()
    sidecar.incidents()
    assert (sidecar.state / DATABASE_NAME).read_bytes() == before


@pytest.mark.parametrize("content", [None, b"", b"garbage" * 1000])
def test_a_state_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / DATABASE_NAME).write_bytes(content)
    wanted: dict[str, Any] = {"since_s": 60.0, "scope": None, "now_us": at(0)}
    for read in (
        lambda: read_summary(tmp_path, **wanted),
        lambda: read_incidents(tmp_path, Wanted(), now_us=START),
        lambda: read_hooks(tmp_path),
    ):
        with pytest.raises(StateError, match=DATABASE_NAME):
            read()


def test_a_state_of_a_newer_version_is_not_read(sidecar: Sidecar) -> None:
    sidecar.cycle(0)
    with closing(sqlite3.connect(sidecar.state / DATABASE_NAME)) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(StateIncompatible, match="state version 99"):
        sidecar.summary()


def test_a_state_with_damaged_contents_is_an_error_and_no_traceback(sidecar: Sidecar) -> None:
    sidecar.cycle(0)
    with closing(sqlite3.connect(sidecar.state / DATABASE_NAME, isolation_level=None)) as other:
        other.execute("UPDATE meta SET value = x'c1' WHERE name = 'totals'")
    with pytest.raises(StateError, match="expected a readable state"):
        sidecar.summary()
