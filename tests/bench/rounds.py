"""Measurements that take turns, so that what else the machine does meets all of them alike."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from timeit import Timer


def take_turns(
    timers: Mapping[str, Timer], *, rounds: int, calls: int, between: Callable[[], None] = lambda: None
) -> dict[str, list[float]]:
    """Time each in every round: A B C, A B C, …; one round more comes first and is forgotten.

    Args:
        timers: What to time, by name.
        rounds: How often.
        calls: How many calls make one measurement.
        between: Called after each round, outside of what is measured.

    Returns:
        Microseconds per call, one for each round, by name.
    """
    taken_us: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(rounds + 1):
        for name, timer in timers.items():
            taken_us[name].append(timer.timeit(calls) / calls * 1e6)
        between()
    return {name: each[1:] for name, each in taken_us.items()}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios of single rounds."""
    return statistics.median(our / their for our, their in zip(ours, theirs, strict=True))
