"""Our rendering against prometheus_client's own encoders, byte for byte."""

import library_rendering
import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.core.scopes import CAUSES
from session_exporter.core.totals import Exemplar, LedgerTotals, ScopeTotals
from session_exporter.sidecar.rendering import render
from session_exporter.sidecar.snapshot import ExporterTotals, Snapshot
from session_exporter.sidecar.transport import ForwardFigures, StreamFigures
from session_exporter.stream.keys import SHARED

FORMATS = ["", "application/openmetrics-text;version=1.0.0", "text/plain;version=1.0.0"]

counts = st.one_of(st.integers(0, 2_000_000), st.sampled_from([999_999, 1_000_000, 10**15, 2**60]))
texts = st.one_of(st.sampled_from(["conversation", "other"]), st.text(max_size=12))
exemplars = st.builds(
    Exemplar, st.one_of(st.just("ab" * 16), st.text(max_size=140)), st.text(max_size=20), st.integers(0, 2**52)
)


@st.composite
def snapshots(draw):
    scopes = {}
    for name in draw(st.lists(texts, max_size=3, unique=True)):
        totals = ScopeTotals(draw(st.sampled_from([0, 1, 1_795_205_596_112_692])))
        totals.creates, totals.reuses, totals.lookups = draw(counts), draw(counts), draw(counts)
        totals.duplicates[draw(st.sampled_from(CAUSES))] = draw(counts)
        totals.active_sessions = draw(counts)
        for value_s in draw(st.lists(st.floats(0, 1e9, allow_nan=False), max_size=5)):
            totals.intervals.observe(value_s)
        totals.exemplars = draw(
            st.dictionaries(st.sampled_from(["creates", "duplicates:same_worker"]), exemplars, max_size=2)
        )
        scopes[name] = totals
    exporter = ExporterTotals(
        born_us=draw(st.sampled_from([0, 1_795_205_596_000_001])),
        workers=draw(counts),
        journal_lag_s=draw(st.floats(0, 1e12)),
        config_last_reload_successful=draw(st.booleans()),
        config_last_reload_success_at_s=draw(st.floats(0, 2e9)),
        hook_errors={"tracker": draw(counts)},
    )
    forward = ForwardFigures(up=draw(st.booleans()), forwarded_events=draw(counts), errors={"refused": draw(counts)})
    stream = StreamFigures(lag_s={3: draw(st.floats(0, 1e12)), 12: 0.0, SHARED: 0.5}, redelivered_events=draw(counts))
    role = draw(st.sampled_from(["journal", "stream", "forward"]))
    return Snapshot(LedgerTotals(scopes, {"created": draw(counts)}), 0, exporter, role, forward, stream)


@pytest.mark.parametrize("accept", FORMATS)
@given(snapshot=snapshots())
def test_every_byte_is_the_one_that_the_library_writes(accept, snapshot):
    ours, theirs = render(snapshot, accept), library_rendering.render(snapshot, accept)
    assert ours[1] == theirs[1]
    assert ours[0].decode().splitlines() == theirs[0].decode().splitlines()
    assert ours[0] == theirs[0]
