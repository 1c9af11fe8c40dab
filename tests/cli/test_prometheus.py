"""Asking a Prometheus that is none, refuses, or answers as it should not; and what the options say."""

import base64
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from session_exporter.cli.client import BODY_BYTES_MAX, SilentPeerError
from session_exporter.cli.prometheus import Prometheus, number
from session_exporter.cli.view_metrics import main
from session_exporter.errors import PeerError

DEADLINE_S = 20
NOW_S = 1_795_000_000.0


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="view-metrics", env={"LC_ALL": "C.UTF-8"})


def answer(*rows: tuple[dict[str, str], str], **more: Any) -> dict[str, Any]:
    result = [{"metric": labels, "value": [NOW_S, value]} for labels, value in rows]
    return {"status": "success", "data": {"resultType": "vector", "result": result}, **more}


def test_nobody_at_the_address_is_exit_code_2(dead_url: str) -> None:
    result = run("--prometheus", dead_url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"Error: no Prometheus answers at {dead_url}: [Errno 111] Connection refused\n"


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b"Unauthorized\n", "answered 401: Unauthorized; user and password go into the address, http://USER:"),
        (403, b"", "answered 403 Forbidden; user and password go into the address"),
        (404, b"404 page not found\n", "answered 404: 404 page not found; expected the address of a Prometheus, with"),
        (
            400,
            b'{"status":"error","errorType":"bad_data","error":"1:8: parse error: \\u001b[2J"}',
            r"answered 400: 1:8: parse error: \x1b[2J; asked for vector(1)",
        ),
        (422, b'{"status":"error","error":"too many samples"}', "answered 422: too many samples; asked for vector(1)"),
        (503, b'{"status":"error","error":"query timed out"}', "answered 503: query timed out"),
        (200, b'{"status":"error","error":"no \\u202e luck"}', r"answered with an error: no \u202e luck"),
        (200, b'{"status":"error"}', "answered with an error: it says no more"),
        (200, b"<html>log in</html>", "is no Prometheus: "),
        (200, b"", "is no Prometheus: "),
        (200, b"{}", "is no Prometheus: Object missing required field `status`"),
        (200, b'{"status":"success","data":{"resultType":"string","result":["a"]}}', "is no Prometheus: "),
        (
            200,
            b'{"status":"success","data":{"resultType":"vector","result":[]}}',
            "is no Prometheus: it answered vector(1) with nothing",
        ),
        (200, b'{"status":"success","data":{"resultType":"vector","result":[{"value":[1]}]}}', "is no Prometheus: "),
        (200, b'{"a":' * 100_000, "is no Prometheus: "),
    ],
)
def test_a_wrong_answer_is_exit_code_2_and_says_what_came(server: Any, status: int, body: bytes, said: str) -> None:
    server.give("/api/v1/query", body, status)
    result = run("--prometheus", server.url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"Error: {server.url} {said}" in result.stderr


@pytest.mark.parametrize("value", ["NaN", "+Inf", "1e999", "-1e300", "x"])
def test_a_count_that_is_no_number_is_refused(server: Any, value: str) -> None:
    server.give("/api/v1/query", answer(({"scope": "web", "instance": "a:1"}, value)))
    result = run("--prometheus", server.url)
    assert (result.exit_code, result.stderr) == (
        2,
        f"Error: a sample has the value {value!r}: expected a number up to 1e+18\n",
    )


def test_an_answer_with_too_many_series_is_refused(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("session_exporter.cli.prometheus.SERIES_MAX", 3)
    server.give("/api/v1/query", answer(*(({"n": str(n)}, "1") for n in range(4))))
    result = run("--prometheus", server.url)
    assert result.exit_code == 2
    assert "answered with more than 3 series: ask about less: a shorter --since, one --scope, or" in result.stderr


def test_a_body_larger_than_any_answer_is_refused(server: Any) -> None:
    server.give("/api/v1/query", b" " * (BODY_BYTES_MAX + 1))
    with pytest.raises(PeerError, match=f"answered with more than {BODY_BYTES_MAX} bytes"):
        Prometheus.at(server.url).instant("up", at_s=NOW_S)


def test_one_that_keeps_silent_is_given_up_and_told_how_long_it_has(server: Any) -> None:
    server.answers["/api/v1/query"] = lambda _: server.released.wait(DEADLINE_S)
    with pytest.raises(SilentPeerError, match=r"did not answer within 0\.1 s"):
        replace(Prometheus.at(server.url), timeout_s=0.1).now_s()
    assert server.asked == ["/api/v1/query?query=vector%281%29&timeout=1s"]


def test_all_questions_together_have_a_deadline(server: Any) -> None:
    server.give("/api/v1/query", answer(({}, "1")))
    late = replace(Prometheus.at(server.url), until_s=time.monotonic() - 1)
    with pytest.raises(PeerError, match="took too long to answer: ask about less"):
        late.now_s()
    assert server.asked == []


def test_a_password_is_sent_and_never_shown(server: Any) -> None:
    address = f"http://me:p%40ss@127.0.0.1:{server.port}/prefix/"
    server.give("/prefix/api/v1/query", b"", 401)
    results = [run("--prometheus", address), run("--prometheus", "x://me:p%40ss@x")]
    assert server.headers[0]["Authorization"] == "Basic " + base64.b64encode(b"me:p@ss").decode()
    assert server.asked[0].startswith("/prefix/api/v1/query?")
    for text in (repr(Prometheus.at(address)), *(result.output for result in results)):
        assert "p%40ss" not in text
        assert "p@ss" not in text


def test_the_clock_is_the_servers_own_and_warnings_are_kept_once(server: Any) -> None:
    server.give("/api/v1/query", answer(({}, "1"), warnings=["a store\x1b is away", "a store\x1b is away"]))
    asked = Prometheus.at(server.url).within(60)
    assert asked.now_s() == NOW_S
    asked.instant("up", at_s=NOW_S)
    assert list(asked.warnings) == [r"a store\x1b is away"]


def test_a_number_is_read_as_it_is_written() -> None:
    assert [number(text) for text in ("0", "12", "1.5e+06")] == [0, 12, 1_500_000]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--watch"], "has counts alone, and no history to watch: ask a sidecar, with --url"),
        (["incidents"], "has counts alone, and no incidents"),
        (["incidents", "--follow"], "has counts alone, and no incidents"),
        (["explain", "d-1"], "has counts alone, and no incidents"),
        (["explain", "--user", "ann"], "has counts alone, and no incidents"),
        (["lookups"], "has counts alone, and no call sites of lookups"),
        (["--url", "http://127.0.0.1:1"], "--prometheus does not go with --url: whom to ask?"),
        (["--state.directory", "/tmp"], "--prometheus does not go with --state.directory"),
        (["--selector", "up"], 'expected label matchers, such as \'namespace="shop",cluster!="test"\''),
        (["--selector", 'a="b"} or up{c="d"'], "expected label matchers"),
        (["--prometheus", "ftp://x"], "expected http://HOST:PORT"),
    ],
)
def test_what_it_cannot_tell_is_refused_before_anybody_is_asked(server: Any, arguments: list[str], said: str) -> None:
    result = run("--prometheus", server.url, *arguments)
    assert (result.exit_code, result.stdout, server.asked) == (2, "", [])
    assert said in result.stderr


def test_a_selector_without_a_prometheus_is_a_mistake(server: Any) -> None:
    result = run("--url", server.url, "--selector", 'a="b"')
    assert (result.exit_code, "--selector goes with --prometheus" in result.stderr) == (2, True)


def test_a_selector_that_matches_nothing_is_named(server: Any) -> None:
    def alive(handler: Any) -> None:
        found = answer(({}, "1")) if "vector" in handler.path else answer()
        body = json.dumps(found).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    server.answers["/api/v1/query"] = alive
    result = run("--prometheus", server.url, "--selector", 'namespace="shop"', "--since", "7d")
    assert result.stderr == (
        f'Error: {server.url} has no series session_creates_total{{namespace="shop"}} in the last 7d: is it scraped?\n'
    )
    assert result.exit_code == 2
