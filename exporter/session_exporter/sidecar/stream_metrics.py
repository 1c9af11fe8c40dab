"""What is said of the streams between machines: by those who send to them, and by those who count from them."""

from collections.abc import Iterable
from typing import Final

from session_exporter.sidecar.metric import FLEET, FORWARDER, STREAM, LabelledValue, Metric, SampleSource, one, per_word
from session_exporter.sidecar.snapshot import Snapshot
from session_exporter.sidecar.transport import FORWARD_ERRORS, SKIPPED


def _up(snapshot: Snapshot) -> bool:
    return snapshot.forward.up if snapshot.role == "forward" else snapshot.stream.up


def _clock_skew_s(snapshot: Snapshot) -> float:
    return snapshot.forward.clock_skew_s if snapshot.role == "forward" else snapshot.stream.clock_skew_s


def _lags(snapshot: Snapshot) -> Iterable[LabelledValue]:
    return [LabelledValue((name,), lag_s) for name, lag_s in snapshot.stream.lags()]


STREAM_METRICS: Final[tuple[Metric, ...]] = (
    Metric(
        "session_exporter_stream_up",
        "gauge",
        "1 when Redis is connected and does what it is asked; of who counts: and all its partitions are its own.",
        one(_up),
        shown_by=FLEET,
    ),
    Metric(
        "session_exporter_clock_skew_seconds",
        "gauge",
        "Redis' clock minus that of this host; of who forwards, what its events' times are corrected by beyond 0.1.",
        one(_clock_skew_s),
        shown_by=FLEET,
    ),
    Metric(
        "session_exporter_forwarded_events_total",
        "counter",
        "Events that Redis has acknowledged, each once.",
        one(lambda snapshot: snapshot.forward.forwarded_events),
        shown_by=FORWARDER,
    ),
    Metric(
        "session_exporter_forward_resent_events_total",
        "counter",
        "Events that were sent again after a lost connection, because nobody had committed them.",
        one(lambda snapshot: snapshot.forward.resent_events),
        shown_by=FORWARDER,
    ),
    Metric(
        "session_exporter_forward_errors_total",
        "counter",
        "Attempts to connect to Redis, or to send, that failed.",
        per_word("reason", FORWARD_ERRORS, lambda snapshot: snapshot.forward.errors),
        shown_by=FORWARDER,
    ),
    Metric(
        "session_exporter_forward_uncommitted_bytes",
        "gauge",
        "Journal segments that are kept until all who count have committed what stands in them.",
        one(lambda snapshot: snapshot.forward.uncommitted_bytes),
        shown_by=FORWARDER,
    ),
    Metric(
        "session_exporter_forward_released_early_segments_total",
        "counter",
        "Journal segments given up, for want of space, before what Redis had of them was committed.",
        one(lambda snapshot: snapshot.forward.released_early_segments),
        shown_by=FORWARDER,
    ),
    Metric(
        "session_exporter_stream_lag_seconds",
        "gauge",
        "Age of the oldest entry of a stream that is not committed yet.",
        SampleSource(("partition",), _lags),
        shown_by=STREAM,
    ),
    Metric(
        "session_exporter_stream_partitions",
        "gauge",
        "Partitions that there are, whoever counts them: each should have a lag at one consumer.",
        one(lambda snapshot: snapshot.stream.partitions),
        shown_by=STREAM,
    ),
    Metric(
        "session_exporter_stream_redelivered_events_total",
        "counter",
        "Events that arrived again, and were not counted again.",
        one(lambda snapshot: snapshot.stream.redelivered_events),
        shown_by=STREAM,
    ),
    Metric(
        "session_exporter_stream_entries_skipped_total",
        "counter",
        "Entries of streams that could not be read: a stranger's, or of a newer version.",
        per_word("reason", SKIPPED, lambda snapshot: snapshot.stream.entries_skipped),
        shown_by=STREAM,
    ),
    Metric(
        "session_exporter_stream_forwarders",
        "gauge",
        "Forwarders that are known to be running.",
        one(lambda snapshot: snapshot.stream.forwarders),
        shown_by=STREAM,
    ),
    Metric(
        "session_exporter_stream_held_seconds",
        "gauge",
        "For how long verdicts have been waiting for forwarders that are silent.",
        one(lambda snapshot: snapshot.stream.held_s),
        shown_by=STREAM,
    ),
)
