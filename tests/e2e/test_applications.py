"""Applications that nobody here wrote for us, under gunicorn with four workers: what is counted is what is stored."""

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from instrumented import Instrumented
from judged import events, judge

pytestmark = [pytest.mark.e2e, pytest.mark.integration]

CONFIG = """
scopes: {conversation: {sessions_per_user: one}}
db_sessions: true
tables:
  - table: conversation_sessions
    scope: conversation
    id: id
    user: user_id
    active: {status: [active]}
    end_reason: ended_reason
middleware:
  - {framework: %s, user: user}
"""
TABLE = (
    "CREATE TABLE conversation_sessions "
    "(id text PRIMARY KEY, user_id text NOT NULL, status text NOT NULL, ended_reason text)"
)
USERS, REQUESTS, FAILING, CLIENTS = 40, 600, 0.3, 16
GUNICORN = ("gunicorn", "--workers", "4", "--bind", "127.0.0.1:{port}", "--log-level", "warning")
APPLICATIONS = {
    "fastapi": ("starlette", "asyncpg", (*GUNICORN, "-k", "uvicorn.workers.UvicornWorker", "chat_fastapi:app")),
    "fastapi-preload": (
        "starlette",
        "asyncpg",
        (*GUNICORN, "--preload", "-k", "uvicorn.workers.UvicornWorker", "chat_fastapi:app"),
    ),
    "flask": ("flask", "psycopg", (*GUNICORN, "--threads", "4", "chat_flask:app")),
    "flask-preload": ("flask", "psycopg", (*GUNICORN, "--preload", "--threads", "4", "chat_flask:app")),
}


def post(url: str) -> int:
    try:
        with urlopen(Request(url, method="POST"), timeout=30) as answer:
            return answer.status
    except HTTPError as error:
        return error.code


def drive(url: str, seed: int) -> Counter[int]:
    """Send requests, some of which fail on purpose; returns the statuses."""
    chance = random.Random(seed)
    paths = []
    for _ in range(REQUESTS):
        user = f"user-{chance.randrange(USERS)}"
        what = chance.random()
        failing = f"/work/{user}?fail=true" if what < FAILING else f"/work/{user}"
        paths.append(f"/end/{user}" if what > 0.95 else failing)
    with ThreadPoolExecutor(CLIENTS) as clients:
        return Counter(clients.map(lambda path: post(url + path), paths))


@pytest.mark.parametrize("application", APPLICATIONS)
def test_creates_and_ends_are_the_rows_of_the_database(
    application: str, postgres: object, tmp_path: Path, require_server: Callable[[str], str]
) -> None:
    framework, driver, command = APPLICATIONS[application]
    database = postgres.database()
    postgres.psql(TABLE, database)
    with Instrumented(
        tmp_path, CONFIG % framework, command, DATABASE_URL=postgres.url(driver, database)
    ) as instrumented:
        statuses = drive(instrumented.url, seed=7)
    assert statuses.keys() == {200, 500}, instrumented.log.read_text()
    rows = [row.split("|") for row in postgres.psql("SELECT * FROM conversation_sessions", database).splitlines()]
    found = judge(instrumented.journal, "conversation", "--config.file", instrumented.config)
    assert found.creates == Counter(identifier for identifier, *_ in rows)
    assert found.users == {identifier: {user} for identifier, user, *_ in rows}
    assert found.ends == Counter(identifier for identifier, _, status, _ in rows if status == "closed")
    assert found.counts["violation"] == 0
    told = events(instrumented.journal)
    assert {event["reason"] for event in told if event["event"] == "ended"} <= {"user_request"}
    assert {event["db_session"]["outcome"] for event in told if event["event"] == "db_session"} == {
        "committed",
        "rolled_back",
    }
    assert "Traceback" not in instrumented.log.read_text()
