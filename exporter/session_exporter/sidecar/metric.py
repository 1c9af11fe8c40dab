"""What a metric is: its name, type and help, its labels, and where its rows come from."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from session_exporter.core.totals import Exemplar, Histogram, ScopeTotals
from session_exporter.sidecar.snapshot import Role, Snapshot

# Who shows a metric: who counts, wherever the events come from; who has the journal of a host or pod; ...
LEDGER: Final[frozenset[Role]] = frozenset({"journal", "stream"})
POD: Final[frozenset[Role]] = frozenset({"journal", "forward"})
FLEET: Final[frozenset[Role]] = frozenset({"stream", "forward"})
STREAM: Final[frozenset[Role]] = frozenset({"stream"})
FORWARDER: Final[frozenset[Role]] = frozenset({"forward"})
EVERYBODY: Final = LEDGER | POD


class LabelledValue(NamedTuple):
    """One label set of a metric.

    Attributes:
        labels: The values, in the order of the metric's labels.
        value: A number, or the whole histogram.
        born_us: When its counting began, microseconds; 0 when that has no meaning.
        exemplar: An event that it counts.
    """

    labels: tuple[str, ...]
    value: float | Histogram
    born_us: int = 0
    exemplar: Exemplar | None = None


Rows: TypeAlias = Callable[[Snapshot], Iterable[LabelledValue]]


class SampleSource(NamedTuple):
    """Where a metric comes from: its label names, and what gives all its label sets from the first snapshot on."""

    labels: tuple[str, ...]
    rows: Rows


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: As it is queried: a counter ends in `_total`, an info in `_info`.
        kind: Its type in OpenMetrics.
        help: One sentence.
        source: Its labels and its rows.
        called: What the race remediation document calls it; `""` when it has no such name.
        shown_by: In which roles it is shown.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    help: str
    source: SampleSource
    called: str = ""
    shown_by: frozenset[Role] = LEDGER


def per_scope(value: Callable[[ScopeTotals], float | Histogram], exemplar: str = "") -> SampleSource:
    """One row for each scope."""

    def rows(snapshot: Snapshot) -> Iterable[LabelledValue]:
        for name, totals in sorted(snapshot.ledger.scopes.items()):
            yield LabelledValue((name,), value(totals), totals.born_us, totals.exemplars.get(exemplar))

    return SampleSource(("scope",), rows)


def per_scope_and(
    label: str, words: Sequence[str], counts: Callable[[ScopeTotals], dict[str, int]], exemplar: str = ""
) -> SampleSource:
    """One row for each scope and word of a closed set."""

    def rows(snapshot: Snapshot) -> Iterable[LabelledValue]:
        for name, totals in sorted(snapshot.ledger.scopes.items()):
            known = counts(totals)
            for word in words:
                seen = totals.exemplars.get(f"{exemplar}:{word}")
                yield LabelledValue((name, word), known.get(word, 0), totals.born_us, seen)

    return SampleSource(("scope", label), rows)


def one(value: Callable[[Snapshot], float | Histogram]) -> SampleSource:
    """One row without labels."""
    return SampleSource((), lambda snapshot: [LabelledValue((), value(snapshot), snapshot.exporter.born_us)])


def per_word(
    label: str, words: Sequence[str], counts: Callable[[Snapshot], Mapping[str, float]], *, is_counter: bool = True
) -> SampleSource:
    """One row for each word of a closed set."""

    def rows(snapshot: Snapshot) -> Iterable[LabelledValue]:
        known = counts(snapshot)
        return [
            LabelledValue((word,), known.get(word, 0), snapshot.exporter.born_us if is_counter else 0) for word in words
        ]

    return SampleSource((label,), rows)
