"""Durations and sizes as people write them: `10s`, `1h30m`, `16MiB`; whole numbers with a unit. And ranges: `0-7,9`.

Pure: texts to whole microseconds, bytes and numbers, and back. What is formatted parses to what it was made from.
"""

import re
from collections.abc import Iterable
from typing import Final

_US_PER_UNIT: Final = {
    "d": 86_400_000_000,
    "h": 3_600_000_000,
    "m": 60_000_000,
    "s": 1_000_000,
    "ms": 1_000,
    "us": 1,
}
# Binary before decimal, large before small: the order in which a size looks for a unit that divides it.
_BYTES_PER_UNIT: Final = {
    "TiB": 1 << 40,
    "GiB": 1 << 30,
    "MiB": 1 << 20,
    "KiB": 1 << 10,
    "TB": 10**12,
    "GB": 10**9,
    "MB": 10**6,
    "kB": 10**3,
    "B": 1,
}
# 15 digits are more than any range allows, and keep hostile numbers short.
_DURATION: Final = re.compile("".join(f"(?:([0-9]{{1,15}}){unit})?" for unit in _US_PER_UNIT))
_SIZE: Final = re.compile(f"([0-9]{{1,15}})({'|'.join(_BYTES_PER_UNIT)})")

# Four digits keep hostile ranges short.
_RANGE: Final = re.compile("([0-9]{1,4})(?:-([0-9]{1,4}))?")

DURATION_FORM: Final = "a duration with its unit, such as 500ms, 10s, 30m, 2h, 1h30m or 30d (units: d, h, m, s, ms, us)"
SIZE_FORM: Final = "a size with its unit, such as 256KiB, 16MiB or 10MB (units: B, kB, MB, GB, TB, KiB, MiB, GiB, TiB)"
RANGES_FORM: Final = "whole numbers and ranges of them, such as 0-7,9"


def parse_duration(text: str) -> int:
    """Read a duration: whole numbers with units, largest unit first, each unit at most once.

    Returns:
        Microseconds, 0 or more.

    Raises:
        ValueError: The text has another form; the message says which form was expected.
    """
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"expected {DURATION_FORM}")
    counts = match.groups(default="0")
    return sum(int(count) * us for count, us in zip(counts, _US_PER_UNIT.values(), strict=True))


def format_duration(duration_us: int) -> str:
    """Write a duration of 0 or more microseconds in its largest units: 5,400,000,000 is `1h30m`, 0 is `0s`."""
    parts = []
    for unit, us in _US_PER_UNIT.items():
        count, duration_us = divmod(duration_us, us)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_size(text: str) -> int:
    """Read a size: one whole number with one unit, binary (`KiB`: 1024) or decimal (`kB`: 1000).

    Returns:
        Bytes, 0 or more.

    Raises:
        ValueError: The text has another form; the message says which form was expected.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"expected {SIZE_FORM}")
    return int(match[1]) * _BYTES_PER_UNIT[match[2]]


def format_size(size_bytes: int) -> str:
    """Write a size of 0 or more bytes in the largest unit that divides it, binary units first: 2**24 is `16MiB`."""
    if not size_bytes:
        return "0B"
    unit = next(unit for unit, unit_bytes in _BYTES_PER_UNIT.items() if size_bytes % unit_bytes == 0)
    return f"{size_bytes // _BYTES_PER_UNIT[unit]}{unit}"


def parse_ranges(text: str) -> frozenset[int]:
    """Read whole numbers: `0-7,9` are 0 to 7, and 9.

    Raises:
        ValueError: The text has another form; the message says which form was expected.
    """
    found: set[int] = set()
    for part in text.split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise ValueError(f"expected {RANGES_FORM}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"expected {RANGES_FORM}; ranges are ascending: {last}-{first}")
        found.update(range(first, last + 1))
    return frozenset(found)


def format_ranges(numbers: Iterable[int]) -> str:
    """Write whole numbers, each once, in their order: 0 to 7, and 9, are `0-7,9`."""
    ranges: list[list[int]] = []
    for number in sorted(set(numbers)):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
