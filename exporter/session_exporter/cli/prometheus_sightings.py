"""What a Prometheus has seen of our counters at the end of a span, and by which counting each was made.

A counting is what one state counts: `_created` is its name. It survives restarts, and moves with its state to another
instance; two instances that show the same one are one sidecar scraped twice. Within it a counter never falls.
"""

import math
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from session_exporter.cli.prometheus import Prometheus, Series
from session_exporter.cli.prometheus_queries import (
    CENSUS,
    COUNTERS,
    EXPORTER_COUNTERS,
    Selection,
    Target,
    over,
    target_of,
)

# When its scope and its exporter began to count, as they say it: two clocks read one after the other, to the
# microsecond, so that two states hardly ever agree.
Counting: TypeAlias = tuple[str, ...]
# Nobody scrapes more often than ten times a second.
_PIECE_MIN_S: Final = 0.1


class Span(NamedTuple):
    """From one moment to another, both within it; seconds since the epoch."""

    from_s: float
    to_s: float

    @property
    def range(self) -> str:
        """As PromQL has it, evaluated at the end. Prometheus 3 leaves the first millisecond out."""
        return over(self.to_s - self.from_s + 0.001)


class SeriesPlace(NamedTuple):
    """One series of a counter: the instance's, the metric's name, the scope (`""` without) and its other words."""

    target: Target
    name: str
    scope: str
    words: str

    @property
    def counted(self) -> "Counted":
        """What it counts, whoever does."""
        return Counted(self.name, self.scope, self.words)


# An instance in a scope, or its exporter under the scope `""`.
Pair: TypeAlias = tuple[Target, str]


class Counted(NamedTuple):
    """What is counted: a place without the instance."""

    name: str
    scope: str
    words: str


@dataclass(frozen=True, slots=True)
class SeenSeries:
    """The last that was seen in a span.

    Attributes:
        values: Of each counter that was above 0.
        births: Of each instance's scopes, and of itself under the scope `""`: when counting began.
    """

    values: Mapping[SeriesPlace, float]
    births: Mapping[Pair, str]

    @property
    def targets(self) -> set[Target]:
        """The instances that say when they began."""
        return {target for target, _ in self.births}

    def pairs(self) -> set[Pair]:
        """Whose counters were above 0, in which scopes (`""` for an exporter's own)."""
        return {(place.target, place.scope) for place in self.values}

    def counting_of(self, target: Target, scope: str) -> Counting | None:
        """Which counting an instance shows in a scope; None when it does not say when it began."""
        born = self.births.get((target, scope))
        if born is None or not scope:
            return None if born is None else (born,)
        return born, self.births.get((target, ""), repr(target))

    def countings(self) -> dict[Counting, set[Target]]:
        """Who shows each counting."""
        found: dict[Counting, set[Target]] = {}
        for target, scope in self.births:
            counting = self.counting_of(target, scope)
            if counting is not None:
                found.setdefault(counting, set()).add(target)
        return found

    def without(self, targets: set[Target]) -> "SeenSeries":
        """The same without some instances."""
        return SeenSeries(
            {place: value for place, value in self.values.items() if place.target not in targets},
            {key: born for key, born in self.births.items() if key[0] not in targets},
        )

    def joined(self, other: "SeenSeries", pairs: AbstractSet[Pair]) -> "SeenSeries":
        """The same, and of some instances and scopes what another shows."""
        values = {place: value for place, value in other.values.items() if (place.target, place.scope) in pairs}
        births = {pair: born for pair, born in other.births.items() if pair in pairs}
        return SeenSeries({**self.values, **values}, {**self.births, **births})

    def operations(self, pair: Pair) -> float:
        """Creates and reuses."""
        return sum(self.values.get(SeriesPlace(pair[0], name, pair[1], ""), 0.0) for name in CENSUS)

    def only(self, target: Target) -> "SeenSeries":
        """The same of one instance."""
        return self.without({*self.targets, *(place.target for place in self.values)} - {target})


def look(prometheus: Prometheus, selection: Selection, span: Span) -> SeenSeries:
    """Ask for the last that was seen in a span; raises as `Prometheus.instant` does."""
    selectors = (selection.of_scopes(COUNTERS), selection.of_exporters(EXPORTER_COUNTERS))
    values = {
        place_of(series): series.number
        for selector in selectors
        for series in prometheus.instant(f"last_over_time({selector}{span.range}) > 0", at_s=span.to_s)
    }
    births = {
        (target_of(series.metric), series.metric.get("scope", "")): series.value[1]
        for selector in selection.births()
        for series in prometheus.instant(f"last_over_time({selector}{span.range})", at_s=span.to_s)
        if series.value and series.number
    }
    return SeenSeries(values, births)


def in_pieces(prometheus: Prometheus, selector: str, span: Span, pieces: int) -> tuple[float, list[Series]]:
    """Ask for the last values in each of at most so many pieces of a span; raises as `Prometheus.ranged` does.

    Returns:
        How long a piece is, seconds; and the values, each with the end of its piece, the last of which may be somewhat
        after the end of the span.
    """
    whole_s = span.to_s - span.from_s
    step_s = max(_PIECE_MIN_S, math.ceil(whole_s / pieces * 1000) / 1000)
    first_s = round(span.from_s + step_s, 3)
    rows = prometheus.ranged(
        f"last_over_time({selector}{over(step_s)})",
        from_s=first_s,
        to_s=first_s + math.ceil(whole_s / step_s) * step_s - step_s,
        step_s=step_s,
    )
    return step_s, rows


def place_of(series: Series, name: str = "") -> SeriesPlace:
    """Whose series it is and what it counts; functions of PromQL take the name away."""
    labels = series.metric
    name = name or labels.get("__name__", "")
    own = COUNTERS[name].labels if name in COUNTERS else ()
    words = "/".join(labels.get(label, "") for label in own)
    return SeriesPlace(target_of(labels), name, labels.get("scope", ""), words)


def by_counted(values: Iterable[tuple[SeriesPlace, float]]) -> dict[Counted, float]:
    """Add up over instances."""
    sums: dict[Counted, float] = {}
    for place, value in values:
        sums[place.counted] = sums.get(place.counted, 0.0) + value
    return sums
