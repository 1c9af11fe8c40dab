"""A small sidecar of its own kind: a real HTTP server on port 0 that answers what a test tells it to."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Answer = Callable[[BaseHTTPRequestHandler], None]


class AnsweringServer:
    """Answers every path with what was set for it; remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def give(self, path: str, body: bytes | dict[str, Any], status: int = 200, **headers: str) -> None:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in {"Content-Length": str(len(payload)), **headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(payload)

        self.answers[path] = answer

    def summary(self, body: bytes | dict[str, Any], status: int = 200, **headers: str) -> None:
        self.give("/api/v1/summary", body, status, **headers)

    def incidents(self, *incidents: dict[str, Any]) -> None:
        self.give("/api/v1/incidents", {"incidents": list(incidents)})

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler_of(owner: AnsweringServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            owner.asked.append(self.path)
            owner.headers.append(dict(self.headers))
            answer = owner.answers.get(self.path.partition("?")[0])
            try:
                if answer is None:
                    self.send_error(404)
                else:
                    answer(self)
            except ConnectionError:
                self.close_connection = True  # whoever asked has gone

        def log_message(self, *_: object) -> None:
            """Keep the tests' output clean."""

    return Handler


@pytest.fixture
def server() -> Iterator[AnsweringServer]:
    running = AnsweringServer()
    yield running
    running.close()


def window(creates: int = 0, reuses: int = 0, **more: Any) -> dict[str, Any]:
    operations = creates + reuses
    ratio = reuses / operations if operations else None
    return {"creates": creates, "reuses": reuses, "operations": operations, "reuse_ratio": ratio} | {
        "context_losses": 0,
        "rapid_duplicate_creates": 0,
        "duplicates_by_cause": {"same_request": 0, "cross_worker": 0},
        "losses_by_reason": {"missing": 0, "reported": 0},
        "lookups": operations,
        "redundant_lookups": 0,
        "ends": 0,
        "high_create_rate": False,
        **more,
    }


def scope(target: float = 0.95, **of_window: Any) -> dict[str, Any]:
    return {"window": window(**of_window), "reuse_target": target, "active_sessions": 1, "active_users": 1}


def summary(*, healthy: bool | None, total: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "version": "0.1.0",
        "generated_at": "2026-11-20T18:00:30.000000Z",
        "window_seconds": 3600,
        "healthy": healthy,
        "problems": [],
        "total": total,
        "scopes": {"default": scope(), "conversation": {"window": total, "reuse_target": 0.95}},
        "minutes": [],
        "exporter": {"workers": 4, "journal_directory": "/run/session-exporter", "events_lost": 0, "hint": ""},
        **more,
    }


class Documents:
    """Builders of documents as a sidecar answers with."""

    window = staticmethod(window)
    scope = staticmethod(scope)
    summary = staticmethod(summary)

    @staticmethod
    def healthy() -> dict[str, Any]:
        return summary(healthy=True, total=window(creates=5, reuses=95))

    @staticmethod
    def unhealthy() -> dict[str, Any]:
        total = window(
            creates=3,
            reuses=7,
            context_losses=1,
            losses_by_reason={"missing": 0, "reported": 1},
            rapid_duplicate_creates=2,
            duplicates_by_cause={"same_request": 1, "cross_worker": 1, "unobserved": 0},
            high_create_rate=True,
        )
        problems = ["conversation: reuse ratio 70.00% is below 95%", "conversation: 2 rapid duplicate creates"]
        return summary(healthy=False, total=total, problems=problems)

    @staticmethod
    def unknown() -> dict[str, Any]:
        return summary(healthy=None, total=window())

    @staticmethod
    def duplicate() -> dict[str, Any]:
        return {
            "id": "d-1f3a9c0b2e",
            "kind": "rapid_duplicate_create",
            "scope": "conversation",
            "at": "2026-11-20T17:58:03.116200Z",
            "cause": "cross_worker",
            "user": "u:3f9a",
            "gap_ms": 116.2,
            "sessions": ["s:aa", "s:bb"],
            "creates": [
                {
                    "at": "2026-11-20T17:58:03.000000Z",
                    "session": "s:aa",
                    "request": "r:11",
                    "trace": "",
                    "worker": "w1",
                    "pid": 4711,
                    "replica": "web-1",
                    "call_sites": ["app/handlers.py:41:Handler.run", "app/main.py:7:serve"],
                },
                {
                    "at": "2026-11-20T17:58:03.116200Z",
                    "session": "s:bb",
                    "request": "",
                    "trace": "0af7651916cd43dd8448eb211c80319c",
                    "worker": "w2",
                    "pid": 4712,
                    "replica": "web-1",
                    "call_sites": ["app/actions.py:9:Action.start"],
                },
            ],
        }

    @staticmethod
    def loss() -> dict[str, Any]:
        return {
            "id": "l-77",
            "kind": "context_loss",
            "scope": "conversation",
            "at": "2026-11-20T17:59:00Z",
            "reason": "reported",
            "user": "u:3f9a",
            "gap_ms": None,
            "sessions": ["s:aa"],
            "creates": [],
            "expected": "s:aa",
            "actual": "s:bb",
        }


@pytest.fixture
def documents() -> type[Documents]:
    return Documents


@pytest.fixture
def dead_url() -> Iterator[str]:
    # Bound, never listening: nobody else can be given the port while the test runs.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
