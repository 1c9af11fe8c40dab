"""What workers count themselves, added up over all that ever were."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from session_exporter.core.events import Writer
from session_exporter.journal import Control
from session_exporter.sidecar.records import ExporterState
from session_exporter.sidecar.workers import absorb, hook_workers


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
    assert hook_workers(controls) == {
        ("tracker", "active"): 2,
        ("tracker", "inactive"): 0,
        ("sqlalchemy", "active"): 1,
        ("sqlalchemy", "inactive"): 1,
    }


def test_the_hook_that_every_version_has_is_there_without_workers() -> None:
    assert hook_workers([]) == {("tracker", "active"): 0, ("tracker", "inactive"): 0}


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
