"""The counts: histograms, days, the ratio."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.core.scopes import CAUSES, END_REASONS, LOSS_REASONS
from session_exporter.core.totals import (
    DAY_US,
    DURATION_BUCKETS_S,
    INTERVAL_BUCKETS_S,
    LOOKUP_BUCKETS_S,
    Histogram,
    ScopeTotals,
    interval_buckets,
)

NOON_US = 20_000 * DAY_US + DAY_US // 2
bounds = st.sets(st.integers(1, 50), min_size=1, max_size=8).map(
    lambda found: tuple(float(each) for each in sorted(found))
)


@given(bounds, st.lists(st.integers(0, 60)))
def test_each_observation_goes_to_the_first_bucket_whose_bound_it_does_not_exceed(
    bounds_s: tuple[float, ...], values_s: list[int]
) -> None:
    histogram = Histogram(bounds_s)
    for value_s in values_s:
        histogram.observe(value_s)
    cumulative = [sum(histogram.counts[: index + 1]) for index in range(len(bounds_s))]
    assert cumulative == [sum(value_s <= bound_s for value_s in values_s) for bound_s in bounds_s]
    assert (sum(histogram.counts), histogram.sum_s) == (len(values_s), sum(values_s))


@given(bounds, bounds, st.lists(st.integers(0, 60)))
def test_other_bounds_lose_no_observation_and_never_claim_one_is_smaller_than_it_was(
    bounds_s: tuple[float, ...], others_s: tuple[float, ...], values_s: list[int]
) -> None:
    histogram = Histogram(bounds_s)
    for value_s in values_s:
        histogram.observe(value_s)
    histogram.rebound(others_s)
    assert len(histogram.counts) == len(others_s) + 1
    assert (sum(histogram.counts), histogram.sum_s) == (len(values_s), sum(values_s))
    for index, bound_s in enumerate(others_s):
        assert sum(histogram.counts[: index + 1]) <= sum(value_s <= bound_s for value_s in values_s)


@given(bounds, st.lists(st.integers(0, 60)))
def test_the_same_bounds_change_nothing(bounds_s: tuple[float, ...], values_s: list[int]) -> None:
    histogram = Histogram(bounds_s)
    for value_s in values_s:
        histogram.observe(value_s)
    counts = list(histogram.counts)
    histogram.rebound(bounds_s)
    assert histogram.counts == counts


def test_two_histograms_share_no_counts() -> None:
    one, other = ScopeTotals(), ScopeTotals()
    one.durations.observe(1.0)
    one.ends["completed"] += 1
    assert sum(other.durations.counts) == other.ends["completed"] == 0


@pytest.mark.parametrize("buckets_s", [INTERVAL_BUCKETS_S, DURATION_BUCKETS_S, LOOKUP_BUCKETS_S])
def test_buckets_ascend(buckets_s: tuple[float, ...]) -> None:
    assert list(buckets_s) == sorted(set(buckets_s))


def test_the_duplicate_window_of_every_scope_is_a_bound_of_intervals() -> None:
    assert interval_buckets([10_000_000]) == INTERVAL_BUCKETS_S
    assert set(interval_buckets([3_000_000, 10_000_000, 750_000])) == {*INTERVAL_BUCKETS_S, 3.0, 0.75}


def test_every_label_is_there_at_zero() -> None:
    totals = ScopeTotals()
    assert totals.ends == dict.fromkeys(END_REASONS, 0)
    assert totals.duplicates == dict.fromkeys(CAUSES, 0)
    assert totals.losses == dict.fromkeys(LOSS_REASONS, 0)


@pytest.mark.parametrize(("creates", "reuses", "ratio"), [(5, 95, 0.95), (0, 3, 1.0), (3, 0, 0.0)])
def test_the_ratio_is_the_share_of_reuses(creates: int, reuses: int, ratio: float) -> None:
    assert ScopeTotals(creates=creates, reuses=reuses).reuse_ratio == ratio


def test_the_ratio_is_no_number_before_traffic() -> None:
    assert math.isnan(ScopeTotals(adopted=3, lookups=7).reuse_ratio)


def test_duplicates_of_every_cause_add_up() -> None:
    totals = ScopeTotals()
    totals.duplicates |= {"same_request": 2, "cross_replica": 3}
    assert totals.duplicate_creates == 5


def test_what_happens_today_is_counted_today() -> None:
    totals = ScopeTotals()
    totals.count_minute(NOON_US, reuses=3, creates=1)
    totals.count_minute(NOON_US + DAY_US // 2 - 1, reuses=2, creates=1)
    assert (totals.reuses, totals.reuses_today, totals.creates_today) == (5, 5, 2)


def test_a_new_utc_day_starts_anew_at_midnight() -> None:
    totals = ScopeTotals()
    totals.count_minute(NOON_US, reuses=3, creates=1)
    totals.count_minute(NOON_US + DAY_US // 2, reuses=1, creates=0)
    assert (totals.reuses, totals.reuses_today, totals.creates_today) == (4, 1, 0)


def test_what_arrives_late_from_yesterday_is_not_of_today() -> None:
    totals = ScopeTotals()
    totals.count_minute(NOON_US, reuses=3, creates=1)
    totals.count_minute(NOON_US - DAY_US, reuses=9, creates=9)
    assert (totals.reuses, totals.reuses_today, totals.creates_today) == (12, 3, 1)
