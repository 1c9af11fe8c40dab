"""What workers count themselves, added up over all that ever were."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.core.events import Writer
from session_exporter.journal import Control
from session_exporter.journal.control import COUNTS, GAUGES
from session_exporter.sidecar.records import ExporterState
from session_exporter.sidecar.snapshot import HOOKS
from session_exporter.sidecar.workers import absorb, db_figures, hook_workers


def control(worker: str, *, alive: bool = True, lost: int = 0, errors: int = 0, **more: Any) -> Control:
    lost_events = {("worker_limit", "created"): lost} if lost else {}
    hooks = more.get("hooks", {"tracker": (True, errors)})
    return Control(Writer(worker, "pod", 1), alive, 0, lost_events, hooks)


def test_what_each_worker_lost_adds_up_by_reason_and_kind() -> None:
    state = ExporterState()
    absorb(state, [control("w1", lost=2, errors=1), control("w2", lost=3, errors=4)])
    assert (state.lost, state.hook_errors) == ({"worker_limit/created": 5}, {"tracker": 5})


def test_only_what_has_come_since_the_last_time_is_added() -> None:
    state = ExporterState()
    for lost in (2, 2, 5):
        absorb(state, [control("w1", lost=lost)])
    assert state.lost == {"worker_limit/created": 5}


def test_what_a_worker_lost_stays_when_it_is_gone() -> None:
    state = ExporterState()
    absorb(state, [control("w1", lost=2)])
    absorb(state, [], gone=["w1"])
    absorb(state, [control("w2", lost=1)])
    assert state.lost == {"worker_limit/created": 3}
    assert list(state.writers) == ["w2"]


def test_the_last_word_of_a_dead_worker_is_added_once_however_often_it_is_read() -> None:
    state = ExporterState()
    absorb(state, [control("w1", lost=2)])
    for _ in range(3):
        assert absorb(state, [control("w1", alive=False, lost=7)]) == ["w1"]
    assert state.lost == {"worker_limit/created": 7}


def test_the_living_have_not_said_their_last_word() -> None:
    assert absorb(ExporterState(), [control("w1"), control("w2", alive=False)]) == ["w2"]


def test_a_count_that_goes_back_takes_nothing_away() -> None:
    state = ExporterState()
    for lost in (5, 2, 5, 6):
        absorb(state, [control("w1", lost=lost)])
    assert state.lost == {"worker_limit/created": 6}


@given(st.lists(st.dictionaries(st.sampled_from(["w1", "w2", "w3"]), st.integers(0, 5)), max_size=10))
def test_the_totals_are_the_sums_of_all_growth(rounds: list[dict[str, int]]) -> None:
    state, lost = ExporterState(), dict.fromkeys(["w1", "w2", "w3"], 0)
    for growth in rounds:
        lost = {worker: count + growth.get(worker, 0) for worker, count in lost.items()}
        absorb(state, [control(worker, lost=count) for worker, count in lost.items()])
        assert sum(state.lost.values()) == sum(lost.values())


def test_living_workers_are_counted_by_hook_and_state() -> None:
    controls = [
        control("w1", hooks={"tracker": (True, 0), "sqlalchemy": (False, 3)}),
        control("w2", hooks={"tracker": (True, 0), "sqlalchemy": (True, 0)}),
        control("w3", hooks={"tracker": (True, 0)}, alive=False),
    ]
    assert {pair: count for pair, count in hook_workers(controls).items() if count} == {
        ("tracker", "active"): 2,
        ("sqlalchemy", "active"): 1,
        ("sqlalchemy", "inactive"): 1,
    }


def test_every_hook_of_this_version_is_there_without_workers() -> None:
    assert hook_workers([]) == {(hook, state): 0 for hook in HOOKS for state in ("active", "inactive")}


def test_a_control_block_that_cannot_be_read_for_once_is_not_counted_again() -> None:
    state = ExporterState()
    absorb(state, [control("w1", lost=2)])
    absorb(state, [])
    absorb(state, [control("w1", lost=3)])
    assert state.lost == {"worker_limit/created": 3}


def test_damaged_counts_stay_storable_however_many_there_are() -> None:
    state = ExporterState()
    for number in range(3):
        absorb(state, [control(f"w{number}", lost=(1 << 63) - 1)])
    assert state.lost == {"worker_limit/created": (1 << 63) - 1}


def using(worker: str, *, alive: bool = True, waits: int = 0, **figures: int) -> Control:
    gauges = {name: figures.get(name, 0) for name in GAUGES}
    counts = {name: figures.get(name, 0) for name in COUNTS}
    return Control(Writer(worker), alive, 0, {}, {}, gauges, counts, [waits, 0, *[0] * 12], waits * 50)


def test_database_sessions_are_counted_over_all_workers_there_ever_were() -> None:
    state = ExporterState()
    absorb(state, [using("w1", db_sessions_opened=3, waits=2), using("w2", db_sessions_opened=4, waits=1)])
    absorb(state, [using("w1", db_sessions_opened=5, waits=2)], gone=["w2"])
    figures = db_figures(state, [using("w1", db_sessions_opened=5, waits=2)])
    assert (figures.opened, figures.pool_waits.counts[0]) == (9, 3)
    assert figures.pool_waits.sum_s == pytest.approx(150e-6)


def test_only_living_workers_have_sessions_and_connections_in_use() -> None:
    controls = [
        using("w1", db_open_sessions=2, db_pool_idle=3, db_pool_used=1),
        using("w2", db_open_sessions=1, db_pool_idle=1, db_pool_used=1),
        using("w3", alive=False, db_open_sessions=7, db_pool_used=7),
    ]
    figures = db_figures(ExporterState(), controls)
    assert (figures.open_sessions, figures.pool_connections) == (3, {"idle": 4, "used": 2})


def test_the_peak_is_of_all_workers_at_a_commit_or_of_one_at_any_time_and_never_falls() -> None:
    state = ExporterState()
    figures = db_figures(state, [using("w1", db_open_sessions=2), using("w2", db_open_sessions=2)])
    assert figures.peak_open_sessions == 4
    assert db_figures(state, [using("w1", db_peak_open_sessions=9)]).peak_open_sessions == 9
    assert db_figures(state, []).peak_open_sessions == 9


def test_what_is_open_when_its_worker_dies_has_leaked_unless_it_had_before() -> None:
    state = ExporterState()
    figures = {"db_open_sessions": 3, "db_overdue_sessions": 1, "db_sessions_leaked": 2}
    absorb(state, [using("w1", **figures)])
    assert db_figures(state, []).leaked == 2
    for _ in range(2):
        absorb(state, [using("w1", alive=False, **figures)])
    assert db_figures(state, []).leaked == 4
