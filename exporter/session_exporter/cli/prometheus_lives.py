"""When an instance began to show another counting: its state was lost, or another state took its place."""

from collections.abc import Iterable
from typing import Final, TypeAlias

from session_exporter.cli.prometheus import Prometheus, Series
from session_exporter.cli.prometheus_queries import Selection, Target, over, target_of
from session_exporter.cli.prometheus_sightings import Span, in_pieces
from session_exporter.errors import PeerError

# A week is looked at in pieces of ten minutes, and those in which counting began anew sample by sample.
PIECES: Final = 1000
LIVES_MAX: Final = 1000

_Line: TypeAlias = tuple[Target, str]


def reborn(prometheus: Prometheus, selection: Selection, span: Span) -> set[Target]:
    """The instances that showed more than one counting in a span; raises as `Prometheus.instant` does."""
    return {
        target_of(series.metric)
        for selector in selection.births()
        for series in prometheus.instant(f"changes({selector}{span.range}) > 0", at_s=span.to_s)
    }


def lives_of(prometheus: Prometheus, selection: Selection, target: Target, span: Span) -> list[Span]:
    """Divide a span into those in which an instance showed one counting each.

    Returns:
        From the first sample of each to just before the first one of the next, in order.

    Raises:
        PeerError: There are more than `LIVES_MAX`; else as `Prometheus.instant`.
    """
    beginnings = sorted(
        {at_s for selector in selection.at(target).births() for at_s in _beginnings(prometheus, selector, target, span)}
    )
    if len(beginnings) > LIVES_MAX:
        raise PeerError(f"{prometheus.base_url}: an instance began to count anew more than {LIVES_MAX} times")
    ends = [round(at_s - 0.001, 3) for at_s in beginnings[1:]] + [span.to_s]
    return [Span(*each) for each in zip(beginnings, ends, strict=True)]


def _beginnings(prometheus: Prometheus, selector: str, target: Target, span: Span) -> Iterable[float]:
    step_s, rows = in_pieces(prometheus, selector, span, PIECES)
    ends = sorted({at_s for row in _own(rows, target) for at_s in _suspicious(row)})
    born: dict[_Line, str] = {}
    for end_s in ends:
        for row in _own(prometheus.instant(f"{selector}{over(step_s)}", at_s=end_s), target):
            line = target, row.metric.get("scope", "")
            for at_s, text in row.values:
                if span.from_s <= at_s <= span.to_s and born.get(line) != text:
                    born[line] = text
                    yield at_s


def _own(rows: list[Series], target: Target) -> Iterable[Series]:
    return (row for row in rows if target_of(row.metric) == target)


def _suspicious(row: Series) -> Iterable[float]:
    """The ends of the pieces in which it appears, or is another than at the end of the piece before."""
    before = ""
    for at_s, text in row.values:
        if text != before:
            yield at_s
        before = text
