"""Counters that do not say when they began: by their values alone, as every program without `_created` must.

A value that falls began anew. What was counted before the first sample, between the last sample before a restart and
the restart, or by a restarted counter that had grown beyond its old value when it was next seen, cannot be known.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final, TypeVar

from session_exporter.cli.prometheus import Prometheus, number
from session_exporter.cli.prometheus_queries import COUNTERS, EXPORTER_COUNTERS, Selection, Target
from session_exporter.cli.prometheus_sightings import SeriesPlace, Span, in_pieces, place_of
from session_exporter.errors import PeerError

# Prometheus answers with at most 11,000 points of a series.
POINTS: Final = 10_000
FALLING_MAX: Final = 1000
_Default = TypeVar("_Default", float, None)


@dataclass(frozen=True, slots=True)
class Earlier:
    """What had been seen before the span.

    Attributes:
        values: The last value of each series, of those that were above 0.
        present: Who had been counting, in which scopes.
        unborn: Who does not say when it began, and in which scopes.
    """

    values: Mapping[SeriesPlace, float]
    present: AbstractSet[tuple[Target, str]]
    unborn: AbstractSet[tuple[Target, str]]

    def is_meant(self, place: SeriesPlace) -> bool:
        """Whether a series is one of those that do not say when they began."""
        return (place.target, place.scope) in self.unborn

    def value(self, place: SeriesPlace, otherwise: _Default) -> float | _Default:
        """The last value before the span; `otherwise` when the series had not been seen."""
        absent = 0.0 if (place.target, place.scope) in self.present else otherwise
        return self.values.get(place, absent)


@dataclass(frozen=True, slots=True)
class Extremes:
    """What samples of a span say of single series.

    Attributes:
        lowest: The least value, of those above 0: the first one, of a counter that did not fall.
        falls: How often it fell, of those that did.
    """

    lowest: Mapping[SeriesPlace, float] = field(default_factory=dict)
    falls: Mapping[SeriesPlace, float] = field(default_factory=dict)


def first_values(prometheus: Prometheus, selection: Selection, span: Span, *, with_falls: bool) -> Extremes:
    """Ask for the extremes of all counters; raises as `Prometheus.instant` does."""
    lowest = _each(prometheus, selection, span, "min_over_time")
    return Extremes(lowest, _each(prometheus, selection, span, "resets") if with_falls else {})


def falling_growth(
    prometheus: Prometheus, selection: Selection, span: Span, latest: Mapping[SeriesPlace, float], earlier: Earlier
) -> dict[SeriesPlace, float]:
    """How much counters grew in a span that do not say when they began.

    Args:
        prometheus: Who is asked.
        selection: Which series.
        span: From when to when.
        latest: The last values of such series in the span; those that are 0 may be missing.
        earlier: What is known of the time before.

    Raises:
        PeerError: More than `FALLING_MAX` series fell; else as `Prometheus.instant`.
    """
    extremes = first_values(prometheus, selection, span, with_falls=True)
    falling = [place for place in extremes.falls if earlier.is_meant(place)]
    if len(falling) > FALLING_MAX:
        raise PeerError(f"{prometheus.base_url}: more than {FALLING_MAX} counters began anew, and none says when")
    grown = {}
    for place, value in latest.items():
        first = extremes.lowest.get(place, 0.0)
        before = earlier.value(place, first)
        grown[place] = value - before if first >= before else value
    for place in falling:
        grown[place] = _summed(_values(prometheus, selection, place, span), earlier.value(place, None))
    return {place: value for place, value in grown.items() if value}


def _each(prometheus: Prometheus, selection: Selection, span: Span, function: str) -> dict[SeriesPlace, float]:
    selectors = {name: selection.of_scopes((name,)) for name in COUNTERS}
    selectors |= {name: selection.of_exporters((name,)) for name in EXPORTER_COUNTERS}
    return {
        place_of(series, name): series.number
        for name, selector in selectors.items()
        for series in prometheus.instant(f"{function}({selector}{span.range}) > 0", at_s=span.to_s)
    }


def _values(prometheus: Prometheus, selection: Selection, place: SeriesPlace, span: Span) -> Iterable[float]:
    """The values of a series, as many as it has or at regular times."""
    exact = selection.at(place.target)
    names = (place.name,)
    selector = exact.of_scopes(names) if place.scope else exact.of_exporters(names)
    _, rows = in_pieces(prometheus, selector, span, POINTS)
    return (number(text) for row in rows if place_of(row) == place for _, text in row.values)


def _summed(values: Iterable[float], before: float | None) -> float:
    grown = 0.0
    for value in values:
        if before is not None:
            grown += value - before if value >= before else value
        before = value
    return grown
