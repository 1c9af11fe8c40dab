"""What an application never told anybody: found in a real one, by its hooks and a sidecar."""

import re
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest
from instrumented import Instrumented
from sidecar_process import DEADLINE_S, Scrape, Sidecar, run, until

VIEW = "session_exporter.cli.view_metrics"
CONFIG = """
lateness: 200ms
privacy: {show_ids: true}
scopes:
  conversation: {sessions_per_user: many}
  web: {sessions_per_user: many}
db_sessions: true
tables:
  - {table: conversations, scope: conversation, id: id, user: user_id}
stores:
  - {pattern: "web:*", scope: web, user_path: user, reads_first: true}
middleware:
  - {framework: starlette, expect: {cookie: sid}, user: user.display_name}
"""
UVICORN = ("uvicorn", "--host", "127.0.0.1", "--port", "{port}", "--workers", "2", "chat_cookies:app")
TABLE = "CREATE TABLE conversations (id text PRIMARY KEY, user_id text NOT NULL)"

pytestmark = [pytest.mark.e2e, pytest.mark.integration]


class Place:
    """The application with its stores, and a sidecar that reads what its hooks record."""

    def __init__(self, application: Instrumented, sidecar: Sidecar, forget: dict[str, Any]) -> None:
        self.application, self.sidecar, self.forget = application, sidecar, forget

    def visit(self, path: str, user: str, sid: str = "", method: str = "POST") -> str:
        """One request with a cookie; the session that the user is with from now on."""
        headers = {"x-user": user, **({"Cookie": f"sid={sid}"} if sid else {})}
        request = Request(f"{self.application.url}{path}/{user}", method=method, headers=headers)
        with urlopen(request, timeout=DEADLINE_S) as answer:
            cookies = SimpleCookie(answer.headers["Set-Cookie"] or "")
        return cookies["sid"].value if "sid" in cookies else sid

    def incidents(self) -> list[dict[str, Any]]:
        return self.sidecar.json("/api/v1/incidents")["incidents"]

    def told(self, incident: dict[str, Any]) -> str:
        """What `view-metrics explain` prints, in one line."""
        finished = run(VIEW, "explain", "--url", self.sidecar.url, incident["id"])
        assert finished.returncode == 0, finished.stderr
        return " ".join(finished.stdout.split())


@pytest.fixture
def place(postgres: Any, redis: Any, tmp_path: Path) -> Iterator[Place]:
    database = postgres.database()
    postgres.psql(TABLE, database)
    forget = {"/chat": lambda: postgres.psql("DELETE FROM conversations", database), "/web": redis.flush}
    urls = {"DATABASE_URL": postgres.url("psycopg", database), "REDIS_URL": redis.url}
    (tmp_path / "sidecar").mkdir()
    with (
        Instrumented(tmp_path, CONFIG, UVICORN, **urls) as application,
        Sidecar(tmp_path / "sidecar", CONFIG, journal=application.journal) as sidecar,
    ):
        yield Place(application, sidecar.start(), forget)


@pytest.mark.parametrize(("path", "scope"), [("/chat", "conversation"), ("/web", "web")])
def test_a_session_that_a_store_forgot_is_a_lost_context(place: Place, path: str, scope: str) -> None:
    before = place.visit(path, "lena")
    assert {place.visit(path, "lena", before) for _ in range(3)} == {before}
    place.forget[path]()  # a job cleans up, or memory is short
    after = place.visit(path, "lena", before)
    assert place.visit(path, "lena", after) == after != before
    place.visit(path, "omar", uuid4().hex)  # a cookie from nobody knows where

    scrape = judged(place.sidecar, scope)
    assert scrape.value("session_context_loss_total", scope=scope, reason="missing") == 1
    assert scrape.total("session_context_loss_total") == 1
    assert scrape.total("session_isolation_violations_total") == 0
    (incident,) = place.incidents()
    assert {name: incident[name] for name in ("kind", "reason", "user", "expected", "actual")} == {
        "kind": "context_loss",
        "reason": "missing",
        "user": "lena",
        "expected": before,
        "actual": after,
    }
    story = place.told(incident)
    assert re.search(r"Request r5 asked for A at chat_cookies\.py:\d+:\w+ and found none, although it was live", story)
    assert f"A session {before} B session {after}" in story


def test_who_left_and_comes_back_with_the_old_cookie_has_lost_nothing(place: Place) -> None:
    before = place.visit("/chat", "omar")
    place.visit("/chat", "omar", before, "DELETE")
    assert place.visit("/chat", "omar", before) != before

    scrape = judged(place.sidecar, "conversation")
    assert (scrape.total("session_context_loss_total"), place.incidents()) == (0, [])


def test_a_database_session_in_a_global_is_found_when_it_serves_two_users(place: Place) -> None:
    kind = "db_session_of_two_users"

    def is_found() -> float:
        for user in ("lena", "omar"):
            place.visit("/report", user)  # by which of two workers, nobody knows
        return place.sidecar.scrape().total("session_isolation_violations_total", kind=kind)

    until(is_found, "a worker has served both, and that is counted")
    incident = next(each for each in place.incidents() if each["violation"] == kind)
    assert {incident["user"], incident["other_user"]} == {"lena", "omar"}
    story = place.told(incident)
    assert re.search(
        r"One database session served user u1 .* and after that user u2 .* without having been closed", story
    )
    assert "Have each request open its own Session, and close it" in story


def judged(sidecar: Sidecar, scope: str) -> Scrape:
    """What is exposed when the last of these requests, whose cookie is stale, has been judged."""
    return sidecar.scrape_until(
        lambda scrape: scrape.value("session_stale_expected_total", scope=scope) == 1, "a stale cookie is counted"
    )
