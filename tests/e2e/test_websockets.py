"""A chat over websockets, whose every message is a request of its own."""

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from instrumented import Instrumented
from judged import events, judge
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

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
calls:
  - {call: "chat_websocket:get_or_create", kind: get_or_create, scope: conversation, user: user, session: result}
middleware:
  - {framework: starlette, user: user.display_name}
"""
TABLE = (
    "CREATE TABLE conversation_sessions "
    "(id text PRIMARY KEY, user_id text NOT NULL, status text NOT NULL, ended_reason text)"
)
USERS, MESSAGES = 8, 6
UVICORN = ("uvicorn", "--host", "127.0.0.1", "--port", "{port}", "--workers", "2", "chat_websocket:app")


def converse(url: str, user: str, *messages: dict[str, str]) -> list[dict[str, str]]:
    """Connect, send all messages at once, and return the answers in their order."""
    with connect(f"{url.replace('http', 'ws')}/chat?token=token-of-{user}") as socket:
        for number, message in enumerate(messages):
            socket.send(json.dumps({"number": number, **message}))
        answers = [json.loads(socket.recv(timeout=30)) for _ in messages]
    return sorted(answers, key=lambda answer: answer["number"])


def everybody(url: str, *messages: dict[str, str]) -> list[list[dict[str, str]]]:
    with ThreadPoolExecutor(USERS) as pool:
        return list(pool.map(lambda number: converse(url, f"user-{number}", *messages), range(USERS)))


def test_what_users_did_over_websockets_is_counted(
    postgres: object, tmp_path: Path, require_server: Callable[[str], str]
) -> None:
    database = postgres.database()
    postgres.psql(TABLE, database)
    wrong = postgres.url("asyncpg", database).replace("postgres@", "locked:wrong@")
    urls = {"DATABASE_URL": postgres.url("asyncpg", database), "WRONG_PASSWORD_URL": wrong}
    with Instrumented(tmp_path, CONFIG, UVICORN, **urls) as instrumented:
        url = instrumented.url
        first = everybody(url, {})
        again = everybody(url, *[{}] * MESSAGES)
        refused = converse(url, "user-0", {"database": "locked"})
        with pytest.raises(InvalidStatus):
            connect(f"{url.replace('http', 'ws')}/chat?token=forged")
        with urlopen(Request(f"{url}/clean-up", method="POST"), timeout=30) as answer:
            expired = json.load(answer)["expired"]
    log = instrumented.log.read_text()
    assert "has no attribute" not in log
    # Reconnecting keeps the session, and concurrent messages share it.
    for before, after in zip(first, again, strict=True):
        assert {each["session"] for each in before + after} == {before[0]["session"]}
    assert "error" in refused[0]
    rows = [row.split("|") for row in postgres.psql("SELECT * FROM conversation_sessions", database).splitlines()]
    found = judge(instrumented.journal, "conversation", "--config.file", instrumented.config)
    assert found.creates == Counter(identifier for identifier, *_ in rows)
    assert found.users == {identifier: {user} for identifier, user, *_ in rows}
    assert (found.ends, expired) == (found.creates, USERS)
    told = events(instrumented.journal)
    assert {event["reason"] for event in told if event["event"] == "ended"} == {"expired"}
    assert [event["reason"] for event in told if event["event"] == "create_failed"] == ["auth"]
    assert found.counts["violation"] == 0
    lookups = found.counts["lookup"] + found.counts["redundant_lookup"]
    assert (lookups, found.counts["redundant_lookup"]) == (USERS * (1 + MESSAGES), 0)
    assert found.counts["reuse"] == USERS * MESSAGES
    requests = Counter(event["request"] for event in told if event["event"] == "looked_up")
    assert set(requests.values()) == {1}
    errors = [event["db_session"]["errors"] for event in told if event["event"] == "db_session"]
    assert [each for each in errors if each] == [{"auth": 1}]
