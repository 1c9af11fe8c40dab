"""Where in a long span each instance was seen last, so that its last values are found without reading all others.

A week of a hundred instances is a thousand million samples. Only those around the end of each one's time are read: of
most the last minutes of the span, of those that are gone the time when they went.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from session_exporter.cli.prometheus import Prometheus
from session_exporter.cli.prometheus_queries import CENSUS, EXPORTER_CENSUS, Selection, Target, target_of
from session_exporter.cli.prometheus_sightings import Pair, SeenSeries, Span, look

# Longer than anybody waits between two scrapes: after 5 minutes a Prometheus takes a series for ended.
RECENT_S: Final = 600.0
STEP_S: Final = 300.0
# For so long Prometheus shows the last sample of a series that ended without its noticing.
_ENDED_AFTER_S: Final = 300.0


def presence(prometheus: Prometheus, selection: Selection, span: Span) -> dict[Pair, float]:
    """Who was seen in a span, in which scopes, and how many operations were counted there when it was seen last.

    Raises:
        PeerError: As `Prometheus.instant`.
    """
    operations = " + ".join(f"last_over_time({selection.of_scopes((name,))}{span.range})" for name in CENSUS)
    exporters = f"last_over_time({selection.of_exporters((EXPORTER_CENSUS,))}{span.range})"
    return {**_by_pair(prometheus, operations, span), **_by_pair(prometheus, exporters, span)}


def last_seen(prometheus: Prometheus, selection: Selection, span: Span, present: Mapping[Pair, float]) -> SeenSeries:
    """Ask for the last that was seen in a span of each instance and scope.

    Args:
        prometheus: Who is asked.
        selection: Which series.
        span: From when to when.
        present: Who was seen in the span, as `presence` has it.

    Raises:
        PeerError: As `Prometheus.instant`.
    """
    recent = Span(max(span.from_s, span.to_s - RECENT_S), span.to_s)
    found = look(prometheus, selection, recent)
    gone = present.keys() - presence(prometheus, selection, recent) if recent != span else set()
    if not gone:
        return found
    when = _last_times(prometheus, selection, span)
    for targets, moments in _together(when, gone, span):
        found = found.joined(look(prometheus, selection.among(targets), moments), _of(targets, gone))
    # Who was there for moments only is looked for in the whole span.
    missed = {pair[0] for pair in gone if pair not in when or (pair[1] and found.operations(pair) != present[pair])}
    if missed:
        found = found.joined(look(prometheus, selection.among(missed), span), _of(missed, gone))
    return found


def _last_times(prometheus: Prometheus, selection: Selection, span: Span) -> dict[Pair, float]:
    """When who was seen last, too early by up to `STEP_S` and `_ENDED_AFTER_S`."""
    steps = f"[{round((span.to_s - span.from_s) * 1000)}ms:{round(STEP_S * 1000)}ms]"
    when: dict[Pair, float] = {}
    for selector in (selection.of_scopes(CENSUS[:1]), selection.of_exporters((EXPORTER_CENSUS,))):
        when |= _by_pair(prometheus, f"max_over_time(timestamp({selector}){steps})", span)
    return when


def _together(when: Mapping[Pair, float], gone: AbstractSet[Pair], span: Span) -> Iterable[tuple[set[Target], Span]]:
    """Who went at about the same time, and when; a scope may have gone before its instance."""
    pieces: dict[int, set[Target]] = {}
    for pair in when.keys() & gone:
        pieces.setdefault(int(when[pair] // RECENT_S), set()).add(pair[0])
    for piece, targets in sorted(pieces.items()):
        end_s = (piece + 1) * RECENT_S + STEP_S + _ENDED_AFTER_S
        yield targets, Span(max(span.from_s, piece * RECENT_S), min(span.to_s, end_s))


def _of(targets: set[Target], pairs: Iterable[Pair]) -> set[Pair]:
    return {pair for pair in pairs if pair[0] in targets}


def _by_pair(prometheus: Prometheus, expression: str, span: Span) -> dict[Pair, float]:
    found = prometheus.instant(expression, at_s=span.to_s)
    return {(target_of(each.metric), each.metric.get("scope", "")): each.number for each in found}
