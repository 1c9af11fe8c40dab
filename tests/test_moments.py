from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.moments import MomentError, duration_us, moment_us

NOON = datetime(2026, 11, 20, 12, 0, 0, 250_000, tzinfo=UTC)
NOON_US = 1_795_176_000_250_000


@pytest.mark.parametrize(
    "value",
    [
        NOON,
        NOON.astimezone(timezone(timedelta(hours=5, minutes=30))),
        NOON_US / 1_000_000,
        "2026-11-20T12:00:00.25Z",
        "2026-11-20T13:00:00.250000+01:00",
    ],
)
def test_every_form_of_a_moment_is_the_same_microsecond(value: Any) -> None:
    assert moment_us(value) == NOON_US


def test_whole_seconds_may_be_an_int() -> None:
    assert moment_us(1_795_176_000) == 1_795_176_000_000_000


def test_none_is_not_known() -> None:
    assert moment_us(None) == 0


@pytest.mark.parametrize(
    "value",
    [
        NOON.replace(tzinfo=None),
        "2026-11-20T12:00:00",
        "yesterday",
        -1,
        0,
        float("nan"),
        float("inf"),
        NOON_US // 1000,
        10**400,
        True,
        object(),
        datetime(1960, 1, 1, tzinfo=UTC),
        datetime(9999, 1, 1, tzinfo=UTC),
    ],
)
def test_a_time_that_says_nothing_certain_is_refused(value: Any) -> None:
    with pytest.raises(MomentError, match="created_at"):
        moment_us(value)


@given(st.datetimes(datetime(1970, 1, 2), datetime(2254, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001 - bounds
def test_an_aware_datetime_loses_no_microsecond(value: Any) -> None:
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment_us(value)) == value


def test_a_duration_is_rounded_to_microseconds() -> None:
    assert duration_us(0.0000125) == 12
    assert duration_us(2) == 2_000_000


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), True, "1", None, object()])
def test_a_duration_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(MomentError, match="duration_s"):
        duration_us(value)


def test_a_duration_beyond_all_bounds_is_held_at_the_largest() -> None:
    assert duration_us(1e300) == 9_000_000_000_000_000
