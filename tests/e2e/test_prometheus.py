"""What a real Prometheus sees of a sidecar."""

import subprocess
from urllib.parse import urlsplit

import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span
from prometheus_server import Prometheus
from sidecar_process import Sidecar, until

from session_exporter.core.totals import OTHER_USERS, LedgerTotals, ScopeTotals, UserCounts
from session_exporter.sidecar.exposition import SHOWN, sample_names
from session_exporter.sidecar.snapshot import HOOKS, ExporterTotals, Snapshot
from session_exporter.sidecar.watch_metrics import WATCH_METRICS
from session_exporter.tracker import SessionTracker

pytestmark = [pytest.mark.integration, pytest.mark.slow]

CONFIG = """\
lateness: 100ms
scopes:
  conversation: {sessions_per_user: one}
per_user: {top: 5}
"""
SCOPES = ("conversation", "default", "other")
TRACE = 0x0AF7651916CD43DD8448EB211C80319C
# Nobody is counted by name before the first event.
EVERYBODY = 'user=~"|other"'
DUPLICATES = 'session_rapid_duplicate_creates_total{scope="conversation",cause="same_request"}'


@pytest.fixture
def sidecar(tmp_path):
    with Sidecar(tmp_path, CONFIG) as running:
        running.start().scrape()
        yield running


@pytest.fixture
def prometheus(require_server, sidecar):
    with Prometheus(require_server("prometheus"), sidecar.url) as running:
        running.until_scraped()
        yield running


@pytest.fixture
def tracker(sidecar):
    open_tracker = SessionTracker(sidecar.journal)
    yield open_tracker
    open_tracker.close()


def race(tracker):
    """Two sessions for one user, within one trace, which is one request."""
    with use_span(NonRecordingSpan(SpanContext(TRACE, 1, is_remote=False, trace_flags=TraceFlags(1)))):
        for session in ("one", "two"):
            tracker.created("a user", session, scope="conversation")
        tracker.context_lost("a user", expected="one", actual="two", scope="conversation")


def test_every_series_is_there_from_the_first_scrape_on_and_every_counter_at_zero(prometheus, tracker):
    race(tracker)
    until(lambda: prometheus.values(DUPLICATES) == [1], "the duplicate is scraped")
    (_, first_scrape), *_ = prometheus.samples("up")
    stored = prometheus.samples(f'{{__name__=~"session_.+",{EVERYBODY}}}')
    series = [each for each in stored if "build_info" not in each[0]["__name__"]]
    assert {samples[0][0] for _, samples in series} == {first_scrape[0][0]}
    names = {labels["__name__"] for labels, _ in stored}
    of_a_watch = {metric.name for metric in WATCH_METRICS}
    assert {name for name in names if not name.endswith("_created")} == sample_names("journal") - of_a_watch
    begun = {frozenset(labels.items() - {("job", "session-exporter")}): samples[0][1] for labels, samples in series}
    counters = {labels: value for labels, value in begun.items() if dict(labels)["__name__"].endswith("_total")}
    assert set(counters.values()) == {0}
    instance = ("instance", urlsplit(prometheus.target).netloc)
    assert counters.keys() == {labels | {instance} for labels in declared_counters()}


def declared_counters():
    """Every label set of every counter, from the table that documents them."""
    users = {OTHER_USERS: UserCounts()}
    totals = LedgerTotals(scopes={name: ScopeTotals(users=users) for name in SCOPES})
    snapshot = Snapshot(totals, 0, ExporterTotals(hook_errors=dict.fromkeys(HOOKS, 0)))
    return {
        frozenset({("__name__", metric.name), *zip(metric.source.labels, row.labels, strict=True)})
        for metric in SHOWN["journal"]
        if metric.kind == "counter"
        for row in metric.source.rows(snapshot)
    }


def test_increase_sees_the_very_first_duplicate(prometheus, tracker):
    assert prometheus.values(DUPLICATES) == [0]
    race(tracker)
    until(lambda: prometheus.values(DUPLICATES) == [1], "the duplicate is scraped")
    assert prometheus.values(f"increase({DUPLICATES}[1m])")[0] > 0


def test_exemplars_lead_to_the_trace(prometheus, tracker):
    race(tracker)
    window = {"start": "2020-01-01T00:00:00Z", "end": "2100-01-01T00:00:00Z"}

    def traces(query):
        found = prometheus.ask("query_exemplars", query=query, **window)
        return {each["labels"]["trace_id"] for series in found for each in series["exemplars"]}

    for name in ("session_creates_total", DUPLICATES, 'session_context_loss_total{reason="reported"}'):
        found = until(lambda name=name: traces(name), f"exemplars of {name}")
        assert found == {f"{TRACE:032x}"}


def test_openmetrics_is_negotiated_so_that_births_are_scraped(prometheus):
    births = prometheus.values('session_creates_created{scope="conversation"}')
    assert len(births) == 1
    assert births[0] > 1_700_000_000


@pytest.mark.parametrize("ended_by", ["stop", "kill"])
def test_a_restart_is_no_counter_reset(prometheus, sidecar, tracker, ended_by):
    race(tracker)
    until(lambda: prometheus.values(DUPLICATES) == [1], "the duplicate is scraped")
    prometheus.until_scraped(5)
    sidecar.listen = urlsplit(sidecar.url).netloc
    getattr(sidecar, ended_by)()
    sidecar.start().scrape()
    prometheus.until_scraped()
    cumulative = set()
    for labels, samples in prometheus.samples(f'{{__name__=~"session_.+_(total|count|bucket|created)",{EVERYBODY}}}'):
        cumulative.add(labels["__name__"])
        values = [value for _, value in samples]
        assert len(values) > 2, labels
        if labels["__name__"].endswith("_created"):
            assert len(set(values)) == 1, labels
    assert [name for name in sorted(cumulative) if prometheus.values(f"max(resets({name}[10m]))") != [0]] == []
    assert prometheus.values(DUPLICATES) == [1]


def test_promtool_has_nothing_to_say_about_the_text_format(require_server, sidecar, tracker):
    race(tracker)
    sidecar.scrape_until(lambda scrape: scrape.total("session_rapid_duplicate_creates_total"), "the duplicate")
    status, text = sidecar.get("/metrics", accept="text/plain")
    assert status == 200
    found = subprocess.run(
        [require_server("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stderr + found.stdout) == (0, "")
