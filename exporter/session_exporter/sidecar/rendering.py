"""From a snapshot to the body of a scrape, in the format the client asks for.

The lines are those that prometheus_client's encoders write, byte for byte, which a test holds them to; but the
beginning of each is kept, since of hundreds of lines only the numbers change from scrape to scrape. That takes a tenth
of the time, which counts while a scrape waits, and more with every scope.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import accumulate
from math import inf
from typing import Final

from prometheus_client.exposition import choose_encoder
from prometheus_client.utils import floatToGoString

from session_exporter.core.totals import Exemplar, Histogram
from session_exporter.sidecar.exposition import SHOWN, LabelledValue, Metric
from session_exporter.sidecar.negotiation import OPENMETRICS, metrics_format
from session_exporter.sidecar.snapshot import Snapshot

# OpenMetrics 1.0, "Exemplars": names and values of all labels together, in UTF-8 characters.
EXEMPLAR_CHARS_MAX: Final = 128
# All series of a hundred scopes, several times over, at some 150 bytes each.
SERIES_KEPT_MAX: Final = 1 << 16

# Escaped, these are allowed; parsers in the field, the Python client's own among them, refuse the line all the same.
_NOT_IN_EXEMPLARS: Final = re.compile(r'["\\{}\n]')

# As Go writes numbers, which is what the formats' readers are used to.
_go_text: Final[Callable[[float], str]] = floatToGoString

_UNITS: Final = ("seconds", "bytes", "ratio")
# Below it a whole number is written as it is; from it on the library writes an exponent.
_PLAIN_BELOW: Final = 1_000_000


def render(snapshot: Snapshot, accept: str = "") -> tuple[bytes, str]:
    """Write all metrics of a snapshot that its role shows, in the format of an Accept header.

    `_created` samples and exemplars are OpenMetrics only: in the text format each `_created` would be a gauge of its
    own, as many again as there are counters, and nobody could use them.

    Args:
        snapshot: What to write; the same snapshot and format give the same bytes.
        accept: The value of the Accept header; `""` when there is none.

    Returns:
        The body and its content type.
    """
    wanted = metrics_format(accept)
    _, content_type = choose_encoder(wanted)
    openmetrics = wanted.startswith(OPENMETRICS)
    lines = [line for metric in SHOWN[snapshot.role] for line in _family(metric, snapshot, openmetrics)]
    if openmetrics:
        lines.append("# EOF\n")
    return "".join(lines).encode(), content_type


def _family(metric: Metric, snapshot: Snapshot, openmetrics: bool) -> Iterator[str]:  # noqa: FBT001 - the format
    yield _heading(metric, openmetrics)
    write = _histogram if metric.kind == "histogram" else _sample
    for row in metric.source.rows(snapshot):
        yield from write(metric, row, openmetrics)


def _sample(metric: Metric, row: LabelledValue, openmetrics: bool) -> Iterator[str]:  # noqa: FBT001 - the format
    if isinstance(row.value, Histogram):
        raise TypeError(f"the row {row.labels} of {metric.name} holds a histogram")
    names = metric.source.labels
    counts = openmetrics and metric.kind == "counter"
    mark = _exemplar(row.exemplar) if counts and row.exemplar else ""
    yield f"{_series(metric.name, names, row.labels)}{_number(row.value)}{mark}\n"
    if counts and row.born_us:
        yield _created(metric.name.removesuffix("_total"), names, row)


def _histogram(metric: Metric, row: LabelledValue, openmetrics: bool) -> Iterator[str]:  # noqa: FBT001 - the format
    if not isinstance(row.value, Histogram):
        raise TypeError(f"{metric.name} is a histogram, but its source gives {row.value!r}")
    names, name = metric.source.labels, metric.name
    counts = list(accumulate(row.value.counts))
    for bound_s, count in zip((*row.value.bounds_s, inf), counts, strict=True):
        yield f"{_series(f'{name}_bucket', names, row.labels, _bound(bound_s))}{_number(count)}\n"
    yield f"{_series(f'{name}_count', names, row.labels)}{_number(counts[-1])}\n"
    yield f"{_series(f'{name}_sum', names, row.labels)}{_go_text(row.value.sum_s)}\n"
    if openmetrics and row.born_us:
        yield _created(name, names, row)


def _created(name: str, names: tuple[str, ...], row: LabelledValue) -> str:
    return f"{_series(f'{name}_created', names, row.labels)}{_go_text(row.born_us / 1_000_000)}\n"


@lru_cache(512)
def _heading(metric: Metric, openmetrics: bool) -> str:  # noqa: FBT001 - the format
    name, kind, text = metric.name, metric.kind, _escaped(metric.help)
    if openmetrics:
        name = name.removesuffix({"counter": "_total", "info": "_info"}.get(kind, ""))
    else:
        kind, text = ("gauge" if kind == "info" else kind), text.replace(r"\"", '"')
    unit = _unit(metric) if openmetrics and kind in {"gauge", "histogram"} else ""
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n" + (f"# UNIT {name} {unit}\n" if unit else "")


@lru_cache(SERIES_KEPT_MAX)
def _series(name: str, names: tuple[str, ...], values: tuple[str, ...], bound: str = "") -> str:
    pairs = [*zip(names, values, strict=True), *([("le", bound)] if bound else [])]
    inside = ",".join(f'{key}="{_escaped(_clean(value))}"' for key, value in sorted(pairs))
    return f"{name}{{{inside}}} " if inside else f"{name} "


@lru_cache(1024)
def _bound(bound_s: float) -> str:
    return _go_text(bound_s)


def _number(value: float) -> str:
    if isinstance(value, int) and -_PLAIN_BELOW < value < _PLAIN_BELOW:
        return f"{value:d}.0"
    return _go_text(value)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _clean(value: str) -> str:
    """Make a label value that encodes: a lone surrogate would fail the whole scrape."""
    return value if value.isascii() else value.encode(errors="replace").decode()


def _unit(metric: Metric) -> str:
    unit = metric.name.rpartition("_")[2]
    return unit if unit in _UNITS else ""


def _exemplar(exemplar: Exemplar) -> str:
    """Write an exemplar: trace and user, the trace alone where both are too long, nothing where that is too."""
    trace, user = (_NOT_IN_EXEMPLARS.sub("_", _clean(value)) for value in (exemplar.trace, exemplar.user))
    labels = {name: value for name, value in (("trace_id", trace), ("user", user)) if value}
    if _chars(labels) > EXEMPLAR_CHARS_MAX:
        labels.pop("user", None)
    if not labels or _chars(labels) > EXEMPLAR_CHARS_MAX:
        return ""
    inside = ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
    return f" # {{{inside}}} 1.0" + (f" {exemplar.at_us / 1_000_000}" if exemplar.at_us else "")


def _chars(labels: dict[str, str]) -> int:
    return sum(map(len, (*labels, *labels.values())))
