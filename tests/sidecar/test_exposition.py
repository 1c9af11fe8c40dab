"""What a scrape says, read back with the parsers of the library that Prometheus' own clients use."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.scopes import CAUSES, END_REASONS, ID_FORMATS, ID_KINDS, LOSS_REASONS
from session_exporter.core.totals import (
    INTERVAL_BUCKETS_S,
    OTHER_USERS,
    Exemplar,
    LedgerTotals,
    ScopeTotals,
    UserCounts,
)
from session_exporter.sidecar.exposition import METRICS, sample_names
from session_exporter.sidecar.reference import LABELS, reference
from session_exporter.sidecar.rendering import EXEMPLAR_CHARS_MAX, render
from session_exporter.sidecar.snapshot import EVENT_KINDS, LOST, ExporterTotals, Role, Snapshot, WatchedTables
from session_exporter.sidecar.transport import FORWARD_ERRORS, SKIPPED, ForwardFigures, StreamFigures
from session_exporter.stream.keys import SHARED
from session_exporter.watch.findings import REASONS, WatchFigures

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
BORN_US = 1_763_664_000_123_456
BORN_S = 1_763_664_000.123456
SCOPES = ("conversation", "default", "other")
USER_COUNTS = {
    "creates": "creates",
    "reuses": "reuses",
    "rapid_duplicate_creates": "duplicates",
    "context_loss": "losses",
}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


WATCHED = WatchedTables({"main": WatchFigures()}, frozenset({"conversation"}), {"conversation": 7}, {"conversation": 2})


def snapshot_of(**scopes: ScopeTotals) -> Snapshot:
    exporter = ExporterTotals(born_us=BORN_US, hook_errors={"explicit": 0})
    return Snapshot(LedgerTotals(scopes=scopes), committed_at_us=BORN_US, exporter=exporter)


@pytest.fixture
def fresh() -> Snapshot:
    """A sidecar that counts users by name, before the first event."""
    users = {OTHER_USERS: UserCounts(BORN_US)}
    return snapshot_of(**{name: ScopeTotals(born_us=BORN_US, users=users) for name in SCOPES})


def samples(snapshot: Snapshot, accept: str = OPENMETRICS) -> dict[tuple[str, frozenset[tuple[str, str]]], Sample]:
    text = render(snapshot, accept)[0].decode()
    parse = parse_openmetrics if "openmetrics" in accept else parse_text
    found = [sample for family in parse(text) for sample in family.samples]
    keyed = {(sample.name, frozenset(sample.labels.items())): sample for sample in found}
    assert len(keyed) == len(found), "a series is exposed twice"
    return keyed


def one(snapshot: Snapshot, name: str, **labels: str) -> Sample:
    return samples(snapshot)[name, frozenset(labels.items())]


@pytest.mark.parametrize("accept", [OPENMETRICS, "text/plain"])
def test_every_label_set_is_there_at_zero_from_the_first_scrape(fresh: Snapshot, accept: str) -> None:
    found = samples(fresh, accept)
    expected = {
        "session_creates_total": [{"scope": s} for s in SCOPES],
        "session_rapid_duplicate_creates_total": [{"scope": s, "cause": c} for s in SCOPES for c in CAUSES],
        "session_context_loss_total": [{"scope": s, "reason": r} for s in SCOPES for r in LOSS_REASONS],
        "session_ends_total": [{"scope": s, "reason": r} for s in SCOPES for r in END_REASONS],
        "session_ids_checked_total": [
            {"scope": s, "id_kind": k, "format": f} for s in SCOPES for k in ID_KINDS for f in ID_FORMATS
        ],
        "session_id_mismatches_total": [{"scope": s} for s in SCOPES],
        **{f"session_user_{name}_total": [{"scope": s, "user": "other"} for s in SCOPES] for name in USER_COUNTS},
        "session_exporter_events_total": [{"kind": k} for k in EVENT_KINDS],
        "session_exporter_events_lost_total": [{"reason": r, "kind": k} for r, k in LOST["journal"]],
        "session_exporter_hook_workers": [{"hook": "explicit", "state": s} for s in ("active", "inactive")],
        "session_exporter_hook_errors_total": [{"hook": "explicit"}],
        "session_exporter_late_events_total": [{}],
        "session_exporter_evicted_sessions_total": [{}],
        "session_exporter_state_lost_total": [{}],
    }
    for name, label_sets in expected.items():
        assert {labels for found_name, labels in found if found_name == name} == {
            frozenset(labels.items()) for labels in label_sets
        }
        assert all(found[name, frozenset(labels.items())].value == 0 for labels in label_sets)


@pytest.mark.parametrize("role", ["journal", "stream", "forward"])
def test_each_metric_of_the_table_is_exposed_by_those_who_know_it_and_nothing_else(fresh: Snapshot, role: Role) -> None:
    snapshot = replace(fresh, role=role, stream=StreamFigures(lag_s={0: 0.0, SHARED: 0.0}), watched=WATCHED)
    assert {name for name, _ in samples(snapshot, "text/plain")} == sample_names(role)


def test_a_database_that_is_to_be_read_shows_every_label_set_from_the_first_scrape(fresh: Snapshot) -> None:
    found = samples(replace(fresh, watched=replace(WATCHED, active_rows={}, duplicate_users={})))
    shown = {name: value.value for (name, _), value in found.items() if "_watch_" in name and "_created" not in name}
    assert shown == dict.fromkeys(
        (
            "session_exporter_watch_up",
            "session_exporter_watch_last_success_timestamp_seconds",
            "session_exporter_watch_errors_total",
            "session_exporter_watch_rows_total",
            "session_exporter_watch_clock_skew_seconds",
        ),
        0,
    )
    errors = [dict(labels) for name, labels in found if name == "session_exporter_watch_errors_total"]
    assert sorted(each["reason"] for each in errors) == sorted(REASONS)
    unreported = [dict(labels) for name, labels in found if name == "session_unreported_creates_total"]
    assert unreported == [{"scope": "conversation"}]
    assert not any(name.startswith("session_db_active") for name, _ in found)


def test_rows_are_shown_as_they_were_counted(fresh: Snapshot) -> None:
    snapshot = replace(fresh, watched=WATCHED)
    assert one(snapshot, "session_db_active_rows", scope="conversation").value == 7
    assert one(snapshot, "session_db_duplicate_active_users", scope="conversation").value == 2


def test_a_query_may_ask_for_what_any_of_them_exposes() -> None:
    of_roles: list[Role] = ["journal", "stream", "forward"]
    assert frozenset().union(*map(sample_names, of_roles)) == sample_names()
    assert sample_names("stream") & sample_names("forward") == {
        "session_exporter_build_info",
        "session_exporter_clock_skew_seconds",
        "session_exporter_config_last_reload_success_timestamp_seconds",
        "session_exporter_config_last_reload_successful",
        "session_exporter_events_lost_total",
        "session_exporter_stream_up",
    }


def test_whoever_forwards_shows_every_label_set_at_zero_from_the_first_scrape(fresh: Snapshot) -> None:
    found = samples(replace(fresh, role="forward"))
    errors = {labels for name, labels in found if name == "session_exporter_forward_errors_total"}
    assert errors == {frozenset({("reason", reason)}) for reason in FORWARD_ERRORS}
    lost = {labels for name, labels in found if name == "session_exporter_events_lost_total"}
    assert lost == {frozenset({("reason", reason), ("kind", kind)}) for reason, kind in LOST["forward"]}
    assert not any(sample.value for (name, _), sample in found.items() if name.endswith("_total"))


def test_whoever_counts_a_share_shows_every_label_set_at_zero_from_the_first_scrape(fresh: Snapshot) -> None:
    lags = {12: 0.0, SHARED: 0.0, 3: 0.0}
    found = samples(replace(fresh, role="stream", stream=StreamFigures(lag_s=lags)))
    skipped = {labels for name, labels in found if name == "session_exporter_stream_entries_skipped_total"}
    assert skipped == {frozenset({("reason", reason)}) for reason in SKIPPED}
    lag = [dict(labels)["partition"] for name, labels in found if name == "session_exporter_stream_lag_seconds"]
    assert lag == ["3", "12", "shared"]
    lost = {labels for name, labels in found if name == "session_exporter_events_lost_total"}
    assert lost == {frozenset({("reason", reason), ("kind", "unknown")}) for reason in ("malformed", "stream_cut")}
    assert not any(sample.value for (name, _), sample in found.items() if name.endswith("_total"))


def test_a_stream_is_told_about_by_those_at_both_its_ends() -> None:
    forward = ForwardFigures(
        up=True,
        forwarded_events=9,
        resent_events=2,
        errors={"out_of_memory": 3},
        uncommitted_bytes=512,
        released_early_segments=1,
        clock_skew_s=0.25,
    )
    stream = StreamFigures(
        up=False,
        lag_s={0: 1.5, SHARED: 2.5},
        partitions=12,
        redelivered_events=4,
        entries_skipped={"malformed": 5},
        forwarders=6,
        held_s=7.5,
        clock_skew_s=-0.5,
    )

    def shown(role: Role) -> dict[str, float]:
        snapshot = Snapshot(LedgerTotals(), 0, ExporterTotals(), role, forward, stream)
        return {
            " ".join([name.removeprefix("session_exporter_"), *(value for _, value in sorted(labels))]): sample.value
            for (name, labels), sample in samples(snapshot).items()
            if sample.value and name.startswith("session_exporter_") and not name.endswith("_info")
        }

    reloaded = {"config_last_reload_successful": 1}
    assert shown("forward") == reloaded | {
        "stream_up": 1,
        "forwarded_events_total": 9,
        "forward_resent_events_total": 2,
        "forward_errors_total out_of_memory": 3,
        "forward_uncommitted_bytes": 512,
        "forward_released_early_segments_total": 1,
        "clock_skew_seconds": 0.25,
    }
    assert shown("stream") == reloaded | {
        "stream_lag_seconds 0": 1.5,
        "stream_lag_seconds shared": 2.5,
        "stream_partitions": 12,
        "stream_redelivered_events_total": 4,
        "stream_entries_skipped_total malformed": 5,
        "stream_forwarders": 6,
        "stream_held_seconds": 7.5,
        "clock_skew_seconds": -0.5,
    }


def test_the_reuse_ratio_is_not_a_number_before_traffic(fresh: Snapshot) -> None:
    assert math.isnan(one(fresh, "session_reuse_ratio", scope="default").value)


def test_openmetrics_ends_with_eof_and_text_does_not(fresh: Snapshot) -> None:
    assert render(fresh, OPENMETRICS)[0].endswith(b"\n# EOF\n")
    assert b"# EOF" not in render(fresh, "text/plain")[0]


def test_counters_and_histograms_say_when_counting_began(fresh: Snapshot) -> None:
    found = samples(fresh)
    kinds = {metric.name: metric.kind for metric in METRICS}
    for name, labels in list(found):
        if kinds.get(name) == "counter":
            assert found[name.removesuffix("_total") + "_created", labels].value == BORN_S
        if name.endswith("_count"):
            assert found[name.removesuffix("_count") + "_created", labels].value == BORN_S


def test_the_text_format_has_no_created_series(fresh: Snapshot) -> None:
    assert not any(name.endswith("_created") for name, _ in samples(fresh, "text/plain"))


def test_a_histogram_is_cumulative_and_has_the_default_window_among_its_bounds() -> None:
    totals = ScopeTotals(born_us=BORN_US)
    for interval_s in (0.01, 0.116, 10.0, 90_000.0):
        totals.intervals.observe(interval_s)
    found = samples(snapshot_of(default=totals))
    name = "session_create_interval_seconds"

    def bucket(bound: str) -> float:
        return found[f"{name}_bucket", frozenset({"scope": "default", "le": bound}.items())].value

    assert (bucket("0.01"), bucket("0.1"), bucket("0.25"), bucket("10.0"), bucket("+Inf")) == (1, 1, 2, 3, 4)
    assert 10.0 in INTERVAL_BUCKETS_S
    assert found[f"{name}_count", frozenset({("scope", "default")})].value == 4
    assert found[f"{name}_sum", frozenset({("scope", "default")})].value == pytest.approx(90_010.126)


def test_creates_duplicates_and_losses_carry_exemplars_in_openmetrics() -> None:
    seen = Exemplar(TRACE, "u:3f9a", BORN_US)
    keys = ("creates", "duplicates:same_worker", "losses:reported")
    snapshot = snapshot_of(default=ScopeTotals(exemplars=dict.fromkeys(keys, seen)))
    pointed = {
        (name, dict(labels).get("cause") or dict(labels).get("reason")): sample.exemplar
        for (name, labels), sample in samples(snapshot).items()
        if sample.exemplar
    }
    assert set(pointed) == {
        ("session_creates_total", None),
        ("session_rapid_duplicate_creates_total", "same_worker"),
        ("session_context_loss_total", "reported"),
    }
    for exemplar in pointed.values():
        assert exemplar.labels == {"trace_id": TRACE, "user": "u:3f9a"}
        assert (exemplar.value, float(exemplar.timestamp)) == (1.0, pytest.approx(BORN_S))
    assert TRACE.encode() not in render(snapshot, "text/plain")[0]


@pytest.mark.parametrize(
    ("exemplar", "expected"),
    [
        (Exemplar(TRACE, "", 1), {"trace_id": TRACE}),
        (Exemplar("", "u:3f9a", 1), {"user": "u:3f9a"}),
        (Exemplar("", "", 1), None),
        (Exemplar(TRACE, "u" * 84, 1), {"trace_id": TRACE, "user": "u" * 84}),
        (Exemplar(TRACE, "u" * 85, 1), {"trace_id": TRACE}),
        (Exemplar("t" * 200, "u", 1), None),
        (Exemplar("", "u" * 200, 1), None),
    ],
)
def test_an_exemplar_keeps_what_fits_into_128_characters(exemplar: Exemplar, expected: object) -> None:
    snapshot = snapshot_of(default=ScopeTotals(exemplars={"creates": exemplar}))
    pointed = one(snapshot, "session_creates_total", scope="default").exemplar
    assert (pointed.labels if pointed else None) == expected


@given(trace=st.text(max_size=200), user=st.text(max_size=200), at_us=st.integers(0, 9_000_000_000_000_000))
def test_no_exemplar_makes_a_scrape_unreadable(trace: str, user: str, at_us: int) -> None:
    snapshot = snapshot_of(default=ScopeTotals(exemplars={"creates": Exemplar(trace, user, at_us)}))
    pointed = one(snapshot, "session_creates_total", scope="default").exemplar
    if pointed:
        assert sum(len(name) + len(value) for name, value in pointed.labels.items()) <= EXEMPLAR_CHARS_MAX


@given(scope=st.text(st.characters(exclude_categories=()), max_size=40))
@pytest.mark.parametrize("accept", [OPENMETRICS, "text/plain"])
def test_no_scope_name_makes_a_scrape_unreadable(accept: str, scope: str) -> None:
    snapshot = snapshot_of(**{scope: ScopeTotals(creates=7)})
    found = samples(snapshot, accept)
    encodable = scope.encode(errors="replace").decode()
    assert found["session_creates_total", frozenset({("scope", encodable)})].value == 7


def test_where_nobody_is_counted_by_name_no_user_is_a_label() -> None:
    assert not any("user" in dict(labels) for _, labels in samples(snapshot_of(default=ScopeTotals())))


def test_users_are_counted_by_name_beside_all_others_with_the_time_since_when() -> None:
    users = {OTHER_USERS: UserCounts(BORN_US, 1, 2, 3, 4), "u:3f9a0c41be77": UserCounts(BORN_US + 10**6, 5, 6, 7, 8)}
    found = samples(snapshot_of(default=ScopeTotals(born_us=BORN_US, creates=6, users=users)))
    for name, attribute in USER_COUNTS.items():
        for user, counts in users.items():
            labels = frozenset({("scope", "default"), ("user", user)})
            assert found[f"session_user_{name}_total", labels].value == getattr(counts, attribute)
            assert found[f"session_user_{name}_created", labels].value == pytest.approx(counts.born_us / 1e6)
    assert found["session_creates_total", frozenset({("scope", "default")})].value == 6


@given(user=st.text(st.characters(exclude_categories=()), min_size=1, max_size=256))
@pytest.mark.parametrize("accept", [OPENMETRICS, "text/plain"])
def test_no_id_of_a_user_makes_a_scrape_unreadable(accept: str, user: str) -> None:
    names = Pseudonyms(b"k" * 32, show_ids=True)
    label = names.label("u", names[user])
    found = samples(snapshot_of(default=ScopeTotals(users={label: UserCounts(BORN_US, 7)})), accept)
    (shown,) = (labels for name, labels in found if name == "session_user_creates_total")
    assert found["session_user_creates_total", shown].value == 7
    if not any("\ud800" <= each <= "\udfff" for each in user):
        assert dict(shown)["user"] == user


def test_a_state_that_lacks_a_word_of_this_version_shows_it_at_zero() -> None:
    totals = ScopeTotals(born_us=BORN_US, ends={}, duplicates={}, losses={"reported": 3})
    snapshot = snapshot_of(default=totals)
    assert one(snapshot, "session_ends_total", scope="default", reason="rotated").value == 0
    assert one(snapshot, "session_context_loss_total", scope="default", reason="reported").value == 3


def test_ids_are_counted_by_kind_and_format() -> None:
    totals = ScopeTotals(born_us=BORN_US, ids_checked={"thread/invalid": 3, "user/canonical": 7}, id_mismatches=2)
    snapshot = snapshot_of(default=totals)
    found = {
        (sample.labels["id_kind"], sample.labels["format"]): sample.value
        for (name, _), sample in samples(snapshot).items()
        if name == "session_ids_checked_total" and sample.value
    }
    assert found == {("thread", "invalid"): 3, ("user", "canonical"): 7}
    assert one(snapshot, "session_id_mismatches_total", scope="default").value == 2


def test_the_exporter_tells_about_itself() -> None:
    exporter = ExporterTotals(
        version="1.2.3",
        python_version="3.11.9",
        workers=4,
        events_lost={("disk_full", "created"): 5},
        journal_bytes=262_144,
        journal_lag_s=0.25,
        hook_workers={("sqlalchemy", "active"): 4},
        config_last_reload_successful=False,
        config_last_reload_success_at_s=BORN_S,
    )
    snapshot = Snapshot(LedgerTotals(late_events=2, tracked_sessions=9, evicted_sessions=1), 0, exporter)
    assert one(snapshot, "session_exporter_build_info", version="1.2.3", python_version="3.11.9").value == 1
    assert one(snapshot, "session_exporter_events_lost_total", reason="disk_full", kind="created").value == 5
    assert one(snapshot, "session_exporter_hook_workers", hook="sqlalchemy", state="active").value == 4
    assert one(snapshot, "session_exporter_hook_workers", hook="sqlalchemy", state="inactive").value == 0
    values = {
        "workers": 4,
        "journal_bytes": 262_144,
        "journal_lag_seconds": 0.25,
        "late_events_total": 2,
        "tracked_sessions": 9,
        "evicted_sessions_total": 1,
        "config_last_reload_successful": 0,
        "config_last_reload_success_timestamp_seconds": BORN_S,
    }
    for name, value in values.items():
        assert one(snapshot, f"session_exporter_{name}").value == value


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (PROMETHEUS_2, "application/openmetrics-text; version=1.0.0"),
        (PROMETHEUS_3, "application/openmetrics-text; version=1.0.0"),
        ("", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/plain; version=0.0.4"),
        ("text/plain;version=1.0.0", "text/plain; version=1.0.0"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0"),
        ("Application/OpenMetrics-Text; Version=1.0.0", "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text;q=0", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;version=0.0.1", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;version=9.9.9-hostile", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;q=0.2, text/plain", "text/plain; version=0.0.4"),
        (",;=,,;q=;;,application/openmetrics-text;q=nonsense", "application/openmetrics-text; version=1.0.0"),
    ],
)
def test_the_format_is_the_one_the_client_likes_best(fresh: Snapshot, accept: str, expected: object) -> None:
    body, content_type = render(fresh, accept)
    assert content_type.startswith(expected)
    assert body.endswith(b"# EOF\n") == ("openmetrics" in content_type)


def test_metric_names_follow_the_conventions() -> None:
    for metric in METRICS:
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert (metric.kind == "info") == metric.name.endswith("_info")
        assert metric.name.startswith("session_")
        assert metric.help.endswith((".", "recording rule."))
        assert "|" not in metric.help
        assert not {"user_id", "session", "session_id"} & set(metric.source.labels)
        assert ("user" in metric.source.labels) == metric.name.startswith("session_user_")
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_the_reference_is_what_the_table_says() -> None:
    written = Path(__file__).parents[2] / "docs" / "metrics.md"
    assert written.read_text(encoding="utf-8") == reference(), (
        "run python -m session_exporter.sidecar.reference > docs/metrics.md"
    )
    assert {label for metric in METRICS for label in metric.source.labels} == set(LABELS)


def test_the_reference_names_what_the_race_remediation_document_calls_them() -> None:
    called = {metric.name: metric.called for metric in METRICS if metric.called}
    assert called == {
        "session_creates_total": "session_creates_total{user_id}",
        "session_reuses_total": "session_reuses_total{user_id}",
        "session_reuse_ratio": "session_reuse_ratio{user_id}",
        "session_context_loss_total": "context_loss_total{user_id}",
        "session_user_creates_total": "session_creates_total{user_id}",
        "session_user_reuses_total": "session_reuses_total{user_id}",
        "session_user_context_loss_total": "context_loss_total{user_id}",
    }
