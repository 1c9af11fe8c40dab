"""The same body of a scrape, written by prometheus_client's own encoders: what ours is held to."""

import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.core import Exemplar as EncodedExemplar
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.utils import floatToGoString

from session_exporter.core.totals import Exemplar, Histogram
from session_exporter.sidecar.exposition import SHOWN, LabelledValue, Metric
from session_exporter.sidecar.negotiation import OPENMETRICS, metrics_format
from session_exporter.sidecar.snapshot import Snapshot

# OpenMetrics 1.0, "Exemplars": names and values of all labels together, in UTF-8 characters.
EXEMPLAR_CHARS_MAX: Final = 128

# Escaped, these are allowed; parsers in the field, the Python client's own among them, refuse the line all the same.
_NOT_IN_EXEMPLARS: Final = re.compile(r'["\\{}\n]')

_UNITS: Final = ("seconds", "bytes", "ratio")


def render(snapshot: Snapshot, accept: str = "") -> tuple[bytes, str]:
    """Write all metrics of a snapshot, in the format of an Accept header.

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
    # Our names are valid under every escaping scheme, so the bytes are the same; this one checks them the fastest.
    encode, _ = choose_encoder(f"{wanted}; escaping=allow-utf-8")
    return encode(_Collected(snapshot, openmetrics=wanted.startswith(OPENMETRICS))), content_type


class _Collected:
    """What the library's encoders take for a registry."""

    def __init__(self, snapshot: Snapshot, *, openmetrics: bool) -> None:
        self._snapshot = snapshot
        self._openmetrics = openmetrics

    def collect(self) -> Iterator[Family]:
        for metric in SHOWN[self._snapshot.role]:
            yield _family(metric, self._snapshot, openmetrics=self._openmetrics)


def _family(metric: Metric, snapshot: Snapshot, *, openmetrics: bool) -> Family:
    rows = [row._replace(labels=tuple(map(_clean, row.labels))) for row in metric.source.rows(snapshot)]
    if not openmetrics:
        rows = [row._replace(born_us=0, exemplar=None) for row in rows]
    return _FAMILIES[metric.kind](metric, rows)


def _clean(value: str) -> str:
    """Make a label value that encodes: a lone surrogate would fail the whole scrape."""
    return value if value.isascii() else value.encode(errors="replace").decode()


def _counter(metric: Metric, rows: list[LabelledValue]) -> Family:
    family = CounterMetricFamily(metric.name, metric.help, labels=metric.source.labels)
    for row in rows:
        family.add_metric(row.labels, _number(row), _seconds(row.born_us), exemplar=_exemplar(row.exemplar))
    return family


def _gauge(metric: Metric, rows: list[LabelledValue]) -> Family:
    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.source.labels, unit=_unit(metric))
    for row in rows:
        family.add_metric(row.labels, _number(row))
    return family


def _histogram(metric: Metric, rows: list[LabelledValue]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.source.labels, unit=_unit(metric))
    for row in rows:
        if not isinstance(row.value, Histogram):
            raise TypeError(f"{metric.name} is a histogram, but its source gives {row.value!r}")
        bounds = [*map(floatToGoString, row.value.bounds_s), "+Inf"]
        buckets = list(zip(bounds, accumulate(row.value.counts), strict=True))
        family.add_metric(row.labels, buckets, row.value.sum_s)
        if row.born_us:
            labels = dict(zip(metric.source.labels, row.labels, strict=True))
            family.add_sample(f"{metric.name}_created", labels, row.born_us / 1_000_000)
    return family


def _info(metric: Metric, rows: list[LabelledValue]) -> Family:
    family = InfoMetricFamily(metric.name.removesuffix("_info"), metric.help)
    for row in rows:
        family.add_metric([], dict(zip(metric.source.labels, row.labels, strict=True)))
    return family


_FAMILIES: Final = {"counter": _counter, "gauge": _gauge, "histogram": _histogram, "info": _info}


def _number(row: LabelledValue) -> float:
    if isinstance(row.value, Histogram):
        raise TypeError(f"the row {row.labels} of a counter or gauge holds a histogram")
    return row.value


def _seconds(at_us: int) -> float | None:
    return at_us / 1_000_000 if at_us else None


def _unit(metric: Metric) -> str:
    unit = metric.name.rpartition("_")[2]
    return unit if unit in _UNITS else ""


def _exemplar(exemplar: Exemplar | None) -> EncodedExemplar | None:
    """Encode an exemplar: trace and user, the trace alone where both are too long, nothing where that is too."""
    if exemplar is None:
        return None
    trace, user = (_NOT_IN_EXEMPLARS.sub("_", _clean(value)) for value in (exemplar.trace, exemplar.user))
    labels = {name: value for name, value in (("trace_id", trace), ("user", user)) if value}
    if sum(map(len, (*labels, *labels.values()))) > EXEMPLAR_CHARS_MAX:
        labels.pop("user", None)
    if not labels or sum(map(len, (*labels, *labels.values()))) > EXEMPLAR_CHARS_MAX:
        return None
    return EncodedExemplar(labels, 1.0, _seconds(exemplar.at_us))
