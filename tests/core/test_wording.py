"""Times, gaps, lists and call sites as people read them."""

import pytest

from session_exporter.core.stories.wording import (
    clock_text,
    deciding_depth,
    gap_text,
    listed,
    moment_text,
    moment_us,
    places,
    times_text,
)

AT_US = 1_800_000_000_000_000


@pytest.mark.parametrize(
    ("gap_us", "text"),
    [
        (0, "0.0 ms"),
        (40, "0.04 ms"),
        (-99, "-0.10 ms"),
        (116_200, "116.2 ms"),
        (999_900, "999.9 ms"),
        (4_250_000, "4.25 s"),
        (599_000_000, "599.00 s"),
        (1_860_000_000, "31 min"),
    ],
)
def test_a_gap_is_written_in_the_unit_that_people_compare(gap_us: int, text: str) -> None:
    assert gap_text(gap_us) == text


def test_a_time_is_written_in_milliseconds() -> None:
    assert clock_text(AT_US + 1_099_999) == "08:00:01.099"
    assert moment_text(AT_US + 1_099_999) == "2027-01-15 08:00:01.099Z"


@pytest.mark.parametrize(
    ("text", "at_us"),
    [
        ("2027-01-15T08:00:00.000001Z", AT_US + 1),
        ("2027-01-15T08:00:00", AT_US),
        ("2027-01-15T09:00:00+01:00", AT_US),
        ("yesterday", 0),
        ("", 0),
        ("0001-01-01T00:00:00+23:59", -62_135_683_140_000_000),
    ],
)
def test_a_time_is_read_as_utc_and_what_is_none_is_none(text: str, at_us: int) -> None:
    assert moment_us(text) == at_us


def test_names_are_listed_once_and_many_are_counted() -> None:
    assert listed([]) == ""
    assert listed(["a", "", "a"]) == "a"
    assert listed(["a", "b"]) == "a and b"
    assert listed("abcde") == "a, b, c, d and e"
    assert listed("abcdefg") == "a, b, c, d and 3 more"


def test_counts_are_words_up_to_two() -> None:
    assert [times_text(count) for count in (1, 2, 3)] == ["once", "twice", "3 times"]


def test_the_frame_that_tells_chains_of_call_sites_apart_is_found() -> None:
    chains = [("service", "pipeline", "main"), ("service", "handler", "main"), ("service", "handler")]
    assert deciding_depth(chains) == 1
    assert places(chains) == ["pipeline", "handler", "handler"]
    assert places([("a",), ("b",), ()]) == ["a", "b", ""]
    assert places([("a", "x"), ("a", "x")]) == ["a", "a"]
    assert places([]) == []
