"""The landing page, and the path of the metrics beside it."""

from typing import Any

import pytest

from session_exporter.errors import ConfigError
from session_exporter.sidecar.web import build_app

LINKED = [
    "/metrics",
    "/-/healthy",
    "/-/ready",
    "/api/v1/summary",
    "/api/v1/incidents",
    "/api/v1/lookups",
    "/api/v1/hooks",
    "/api/v1/db-sessions",
]


@pytest.mark.parametrize(
    ("healthy", "words"), [(True, "healthy"), (False, "UNHEALTHY"), (None, "Cannot tell"), ("odd", "Cannot tell")]
)
def test_the_landing_page_gives_the_verdict_and_links(site: Any, healthy: object, words: str) -> None:
    site.service.document = {"healthy": healthy, "problems": ["<b>two</b> & more"]}
    page = site.request("/").body.decode()
    assert words in page
    assert "&lt;b&gt;two&lt;/b&gt; &amp; more" in page
    assert all(f'href="{target}"' in page for target in LINKED)
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page


def test_the_landing_page_tells_what_casts_doubt_on_the_counts(site: Any) -> None:
    exporter = {"hint": "no worker writes", "notes": ["cannot reach the stream"]}
    site.service.document = {"healthy": None, "total": {"operations": 5}, "exporter": exporter}
    page = site.request("/").body.decode()
    assert "Cannot tell whether sessions are healthy (last hour)" in page
    assert "<li>no worker writes</li>\n<li>cannot reach the stream</li>" in page


def test_the_landing_page_survives_a_failing_summary(site: Any, caplog: pytest.LogCaptureFixture) -> None:
    site.service.failure = RuntimeError("no")
    answer = site.request("/")
    assert answer.status == 200
    assert b"Cannot tell" in answer.body
    assert "without a verdict" in caplog.text


def test_the_telemetry_path_can_be_chosen(make_site: Any) -> None:
    with make_site(telemetry_path="/probe/metrics") as site:
        assert b"session_creates_total" in site.request("/probe/metrics").body
        assert b'href="/probe/metrics"' in site.request("/").body
        assert site.request("/metrics").status == 404
    with make_site(telemetry_path="/") as site:
        assert b"session_creates_total" in site.request("/").body


@pytest.mark.parametrize(
    "path", ["", "metrics", "//metrics", "/-/ready", "/api/v1/summary", "/{x}", "/a b", "/é", "/a?b"]
)
def test_a_telemetry_path_that_cannot_be_served_is_refused(site: Any, path: str) -> None:
    with pytest.raises(ConfigError, match=r"web\.telemetry-path"):
        build_app(site.service, telemetry_path=path)
