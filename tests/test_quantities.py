"""Durations, sizes and ranges, there and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.quantities import (
    format_duration,
    format_ranges,
    format_size,
    parse_duration,
    parse_ranges,
    parse_size,
)


@given(st.integers(0, 9_000_000_000_000_000))
def test_a_formatted_duration_parses_to_itself(duration_us: int) -> None:
    assert parse_duration(format_duration(duration_us)) == duration_us


@given(
    st.integers(0, 1 << 62) | st.integers(0, 5000).map(lambda n: n << 20) | st.integers(0, 5000).map(lambda n: n * 1000)
)
def test_a_formatted_size_parses_to_itself(size_bytes: int) -> None:
    # Numbers of more than 15 digits are refused when they are read; no range comes near them.
    size_bytes = size_bytes if size_bytes < 10**15 else size_bytes >> 20
    assert parse_size(format_size(size_bytes)) == size_bytes


@pytest.mark.parametrize(
    ("text", "duration_us"),
    [
        ("10s", 10_000_000),
        ("500ms", 500_000),
        ("30m", 1_800_000_000),
        ("2h", 7_200_000_000),
        ("30d", 2_592_000_000_000),
        ("1h30m", 5_400_000_000),
        ("1d0h7us", 86_400_000_007),
        ("0s", 0),
    ],
)
def test_a_duration_is_whole_numbers_with_units(text: str, duration_us: int) -> None:
    assert parse_duration(text) == duration_us


@pytest.mark.parametrize(
    "text", ["", "10", "s", "1.5s", "-1s", "30m1h", "1s1s", "10S", " 1s", "1s\n", "1w", "٣s", "9" * 16 + "s"]
)
def test_a_duration_in_another_form_is_refused_with_the_units_there_are(text: str) -> None:
    with pytest.raises(ValueError, match=r"units: d, h, m, s, ms, us"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("16MiB", 1 << 24), ("256KiB", 1 << 18), ("1GiB", 1 << 30), ("10MB", 10_000_000), ("7B", 7), ("0B", 0)],
)
def test_a_size_is_a_whole_number_with_a_unit(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes
    assert format_size(size_bytes) == text


@pytest.mark.parametrize(
    "text", ["", "16", "16M", "16mib", "1.5MiB", "-1B", "16 MiB", "1MiB1KiB", "16MiB\n", "9" * 16 + "B"]
)
def test_a_size_in_another_form_is_refused_with_the_units_there_are(text: str) -> None:
    with pytest.raises(ValueError, match=r"units: B, kB, MB"):
        parse_size(text)


@given(st.frozensets(st.integers(0, 9999), min_size=1))
def test_formatted_ranges_parse_to_themselves(numbers: frozenset[int]) -> None:
    assert parse_ranges(format_ranges(numbers)) == numbers


@pytest.mark.parametrize(
    ("text", "numbers"), [("0-7,9", {*range(8), 9}), ("3", {3}), ("1,2,3-3", {1, 2, 3}), ("5-6,0", {0, 5, 6})]
)
def test_ranges_are_numbers_and_pairs_of_them(text: str, numbers: set[int]) -> None:
    assert parse_ranges(text) == numbers


def test_ranges_are_written_as_short_as_they_can_be() -> None:
    assert format_ranges([9, 1, 0, 2, 2]) == "0-2,9"


@pytest.mark.parametrize("text", ["", "a", "-1", "1-", "7-0", "1,,2", "1 ,2", "0-99999", "٣"])
def test_ranges_in_another_form_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected whole numbers and ranges of them, such as 0-7,9"):
        parse_ranges(text)
