import base64
import socket
import threading
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from session_exporter.cli.client import BODY_BYTES_MAX, Sidecar, SilentPeerError
from session_exporter.cli.view_metrics import main
from session_exporter.errors import PeerError

DEADLINE_S = 20


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="view-metrics", env={"LC_ALL": "C.UTF-8"})


def test_no_sidecar_at_a_given_url_is_exit_code_2_and_nothing_else_is_tried(dead_url: str) -> None:
    result = run("--url", dead_url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"Error: no sidecar answers at {dead_url}: [Errno 111] Connection refused\n"


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (500, b'{"error": "internal error"}', "answered 500: internal error"),
        (503, b'{"error": "not ready \\u001b[2J"}', r"answered 503: not ready \x1b[2J"),
        (404, b"404 page not found\nmore", "answered 404: 404 page not found"),
        (502, b"<html>\xff", "answered 502 Bad Gateway"),
        (400, b"", "answered 400 Bad Request"),
        (200, b'{"healthy": tr', "did not answer with a JSON object"),
        (200, b"", "did not answer with a JSON object"),
        (200, b"[1]", "did not answer with a JSON object"),
        (200, b'{"a": NaN}', "did not answer with a JSON object"),
        (200, b'{"a": "\xff"}', "did not answer with a JSON object"),
        (200, b'{"a":' * 100_000, "did not answer with a JSON object"),
        (200, b"{}", "the answer is no summary: Object missing required field `healthy`"),
    ],
)
def test_a_wrong_answer_is_exit_code_2_and_says_what_came(server: Any, status: int, body: bytes, said: str) -> None:
    server.summary(body, status)
    result = run("--url", server.url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_a_body_larger_than_any_summary_is_refused(server: Any) -> None:
    server.summary(b"[" + b"1," * (BODY_BYTES_MAX // 2) + b"1]")
    result = run("--url", server.url)
    assert result.exit_code == 2
    assert f"answered with more than {BODY_BYTES_MAX} bytes" in result.stderr


def test_a_sidecar_that_keeps_silent_is_given_up(server: Any) -> None:
    server.answers["/api/v1/summary"] = lambda _: server.released.wait(DEADLINE_S)
    with pytest.raises(SilentPeerError, match=r"did not answer within 0\.1 s"):
        replace(Sidecar.at(server.url), timeout_s=0.1).summary(since_s=60, scope=None)


def test_a_body_that_never_ends_is_given_up(server: Any) -> None:
    def drip(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not server.released.wait(0.02):
            handler.wfile.write(b" ")

    server.answers["/api/v1/summary"] = drip
    with pytest.raises(SilentPeerError, match=r"did not answer within 0\.3 s"):
        replace(Sidecar.at(server.url), timeout_s=0.3).summary(since_s=60, scope=None)


def test_a_body_cut_short_is_a_peer_error(server: Any) -> None:
    server.summary(b'{"healthy": true', **{"Content-Length": "1000"})
    with pytest.raises(PeerError):
        Sidecar.at(server.url).summary(since_s=60, scope=None)


@pytest.mark.parametrize(
    "greeting", [b"SSH-2.0-OpenSSH_9.2\r\n", b"", b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + b"\r\n"]
)
def test_what_does_not_speak_http_is_a_peer_error(greeting: bytes) -> None:
    def greet() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(greeting)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(PeerError):
            Sidecar.at(f"127.0.0.1:{listener.getsockname()[1]}").summary(since_s=60, scope=None)
        thread.join()


def test_a_password_in_the_url_is_sent_and_never_shown(server: Any, documents: Any) -> None:
    server.summary(documents.unhealthy())
    result = run("--url", f"http://me:p%40ss@127.0.0.1:{server.port}")
    assert server.headers[0]["Authorization"] == "Basic " + base64.b64encode(b"me:p@ss").decode()
    server.summary(b"", 401)
    refused = run("--url", f"http://me:p%40ss@127.0.0.1:{server.port}")
    for text in (
        result.output,
        refused.output,
        repr(Sidecar.at("http://me:p%40ss@x")),
        run("--url", "x://me:p%40ss@x").output,
    ):
        assert "p%40ss" not in text
        assert "p@ss" not in text


def test_a_redirect_is_followed_without_the_password(server: Any, documents: Any) -> None:
    server.summary(b"", 302, Location="/elsewhere")
    server.give("/elsewhere", documents.healthy())
    assert run("--url", f"http://me:secret@127.0.0.1:{server.port}").exit_code == 0
    assert ["Authorization" in headers for headers in server.headers] == [True, False]


def test_a_proxy_of_the_environment_is_not_asked_for_this_host(
    server: Any, documents: Any, dead_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", dead_url)
    monkeypatch.delenv("no_proxy", raising=False)
    server.summary(documents.healthy())
    assert run("--url", server.url).exit_code == 0
    assert run("--url", f"http://localhost:{server.port}").exit_code == 0
