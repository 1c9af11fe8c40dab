"""Times, gaps and lists as people read them."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TENTH_MS_US: Final = 100
_MS_US: Final = 1_000
_SECOND_US: Final = 1_000_000
_MINUTE_US: Final = 60 * _SECOND_US
_LONG_US: Final = 10 * _MINUTE_US
_HOUR_US: Final = 60 * _MINUTE_US
_DAY_US: Final = 24 * _HOUR_US
_NAMED_MAX: Final = 5
_TIMES: Final = ("never", "once", "twice")


def gap_text(gap_us: float) -> str:
    """Write a span of time, in microseconds: `0.04 ms`, `116.2 ms`, `4.25 s`, `31 min`, `5 h`, `12 days`."""
    size_us = abs(gap_us)
    if 0 < size_us < _TENTH_MS_US:
        return f"{gap_us / _MS_US:.2f} ms"
    if size_us < _SECOND_US:
        return f"{gap_us / _MS_US:.1f} ms"
    if size_us < _LONG_US:
        return f"{gap_us / _SECOND_US:.2f} s"
    if size_us < 2 * _HOUR_US:
        return f"{gap_us / _MINUTE_US:.0f} min"
    return f"{gap_us / _HOUR_US:.0f} h" if size_us < 2 * _DAY_US else f"{gap_us / _DAY_US:.0f} days"


def clock_text(at_us: int) -> str:
    """Write the time of day, UTC, in milliseconds: `21:12:25.100`."""
    at = _EPOCH + timedelta(microseconds=at_us)
    return f"{at:%H:%M:%S}.{at.microsecond // _MS_US:03d}"


def moment_text(at_us: int) -> str:
    """Write a time, UTC, in milliseconds: `2027-01-15 21:12:25.100Z`."""
    return f"{_EPOCH + timedelta(microseconds=at_us):%Y-%m-%d} {clock_text(at_us)}Z"


def moment_us(text: str) -> int:
    """Read an ISO 8601 time, UTC when it names no zone, as microseconds since the epoch; 0 when it is none."""
    try:
        at = datetime.fromisoformat(text)
        return (at.replace(tzinfo=at.tzinfo or UTC) - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        return 0


def times_text(count: int) -> str:
    """Write how often: `once`, `twice`, `3 times`."""
    return _TIMES[count] if 0 <= count < len(_TIMES) else f"{count} times"


def listed(names: Iterable[str]) -> str:
    """Join names, each once: `a`, `a and b`, `a, b and c`; of many the first few."""
    each = list(dict.fromkeys(name for name in names if name))
    if len(each) > _NAMED_MAX:
        each = [*each[: _NAMED_MAX - 1], f"{len(each) - _NAMED_MAX + 1} more"]
    return " and ".join([", ".join(each[:-1]), each[-1]] if len(each) > 1 else each)


def deciding_depth(chains: Sequence[Sequence[str]]) -> int:
    """At which frame, the innermost being 0, most of these chains of call sites differ; the innermost such frame."""
    counts = [len(set(frames)) for frames in zip_longest(*chains, fillvalue="")]
    return counts.index(max(counts)) if counts else 0


def places(chains: Sequence[Sequence[str]]) -> list[str]:
    """For each chain of call sites the frame that tells it from the others; `""` for an empty one.

    A service that everybody calls is everybody's innermost frame, and says nothing.
    """
    depth = deciding_depth(chains)
    return [chain[min(depth, len(chain) - 1)] if chain else "" for chain in chains]
