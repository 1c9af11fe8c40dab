"""Which partitions of a fleet's streams are read, as a Prometheus has it: what nobody reads is counted by nobody."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, NamedTuple

from session_exporter.cli.prometheus import Prometheus
from session_exporter.cli.prometheus_queries import Selection, Target, target_of
from session_exporter.core.shares import PARTITIONS_MAX
from session_exporter.quantities import format_ranges

_PARTITION: Final = "partition"
_DIGITS_MAX: Final = 4


class Readership(NamedTuple):
    """What a consumer says of itself.

    Attributes:
        target: Whose word it is.
        partitions: How many there are, whoever reads them; 0 when it does not say, being of an older version.
        owned: Those that it reads.
    """

    target: Target
    partitions: int
    owned: frozenset[int]


@dataclass(frozen=True, slots=True)
class Coverage:
    """Who reads the partitions of streams, of which there are so many.

    Attributes:
        readers: Of each partition, from 0 on; a consumer that is scraped twice is one.
    """

    readers: tuple[frozenset[Target], ...]

    @property
    def unread(self) -> list[int]:
        """The partitions that no consumer reads."""
        return [number for number, who in enumerate(self.readers) if not who]

    @property
    def shared(self) -> list[int]:
        """The partitions that more than one consumer reads: of several fleets, or by mistake."""
        return [number for number, who in enumerate(self.readers) if len(who) > 1]

    @property
    def is_even(self) -> bool:
        """Whether all that are read are read by as many, as those of several whole fleets are."""
        return len({len(who) for who in self.readers if who}) <= 1

    def named(self, numbers: Iterable[int]) -> str:
        """Say which of how many."""
        listed = format_ranges(numbers)
        return f"partition{'' if listed.isdecimal() else 's'} {listed} of {len(self.readers)}"


def readerships(prometheus: Prometheus, selection: Selection, at_s: float) -> list[Readership]:
    """Ask what consumers read at a moment; raises as `Prometheus.instant` does."""
    owned: dict[Target, set[int]] = {}
    for series in prometheus.instant(selection.of_exporters(("session_exporter_stream_lag_seconds",)), at_s=at_s):
        target = target_of({name: value for name, value in series.metric.items() if name != _PARTITION})
        owned.setdefault(target, set()).update(_number(series.metric.get(_PARTITION, "")))
    partitions = {
        target_of(series.metric): min(max(round(series.number), 0), PARTITIONS_MAX)
        for series in prometheus.instant(selection.of_exporters(("session_exporter_stream_partitions",)), at_s=at_s)
    }
    return [Readership(target, partitions.get(target, 0), frozenset(found)) for target, found in owned.items()]


def coverages(found: Iterable[Readership], together: AbstractSet[frozenset[Target]]) -> list[Coverage]:
    """Put together what consumers read, by how many partitions there are: a fleet agrees on that.

    Args:
        found: What they say; who does not say how many there are is taken to be of the largest fleet.
        together: Groups of targets that are one consumer.
    """
    said = list(found)
    most = max((each.partitions for each in said), default=0)
    fleets: dict[int, list[Readership]] = {}
    for each in said:
        fleets.setdefault(each.partitions or most, []).append(each)
    first = {target: min(group) for group in together for target in group}
    return [Coverage(_readers(partitions, fleets[partitions], first)) for partitions in sorted(fleets) if partitions]


def _readers(
    partitions: int, found: Iterable[Readership], first: Mapping[Target, Target]
) -> tuple[frozenset[Target], ...]:
    readers: list[set[Target]] = [set() for _ in range(partitions)]
    for each in found:
        for number in each.owned:
            if number < partitions:
                readers[number].add(first.get(each.target, each.target))
    return tuple(map(frozenset, readers))


def _number(text: str) -> list[int]:
    """The number of a partition; none of the shared stream, which everybody reads."""
    return [int(text)] if text.isdecimal() and text.isascii() and len(text) <= _DIGITS_MAX else []
