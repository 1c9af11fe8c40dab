"""Redis' clock against this host's, with both in hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.stream.clock import SAMPLES, TOLERATED_US, ServerClock

NOW_US = 1_800_000_000_000_000


class Clocks:
    """Two clocks, and a way between them that takes as long as it is told, there and back."""

    def __init__(self, ahead_us=0):
        self.own_us = NOW_US
        self.ahead_us = ahead_us
        self.trips = [(0, 0)]
        self._asked = 0
        self.monotonic_s = 0.0
        self.clock = ServerClock(self._ask, lambda: self.own_us * 1000, lambda: self.monotonic_s)

    def _ask(self):
        there_us, back_us = self.trips[self._asked % len(self.trips)]
        self._asked += 1
        self.own_us += there_us
        theirs_us = self.own_us + self.ahead_us
        self.own_us += back_us
        return theirs_us


@given(st.integers(-TOLERATED_US, TOLERATED_US))
def test_clocks_that_agree_well_enough_are_left_alone(ahead_us):
    clocks = Clocks(ahead_us)
    assert not clocks.clock.measure()
    assert (clocks.clock.skew_us, clocks.clock.correction_us) == (ahead_us, 0)


@given(st.integers(TOLERATED_US + 1, 1 << 40) | st.integers(-(1 << 40), -TOLERATED_US - 1))
def test_clocks_that_differ_are_corrected_by_what_was_measured(ahead_us):
    clocks = Clocks(ahead_us)
    assert clocks.clock.measure()
    assert clocks.clock.correction_us == ahead_us
    assert clocks.clock.now_us() == clocks.own_us + ahead_us


def test_a_correction_stays_until_the_clocks_have_departed_from_it():
    clocks = Clocks(3_000_000)
    clocks.clock.measure()
    for drift_us in (-TOLERATED_US, TOLERATED_US, 0):
        clocks.ahead_us = 3_000_000 + drift_us
        assert not clocks.clock.measure()
        assert clocks.clock.correction_us == 3_000_000
    clocks.ahead_us = 3_000_001 + TOLERATED_US
    assert clocks.clock.measure()
    assert clocks.clock.correction_us == clocks.ahead_us


def test_a_clock_that_was_mended_is_corrected_no_longer():
    clocks = Clocks(150_000)
    clocks.clock.measure()
    clocks.ahead_us = 60_000
    assert not clocks.clock.measure()
    assert clocks.clock.correction_us == 150_000
    clocks.ahead_us = 40_000
    assert clocks.clock.measure()
    assert (clocks.clock.skew_us, clocks.clock.correction_us) == (40_000, 0)


def test_the_quickest_answer_is_believed():
    clocks = Clocks(2_000_000)
    clocks.trips = [(900_000, 10), (300, 200), (10, 400_000), (5_000, 5_000), (700, 0)][:SAMPLES]
    clocks.clock.measure()
    assert clocks.clock.skew_us == pytest.approx(2_000_000, abs=250)


def test_a_way_that_takes_long_is_no_difference_of_the_clocks():
    clocks = Clocks(0)
    clocks.trips = [(400_000, 0)]
    assert not clocks.clock.measure()
    assert clocks.clock.skew_us == 200_000
    assert clocks.clock.correction_us == 0


def test_a_clock_that_is_set_while_it_is_read_is_not_believed():
    clocks = Clocks(0)
    clocks.trips = [(3_600_000_000, -10), (20, 20), (-3_600_000_000, 0), (20, 30), (30, 20)]
    assert not clocks.clock.measure()
    assert clocks.clock.skew_us == 0


def test_a_clock_that_is_set_is_noticed_until_it_is_measured():
    clocks = Clocks(0)
    clocks.clock.measure()
    for _ in range(100):
        clocks.own_us += 1_000_000
        clocks.monotonic_s += 1.0
        assert not clocks.clock.was_set()
    clocks.own_us -= 200_000
    assert clocks.clock.was_set()
    clocks.clock.measure()
    assert not clocks.clock.was_set()


def test_before_the_first_measurement_both_are_one():
    clocks = Clocks(7_000_000)
    assert clocks.clock.now_us() == clocks.clock.own_us() == NOW_US
