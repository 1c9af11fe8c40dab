"""The tables that published packages keep their sessions in, audited as they were left."""

import json
from collections import Counter

import pytest
from click.testing import CliRunner
from test_subjects import drive

from session_exporter.cli.session_exporter import main

pytestmark = [pytest.mark.e2e, pytest.mark.integration, pytest.mark.slow]

KINDS = ("sqlite", "postgresql")
# What of them says whose a session is, and since when: one does, the others have no column for a user.
UNTOLD = {
    "agents": ("--table", "agent_sessions", "--id", "session_id", "--created-at", "created_at"),
    "langchain": ("--table", "message_store", "--id", "session_id"),
    "django": ("--table", "django_session", "--id", "session_key"),
}


@pytest.fixture
def address(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'subject.db'}"
    postgres = request.getfixturevalue("postgres")
    return postgres.dsn(postgres.database())


def audit(address, *arguments):
    done = CliRunner().invoke(main, ["audit", "db", "--url", address, "--show-ids", "--json", *arguments])
    assert not done.stderr
    return done.exit_code, json.loads(done.stdout)["tables"][0]


@pytest.mark.parametrize("address", KINDS, indirect=True)
def test_the_duplicates_of_a_package_are_found_in_its_table(address, tmp_path) -> None:
    truth = drive("adk", "2.1", tmp_path, DATABASE=address)
    left = [(user, session) for user, session in truth["created"] if session not in truth["ended"]]
    creates = Counter(user for user, _ in left)

    columns = ("--id", "id", "--user", "user_id", "--key", "app_name", "--created-at", "create_time")
    code, told = audit(address, "--table", "sessions", *columns)

    history = told["history"]
    assert (code, told["rows"], history["creates"]) == (1, len(left), len(left))
    assert {each["user"]: each["rapid_duplicates"] for each in history["worst"]} == {
        user: count - 1 for user, count in creates.items() if count > 1
    }
    pairs = {each["session"] for pair in history["smallest_gaps"] for each in pair["sessions"]}
    assert pairs <= {session for _, session in left}


@pytest.mark.parametrize("address", KINDS, indirect=True)
@pytest.mark.parametrize("name", UNTOLD)
def test_what_a_table_does_not_say_is_not_guessed(name, address, tmp_path) -> None:
    drive(name, "" if name == "django" else "2.1", tmp_path, DATABASE=address)
    code, told = audit(address, *UNTOLD[name])
    assert (code, told["problem"], told["active"], told["history"]) == (2, None, None, None)
    assert "No column names the user" in told["not_told"][0]
    assert told["rows"] > 0
