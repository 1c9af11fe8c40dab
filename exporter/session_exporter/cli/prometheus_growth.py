"""How much counters grew in a span, over all instances: whole and true, where `increase()` estimates.

Within one counting a counter never falls, so it grew by what it showed last, less what it had shown before the span: 0
when counting began within, whenever its first sample was taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from session_exporter.cli.prometheus import Prometheus
from session_exporter.cli.prometheus_lives import lives_of, reborn
from session_exporter.cli.prometheus_presence import last_seen, presence
from session_exporter.cli.prometheus_queries import Selection, Target
from session_exporter.cli.prometheus_resets import Earlier, falling_growth, first_values
from session_exporter.cli.prometheus_sightings import (
    Counted,
    Counting,
    Pair,
    SeenSeries,
    SeriesPlace,
    Span,
    by_counted,
    look,
)

# What an instance had counted when it was last seen before the span. What it counts while nobody looks, for up to a
# day, is taken to have happened when it is seen again: rather too early than never.
LOOK_BACK_S: Final = 86_400.0
# Targets are found, and scraped, some time after they began to count.
BIRTH_SLACK_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Growth:
    """What was counted in a span.

    Attributes:
        counts: Over all instances.
        by_target: The same of each instance; of a counting that moved, where it was last.
        together: Groups of instances that showed one counting, which is in it once: its state moved, it is scraped
            twice, or a state was copied.
        strangers: Instances that had been counting before they were first seen; what they counted until then is not
            in it.
        unborn: Instances that do not say when they began: without OpenMetrics, or with `_created` dropped.
    """

    counts: Mapping[Counted, float]
    by_target: Mapping[SeriesPlace, float]
    together: frozenset[frozenset[Target]]
    strangers: frozenset[Target]
    unborn: frozenset[Target]


@dataclass
class _Tally:
    """What each counting showed at most, and first, within the span.

    Attributes:
        earlier: What had been seen before the span.
        from_s: When the span begins.
    """

    earlier: SeenSeries
    from_s: float
    highest: dict[tuple[Counted, Counting], tuple[float, Target]] = field(default_factory=dict)
    first: dict[tuple[Counted, Counting], float] = field(default_factory=dict)
    shown_by: dict[Counting, set[Target]] = field(default_factory=dict)
    _before: dict[tuple[Counted, Counting], float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._known = self.earlier.countings().keys()
        for place, value in self.earlier.values.items():
            counting = self.earlier.counting_of(place.target, place.scope)
            if counting is not None:
                key = place.counted, counting
                self._before[key] = max(value, self._before.get(key, 0.0))

    def is_strange(self, counting: Counting, target: Target) -> bool:
        """Whether it had been counting for long when it was first seen."""
        born_s = float(counting[0])
        if counting in self._known or born_s >= self.from_s - BIRTH_SLACK_S:
            return False
        # It began anew while nobody looked, unless it is older than where was looked.
        return born_s < self.from_s - LOOK_BACK_S or target not in self.earlier.targets

    def add(self, seen: SeenSeries, first: Mapping[SeriesPlace, float]) -> None:
        """Add what was seen at the end of a counting's time, and what its first sample was, where that is needed."""
        for place, value in seen.values.items():
            counting = seen.counting_of(place.target, place.scope)
            if counting is None:
                continue
            key = place.counted, counting
            self.highest[key] = max((value, place.target), self.highest.get(key, (0.0, ())))
            self.shown_by.setdefault(counting, set()).add(place.target)
            at_first = first.get(place, 0.0)
            self.first[key] = min(at_first, self.first.get(key, at_first))

    def strange(self) -> dict[Counting, set[Target]]:
        """The countings that were old when they were first seen, whoever showed them."""
        return {
            counting: targets
            for counting, targets in self.shown_by.items()
            if all(self.is_strange(counting, target) for target in targets)
        }

    def grown(self) -> dict[SeriesPlace, float]:
        """What was counted, where it was seen last."""
        grown: dict[SeriesPlace, float] = {}
        strange = self.strange()
        for key, (value, target) in self.highest.items():
            start = self._before.get(key, self.first[key] if key[1] in strange else 0.0)
            if value > start:
                place = SeriesPlace(target, *key[0])
                grown[place] = grown.get(place, 0.0) + value - start
        return grown


def growth(prometheus: Prometheus, selection: Selection, span: Span, present: Mapping[Pair, float]) -> Growth:
    """Ask how much all counters grew in a span.

    Args:
        prometheus: Who is asked.
        selection: Which series.
        span: From when to when.
        present: Who was seen in the span, as `presence` has it.

    Raises:
        PeerError: As `Prometheus.instant`, or there is too much to look at.
    """
    latest = last_seen(prometheus, selection, span, present)
    before = Span(span.from_s - LOOK_BACK_S, span.from_s)
    present_before = presence(prometheus, selection, before)
    tally = _Tally(last_seen(prometheus, selection, before, present_before), span.from_s)
    broken = reborn(prometheus, selection, span)
    for target in sorted(broken):
        _add_lives(prometheus, selection.at(target), target, span, tally)
    _add_whole(prometheus, selection, span, latest.without(broken), tally)
    grown = tally.grown()
    unborn = {pair for pair in present.keys() | latest.pairs() if latest.counting_of(*pair) is None}
    if unborn:
        last = {place: value for place, value in latest.values.items() if (place.target, place.scope) in unborn}
        earlier = Earlier(tally.earlier.values, present_before.keys(), unborn)
        grown.update(falling_growth(prometheus, selection, span, last, earlier))
    return Growth(
        counts=by_counted(grown.items()),
        by_target=grown,
        together=frozenset(frozenset(group) for group in latest.countings().values() if len(group) > 1),
        strangers=frozenset().union(*tally.strange().values()),
        unborn=frozenset(target for target, _ in unborn),
    )


def _add_lives(prometheus: Prometheus, selection: Selection, target: Target, span: Span, tally: _Tally) -> None:
    for life in lives_of(prometheus, selection, target, span):
        seen = last_seen(prometheus, selection, life, presence(prometheus, selection, life)).only(target)
        strange = any(tally.is_strange(counting, target) for counting in seen.countings())
        first = look(prometheus, selection, Span(life.from_s, life.from_s)).values if strange else {}
        tally.add(seen, first)


def _add_whole(prometheus: Prometheus, selection: Selection, span: Span, seen: SeenSeries, tally: _Tally) -> None:
    strange = {
        target
        for counting, targets in seen.countings().items()
        for target in targets
        if tally.is_strange(counting, target)
    }
    first = first_values(prometheus, selection.among(strange), span, with_falls=False).lowest if strange else {}
    tally.add(seen, first)
