"""What is kept longest ago is forgotten first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.stream.bounded import BoundedDict


@pytest.mark.parametrize("most", [1, 2, 8, 100])
def test_there_are_never_more_than_so_many(most) -> None:
    memory = BoundedDict(most)
    for number in range(1000):
        memory.keep(number, str(number))
        assert len(memory) <= most
        assert memory[number] == str(number)


@given(st.integers(1, 20), st.lists(st.integers(0, 30)))
def test_the_latest_are_always_there(most, kept) -> None:
    memory = BoundedDict(most)
    for number in kept:
        memory.keep(number, number)
    latest = list(dict.fromkeys(reversed(kept)))[: most - most // 8 - 1]
    assert set(latest) <= set(memory)


def test_to_keep_something_again_makes_it_the_latest_and_costs_nobody_the_place() -> None:
    memory = BoundedDict(3)
    for key in ("a", "b", "c", "a"):
        memory.keep(key, None)
    assert list(memory) == ["b", "c", "a"]
    memory.keep("d", None)
    assert list(memory) == ["c", "a", "d"]
