"""The heaviest keys are found in little memory, and what is said of each of them is certain."""

import random
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.core.heavy_hitters import SCALE_MAX, HeavyHitters, Weights

KEYS = st.integers(0, 30).map(lambda number: b"%d" % number)
STEPS = st.lists(
    st.one_of(
        st.tuples(KEYS, st.sampled_from([0.5, 1.0, 2.0, 10.0])),
        st.tuples(st.just(None), st.sampled_from([0.0, 0.25, 1.0, 3.0, 41.0])),
    ),
    max_size=150,
)


def restarted(hitters: HeavyHitters, places: int) -> HeavyHitters:
    stored = msgspec.msgpack.encode(hitters.weights())
    return HeavyHitters(places, msgspec.msgpack.decode(stored, type=Weights))


def fed(places: int, steps: list[tuple[bytes | None, float]], restarts: int = 0) -> tuple[HeavyHitters, Counter[bytes]]:
    """What is held after adding weight, or letting it fade where there is no key; and what each key really weighs."""
    hitters, true = HeavyHitters(places), Counter[bytes]()
    for place, (key, amount) in enumerate(steps):
        if key is None:
            hitters.fade(amount)
            for each in true:
                true[each] *= 0.5**amount
        else:
            hitters.add(key, amount)
            true[key] += amount
        if restarts and place % restarts == 0:
            hitters = restarted(hitters, places)
    return hitters, true


@given(places=st.integers(1, 12), steps=STEPS, restarts=st.integers(0, 5))
def test_what_a_key_weighs_lies_between_what_is_said_of_it(
    places: int, steps: list[tuple[bytes | None, float]], restarts: int
) -> None:
    hitters, true = fed(places, steps, restarts)
    slack = 1e-9 * (1 + sum(true.values()))
    for key in [*true, b"never seen"]:
        assert hitters.at_least(key) - slack <= true[key] <= hitters.at_most(key) + slack


@given(places=st.integers(1, 12), steps=STEPS)
def test_no_error_exceeds_the_weight_of_everything_divided_by_the_places(
    places: int, steps: list[tuple[bytes | None, float]]
) -> None:
    hitters, true = fed(places, steps)
    bound = sum(true.values()) / places * (1 + 1e-9) + 1e-12
    for key in true:
        assert hitters.at_most(key) - hitters.at_least(key) <= bound
        if true[key] > bound:
            assert hitters.at_least(key) > 0


@given(places=st.integers(1, 12), steps=STEPS)
def test_memory_is_bounded(places: int, steps: list[tuple[bytes | None, float]]) -> None:
    hitters, true = fed(places, steps)
    assert len(hitters) == len(hitters.weights().entries) == min(places, len(true))


@given(before=st.integers(1, 12), after=st.integers(1, 12), steps=STEPS, more=STEPS)
def test_with_fewer_or_more_places_what_is_said_stays_true(
    before: int, after: int, steps: list[tuple[bytes | None, float]], more: list[tuple[bytes | None, float]]
) -> None:
    hitters, true = fed(before, steps)
    hitters = restarted(hitters, after)
    assert len(hitters) <= after
    for key, amount in more:
        if key is not None:
            hitters.add(key, amount)
            true[key] += amount
    slack = 1e-9 * (1 + sum(true.values()))
    assert all(hitters.at_least(key) - slack <= true[key] <= hitters.at_most(key) + slack for key in true)


@pytest.mark.parametrize("seed", range(3))
def test_the_heaviest_of_many_come_out_in_their_order(seed: int) -> None:
    choose = random.Random(seed)
    keys = [b"%d" % number for number in range(20_000)]
    weights = [1 / (rank + 1) for rank in range(len(keys))]
    hitters = HeavyHitters(200)
    for key in choose.choices(keys, weights, k=50_000):
        hitters.add(key, 1.0)
    assert hitters.heaviest(3) == keys[:3]
    assert set(hitters.heaviest(10)) <= set(keys[:15])


def test_who_was_heavy_yesterday_is_light_today() -> None:
    hitters = HeavyHitters(10)
    hitters.add(b"yesterday", 1000.0)
    hitters.fade(24)
    hitters.add(b"today", 1.0)
    assert hitters.heaviest(1) == [b"today"]
    assert hitters.at_least(b"yesterday") == pytest.approx(1000 / 2**24)


def test_weights_stay_what_they_are_when_they_are_written_anew() -> None:
    hitters = HeavyHitters(10)
    for _ in range(500):
        hitters.add(b"steady", 1.0)
        hitters.fade(1.0)
    assert hitters.at_least(b"steady") == pytest.approx(1.0)
    assert hitters.weights().scale <= SCALE_MAX


def test_after_any_time_nothing_overflows() -> None:
    hitters = HeavyHitters(2)
    for key in (b"a", b"b", b"c"):
        hitters.add(key, 10.0)
        hitters.fade(1e12)
    hitters.add(b"d", 1.0)
    assert hitters.heaviest(1) == [b"d"]
