"""When a look is due again."""

from hypothesis import given
from hypothesis import strategies as st

from session_exporter.watch.schedule import Schedule

shares = st.floats(0.0, 1.0)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def scheduled(every_s: float, share: float = 0.5) -> tuple[Clock, Schedule]:
    """A schedule whose chance is always the same share of what is possible."""
    clock = Clock()
    return clock, Schedule(every_s, clock, lambda least, most: least + share * (most - least))


def test_the_first_time_is_at_once() -> None:
    _, schedule = scheduled(5.0)
    assert schedule.wait_s() <= 0


@given(shares)
def test_the_next_time_is_an_interval_later_give_or_take_a_tenth(share: float) -> None:
    clock, schedule = scheduled(5.0, share)
    schedule.begin()
    clock.now_s += 3.0
    schedule.succeed()
    assert 1.5 <= round(schedule.wait_s(), 6) <= 2.5


@given(shares)
def test_after_failures_it_is_waited_longer_each_time_but_not_for_ever(share: float) -> None:
    _, schedule = scheduled(5.0, share)
    waits = []
    for _ in range(20):
        schedule.begin()
        schedule.fail()
        waits.append(schedule.wait_s())
    assert waits == sorted(waits)
    assert 0.09 < waits[0] <= 0.21
    assert waits[-1] <= 30.0


def test_after_a_success_the_next_failure_is_a_first_one() -> None:
    clock, schedule = scheduled(5.0, 1.0)
    for _ in range(10):
        schedule.fail()
    clock.now_s += 60.0
    schedule.succeed()
    schedule.fail()
    assert round(schedule.wait_s(), 6) == 0.2
