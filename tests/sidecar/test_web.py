"""The HTTP interface on a real socket; the sidecar behind it is a fake that does as it is told."""

import asyncio
import gzip
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from session_exporter.errors import ConfigError, StateError
from session_exporter.sidecar.incidents import Wanted
from session_exporter.sidecar.queries import SCRAPE_TIMEOUT_HEADER

READABLE = [
    "/metrics",
    "/",
    "/-/healthy",
    "/-/ready",
    "/api/v1/summary",
    "/api/v1/incidents",
    "/api/v1/lookups",
    "/api/v1/hooks",
    "/api/v1/db-sessions",
]


def creates(body: bytes) -> float:
    families = {family.name: family for family in parse_text(body.decode())}
    return next(s.value for s in families["session_creates"].samples if s.name == "session_creates_total")


@pytest.mark.parametrize("target", READABLE)
def test_each_endpoint_answers_get_with_security_headers(site: Any, target: str) -> None:
    answer = site.request(target)
    assert answer.status == 200
    assert answer.headers["Server"] == "session-exporter"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("target", [*READABLE, "/nowhere", "/api/v1/summary?since=never"])
def test_head_answers_as_get_does_without_the_body(target: str, committed: Any, make_site: Any) -> None:
    with make_site(committed=committed) as site:
        got, head = site.request(target), site.request(target, "HEAD")
    ignored = {"Date"} | ({"Content-Length"} if target == "/metrics" and committed else set())
    assert head.status == got.status
    assert head.body == b""
    assert {k: v for k, v in head.headers.items() if k not in ignored} == {
        k: v for k, v in got.headers.items() if k not in ignored
    }
    assert int(head.headers["Content-Length"]) > 0


def test_a_scrape_is_openmetrics_or_text_as_the_client_asks(site: Any) -> None:
    text = site.request("/metrics")
    assert text.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert list(parse_text(text.body.decode()))
    openmetrics = site.request("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert openmetrics.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert list(parse_openmetrics(openmetrics.body.decode()))
    assert "Accept" in openmetrics.headers["Vary"]


def test_a_scrape_is_compressed_only_for_a_client_that_takes_it(site: Any) -> None:
    compressed = site.request("/metrics", Accept_Encoding="gzip")
    assert compressed.headers["Content-Encoding"] == "gzip"
    assert b"session_creates_total" in gzip.decompress(compressed.body)
    for refused in ("gzip;q=0", "identity", "br"):
        plain = site.request("/metrics", Accept_Encoding=refused)
        assert "Content-Encoding" not in plain.headers
        assert b"session_creates_total" in plain.body


def test_a_scrape_drains_first(site: Any) -> None:
    assert [creates(site.request("/metrics").body) for _ in range(3)] == [1, 2, 3]


def test_before_the_first_commit_only_the_liveness_probe_succeeds(make_site: Any) -> None:
    with make_site(committed=False) as site:
        assert site.request("/-/healthy").status == 200
        assert site.request("/").status == 200
        for target in ("/metrics", "/-/ready"):
            answer = site.request(target)
            assert answer.status == 503
            assert "nothing has been committed" in answer.error
            assert answer.headers["Retry-After"] == "1"


def test_a_drain_that_outlasts_the_deadline_is_answered_with_the_last_commit(site: Any) -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    site.service.on_scrape = forever
    for _ in range(2):
        answer = site.request("/metrics", **{SCRAPE_TIMEOUT_HEADER: "0.1"})
        assert answer.status == 200
        assert creates(answer.body) == 1
    assert site.service.drains == 1


def test_a_drain_that_fails_is_answered_with_the_last_commit(site: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise StateError("the disk is gone")

    site.service.on_scrape = fail
    answer = site.request("/metrics")
    assert answer.status == 200
    assert creates(answer.body) == 1
    assert "the drain failed" in caplog.text


@pytest.mark.parametrize(
    ("header", "budget_s"),
    [("8", 4.0), ("0.01", 0.05), ("1e9", 60.0), ("inf", 5.0), ("nan", 5.0), ("-3", 5.0), ("soon", 5.0), ("", 5.0)],
)
def test_the_drain_gets_half_of_the_scrape_timeout(site: Any, header: str, budget_s: float) -> None:
    assert site.request("/metrics", **{SCRAPE_TIMEOUT_HEADER: header}).status == 200
    assert site.service.budgets_s == [budget_s]


def test_documents_are_passed_on_as_json_with_defaults(site: Any) -> None:
    site.service.document = {"healthy": None, "total": {"reuse_ratio": float("nan")}}
    summary = site.request("/api/v1/summary")
    assert summary.headers["Content-Type"] == "application/json"
    assert json.loads(summary.body) == {"healthy": None, "total": {"reuse_ratio": None}}
    assert json.loads(site.request("/api/v1/incidents").body) == {"incidents": [{"id": "d-1f3a9c0b2e"}], "next": "0-1"}
    assert site.service.asked == [("summary", 3600.0), ("incidents", Wanted(since_s=3600.0, limit=100))]


def test_parameters_reach_the_service(site: Any) -> None:
    query = "since=1h30m&scope=default&kind=context_loss&cause=same_request&reason=missing&limit=7"
    more = "&id=d-1f&user=a%20b&after=3f9a0c41-12"
    assert site.request(f"/api/v1/incidents?{query}{more}").status == 200
    wanted = Wanted(
        since_s=5400.0,
        scope="default",
        kind="context_loss",
        cause="same_request",
        reason="missing",
        limit=7,
        id="d-1f",
        user="a b",
        after="3f9a0c41-12",
    )
    assert site.service.asked == [("incidents", wanted)]


def test_an_incident_that_nobody_knows_is_not_found(site: Any) -> None:
    answer = site.request("/api/v1/incidents?id=l-0")
    assert (answer.status, answer.error) == (404, "id: 'l-0': no incident has this id, or one that begins like it")


def test_the_id_of_a_user_is_repeated_by_no_message(site: Any) -> None:
    answer = site.request(f"/api/v1/incidents?user={'secret' * 200}")
    assert (answer.status, answer.error) == (
        400,
        "user: 1200 characters: expected the id of a user, 1 to 1024 characters",
    )


def test_parameters_of_lookups_reach_the_service(site: Any) -> None:
    assert site.request("/api/v1/lookups").status == 200
    assert site.request("/api/v1/lookups?since=2h&scope=default&limit=5").status == 200
    assert site.service.asked == [
        ("lookups", {"since_s": 3600.0, "scope": None, "limit": 100}),
        ("lookups", {"since_s": 7200.0, "scope": "default", "limit": 5}),
    ]


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("/api/v1/summary?since=3600", ("since", "'3600'", "1s to 31d")),
        ("/api/v1/summary?kind=context_loss", ("'kind'", "since, scope")),
        ("/api/v1/incidents?limit=0", ("limit", "'0'", "1 to 1000")),
        ("/api/v1/incidents?cause=x", ("cause", "'x'", "same_request")),
        ("/api/v1/incidents?kind=x", ("kind", "'x'", "invalid_id")),
        ("/api/v1/incidents?reason=x", ("reason", "'x'", "switched")),
        ("/api/v1/incidents?id=D%201", ("id", "'D 1'", "d-1f3a9c0b2e")),
        ("/api/v1/incidents?id=", ("id", "''", "d-1f3a9c0b2e")),
        ("/api/v1/incidents?user=", ("user", "1 to 1024")),
        ("/api/v1/incidents?after=1", ("after", "'1'", "next")),
        ("/api/v1/lookups?limit=1001", ("limit", "'1001'", "1 to 1000")),
        ("/api/v1/lookups?since=32d", ("since", "'32d'", "1s to 31d")),
        ("/api/v1/lookups?kind=context_loss", ("'kind'", "since, scope, limit")),
        ("/api/v1/hooks?a=1", ("'a'", "none")),
        ("/api/v1/db-sessions?since=1h", ("'since'", "none")),
    ],
)
def test_a_wrong_parameter_is_refused_before_the_service_is_asked(
    site: Any, target: str, parts: tuple[str, ...]
) -> None:
    answer = site.request(target)
    assert answer.status == 400
    assert all(part in answer.error for part in parts)
    assert site.service.asked == []


def test_a_scope_that_nobody_knows_is_not_found(site: Any) -> None:
    for document in ("summary", "incidents", "lookups"):
        answer = site.request(f"/api/v1/{document}?scope=nope")
        assert answer.status == 404
        assert "'nope'" in answer.error


def test_what_is_not_there_or_not_allowed_is_said_in_json(site: Any) -> None:
    assert site.request("/nowhere").error == "not found"
    refused = site.request("/metrics", "POST")
    assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD")
    assert "GET, HEAD" in refused.error


def test_a_failing_service_is_an_answer_and_a_log_line(site: Any, caplog: pytest.LogCaptureFixture) -> None:
    site.service.failure = StateError("state.db: disk full")
    assert (site.request("/api/v1/summary").status, site.request("/api/v1/summary").error) == (
        503,
        "state.db: disk full",
    )
    site.service.failure = ZeroDivisionError("secret")
    answer = site.request("/api/v1/hooks")
    assert answer.status == 500
    assert "secret" not in answer.error
    assert "A request to /api/v1/hooks failed" in caplog.text


def test_the_lifecycle_is_closed_unless_it_was_opened(site: Any) -> None:
    for path in ("/-/reload", "/-/quit"):
        for method in ("POST", "PUT"):
            answer = site.request(path, method)
            assert answer.status == 403
            assert "--web.enable-lifecycle" in answer.error
        assert site.request(path).status == 405
    assert site.service.asked == []


def test_an_open_lifecycle_reloads_and_quits(make_site: Any) -> None:
    with make_site(enable_lifecycle=True) as site:
        assert site.request("/-/reload", "POST").status == 200
        assert site.request("/-/quit", "PUT").status == 200
        assert [method for method, _ in site.service.asked] == ["reload", "quit"]
        site.service.failure = ConfigError("config.yml:3: lateness: 'x': expected a duration")
        answer = site.request("/-/reload", "PUT")
        assert answer.status == 500
        assert "config.yml:3" in answer.error


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=60))
@example("since=%00&scope=%ff%fe")
@example("scope=%ED%A0%80")
@example("limit=%f0&&&=;=")
@example("since=1h;drop")
def test_no_query_string_is_an_internal_error(long_lived: Any, query: str) -> None:
    for target in READABLE:
        assert long_lived.request(f"{target}?{query}").status in {200, 400, 404}


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00",
        b"GET /api/v1/summary?scope=\xff\xfe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: \xff;q=\xff\r\nConnection: close\r\n\r\n",
        b"POST /-/quit HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_hostile_bytes_leave_the_server_running(long_lived: Any, raw: bytes) -> None:
    received = long_lived.runner.run(long_lived.send(raw))
    assert not received.startswith((b"HTTP/1.1 500", b"HTTP/1.0 500"))
    assert long_lived.request("/metrics").status == 200
    assert long_lived.service.asked.count(("quit", None)) == 0


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"GET /api/v1/incidents?user=somebody\x01 HTTP/1.1\r\nHost: a\r\n\r\n", "InvalidURLError"),
        (b"GET /api/v1/incidents?user=somebody HTTP/x\r\nHost: a\r\n\r\n", "BadStatusLine"),
        (b"GET /api/v1/incidents?user=somebody" + b"y" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", "LineTooLong"),
    ],
)
def test_a_request_that_is_no_http_is_logged_without_the_user_it_names(
    long_lived: Any, caplog: pytest.LogCaptureFixture, raw: bytes, fault: str
) -> None:
    long_lived.runner.run(long_lived.send(raw))
    (record,) = caplog.records
    assert (record.levelname, vars(record)["fault"], record.exc_info) == ("ERROR", fault, None)
    assert "somebody" not in caplog.text
