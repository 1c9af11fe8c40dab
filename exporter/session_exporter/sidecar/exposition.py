"""Every metric: its name, type, help, labels and where its value comes from; one table, and nothing is named elsewhere.

`sidecar/reference.py` writes docs/metrics.md from the same table.
"""

from typing import Final

from session_exporter.sidecar.exporter_metrics import EXPORTER_METRICS
from session_exporter.sidecar.metric import EVERYBODY, LabelledValue, Metric, SampleSource
from session_exporter.sidecar.session_metrics import DATABASE_METRICS, SESSION_METRICS
from session_exporter.sidecar.snapshot import Role
from session_exporter.sidecar.stream_metrics import STREAM_METRICS
from session_exporter.sidecar.user_metrics import USER_METRICS
from session_exporter.sidecar.watch_metrics import WATCH_METRICS

__all__ = ["METRICS", "SHOWN", "LabelledValue", "Metric", "SampleSource", "sample_names"]

METRICS: Final[tuple[Metric, ...]] = (
    *SESSION_METRICS,
    *USER_METRICS,
    *DATABASE_METRICS,
    *WATCH_METRICS,
    *EXPORTER_METRICS,
    *STREAM_METRICS,
)
# By role, in the same order.
SHOWN: Final[dict[Role, tuple[Metric, ...]]] = {
    role: tuple(metric for metric in METRICS if role in metric.shown_by) for role in sorted(EVERYBODY)
}

_SUFFIXES: Final = {"histogram": ("_bucket", "_count", "_sum")}


def sample_names(role: Role | None = None) -> frozenset[str]:
    """Name every series a query may ask for: counters, gauges and infos as they are, histograms with their suffixes.

    Args:
        role: Of one role only.
    """
    metrics = METRICS if role is None else SHOWN[role]
    return frozenset(f"{metric.name}{suffix}" for metric in metrics for suffix in _SUFFIXES.get(metric.kind, ("",)))
