"""`session-exporter audit db`, as it is typed."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import unicodedata

import pytest
from click.testing import CliRunner

from session_exporter.cli.session_exporter import main

COLUMNS = "id text PRIMARY KEY, user_id text, status text NOT NULL, created_at timestamp, ended_reason text"
RACED = [
    ("s-one", "ann", "active", "2026-11-20 21:12:25.100000", None),
    ("s-two", "ann", "active", "2026-11-20 21:12:25.216000", None),
    ("s-three", "bob", "ended", "2026-11-20 21:12:25.300000", "completed"),
]
CALM = [
    ("s-one", "ann", "active", "2026-11-20 21:12:25", None),
    ("s-two", "bob", "active", "2026-11-20 21:12:26", None),
]
CONFIG = """\
scopes: {chat: {duplicate_window: 100ms}}
tables:
  - {table: chats, scope: chat, id: id, user: user_id, active: {status: [active]}, created_at: created_at}
  - {table: others, id: id, user: user_id, created_at: created_at}
"""
DESCRIBED = [
    *("--table", "chats", "--user", "user_id", "--created-at", "created_at", "--active", "status=active"),
    *("--end-reason", "ended_reason"),
]


@pytest.fixture
def url(tmp_path):
    """Makes a database with these rows; returns its URL."""

    def make(rows, columns=COLUMNS):
        with sqlite3.connect(tmp_path / "app.db") as connection:
            connection.execute(f"CREATE TABLE chats ({columns})")
            connection.executemany(f"INSERT INTO chats VALUES ({', '.join('?' * len(rows[0]))})", rows)
        connection.close()
        return f"sqlite:///{tmp_path / 'app.db'}"

    return make


def audit(*arguments, **environ):
    return CliRunner().invoke(main, ["audit", "db", *map(str, arguments)], env={"LC_ALL": "C.UTF-8", **environ})


def document(*arguments, **environ):
    done = audit(*arguments, "--json", **environ)
    return done.exit_code, json.loads(done.stdout)


def test_what_is_found_is_told_and_the_exit_code_says_so(url) -> None:
    done = audit("--url", url(RACED), *DESCRIBED)
    assert done.exit_code == 1, done.output
    assert "1 user with more than one active session; 1 too many in all" in done.stdout
    assert "1 create less than 10s after another, of 1 user" in done.stdout
    assert "2026-11-20           1      1" in done.stdout
    assert "116.0 ms" in done.stdout
    assert "UPDATE chats\nSET status = 'ended',\n    ended_reason = 'duplicate_cleanup'" in done.stdout
    assert "CREATE UNIQUE INDEX chats_one_active\n  ON chats (user_id)\n  WHERE status = 'active';" in done.stdout


def test_a_database_without_the_race_is_told_to_be_so(url) -> None:
    done = audit("--url", url(CALM), *DESCRIBED)
    assert done.exit_code == 0, done.output
    assert "No duplicate active sessions found" in done.stdout
    assert "No session was created less than 10s after another of its user" in done.stdout


@pytest.mark.parametrize("length", [1, 12, 34, 60])
def test_no_line_is_wider_than_a_terminal(url, length) -> None:
    rows = [
        (f"{number:02}{'s' * length}", "u" * length, "active", f"2026-11-20 21:12:{number:02}", None)
        for number in range(30)
    ]
    done = audit("--url", url(rows), *DESCRIBED, "--show-ids")
    wide = [line for line in done.stdout.splitlines() if _cells(line) > 80 and not line.startswith("Database:")]
    assert not wide


def _cells(line):
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in line)


def test_ids_are_pseudonyms_that_are_this_runs_own(url) -> None:
    where = url(RACED)
    first, second = (audit("--url", where, *DESCRIBED).stdout for _ in range(2))
    assert not re.search("ann|s-one|s-two", first)
    assert set(re.findall(r"u:\w{12}", first)).isdisjoint(re.findall(r"u:\w{12}", second))


def test_a_configured_key_makes_the_pseudonyms_of_the_fleet(url, tmp_path) -> None:
    (tmp_path / "key").write_bytes(b"k" * 32)
    config = tmp_path / "config.yml"
    config.write_text(f"{CONFIG}privacy: {{key_file: {tmp_path / 'key'}}}\n")
    where = ("--url", url(RACED), "--config.file", config, "--table", "chats")
    (first, second) = (document(*where)[1]["tables"][0]["active"] for _ in range(2))
    assert first == second
    (tmp_path / "key").unlink()
    assert audit(*where).exit_code == 2


def test_the_owner_may_see_ids(url) -> None:
    _, shown = document("--url", url(RACED), *DESCRIBED, "--show-ids")
    (worst,) = shown["tables"][0]["active"]["worst"]
    assert (worst["user"], worst["rows"]) == ("ann", 2)
    assert worst["sessions"][0] == {"session": "s-two", "created_at": "2026-11-20T21:12:25.216000Z"}


def test_hostile_ids_move_no_cursor(url) -> None:
    rows = [(f"\x1b[2J{number}", "\u202eann", "active", "2026-11-20 21:12:25", None) for number in range(2)]
    done = audit("--url", url(rows), *DESCRIBED, "--show-ids")
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout


def test_the_document_has_a_version_and_every_figure(url) -> None:
    code, told = document("--url", url(RACED), *DESCRIBED, "--show-ids")
    (table,) = told["tables"]
    assert (code, told["version"], told["found"], told["complete"], told["since"]) == (1, 1, True, True, None)
    assert told["at"].endswith("Z")
    assert (table["rows"], table["active"]["duplicate_users"], table["active"]["surplus_rows"]) == (3, 1, 1)
    history = table["history"]
    assert (history["creates"], history["rapid_duplicates"], history["users"]) == (3, 1, 1)
    assert history["days"] == [{"day": "2026-11-20", "duplicates": 1, "users": 1}]
    assert history["worst"] == [{"user": "ann", "rapid_duplicates": 1, "smallest_gap_seconds": 0.116}]
    assert [each["session"] for each in history["smallest_gaps"][0]["sessions"]] == ["s-one", "s-two"]
    assert sum(each["count"] for each in history["intervals"]) == 1
    assert {"at_most_seconds": 0.25, "count": 1} in history["intervals"]
    assert history["intervals"][-1] == {"at_most_seconds": None, "count": 0}
    assert table["indexes"] == {"unique": None, "invalid_unique": None, "created_at": None}
    assert set(table["sql"]) == {"look", "clean_up", "index", "notes"}


def test_a_configuration_says_tables_scopes_and_windows(url, tmp_path) -> None:
    config = tmp_path / "config.yml"
    config.write_text(CONFIG)
    code, told = document("--url", url(RACED), "--config.file", config)
    chats, others = told["tables"]
    assert (chats["scope"], chats["duplicate_window_seconds"], chats["history"]["rapid_duplicates"]) == ("chat", 0.1, 0)
    assert "others" in others["problem"]
    assert (code, told["complete"]) == (1, False)


def test_what_cannot_be_read_is_not_taken_for_sound(url, tmp_path) -> None:
    config = tmp_path / "config.yml"
    config.write_text(CONFIG)
    code, told = document("--url", url(CALM), "--config.file", config)
    assert (code, told["found"], told["complete"]) == (2, False, False)
    text = audit("--url", f"sqlite:///{tmp_path / 'app.db'}", "--config.file", config).stdout
    assert "there is" in text or "none of this name" in text


def test_a_table_that_says_nothing_of_users_cannot_be_told(url) -> None:
    code, told = document("--url", url(RACED), "--table", "chats", "--created-at", "created_at")
    assert (code, told["found"], told["complete"]) == (2, False, False)


def test_many_sessions_of_a_user_are_no_fault_where_the_scope_says_so(url, tmp_path) -> None:
    config = tmp_path / "config.yml"
    config.write_text(CONFIG.replace("duplicate_window: 100ms", "sessions_per_user: many"))
    code, told = document("--url", url(RACED), "--config.file", config, "--table", "chats")
    assert (code, told["found"], told["complete"]) == (0, False, True)


def test_the_url_may_be_in_the_environment_or_a_file(url, tmp_path) -> None:
    where = url(CALM)
    (tmp_path / "url").write_text(f"{where}\n")
    assert audit("--url", "${THE_DATABASE}", *DESCRIBED, THE_DATABASE=where).exit_code == 0
    assert audit("--url-file", tmp_path / "url", *DESCRIBED).exit_code == 0


def test_since_leaves_older_creates_aside(url) -> None:
    rows = [
        *((f"old{number}", "ann", "ended", f"2020-01-01 00:00:0{number}", None) for number in range(3)),
        ("new", "ann", "ended", "2099-01-01 00:00:00", None),
    ]
    _, told = document("--url", url(rows), *DESCRIBED, "--since", "90d")
    history = told["tables"][0]["history"]
    assert (history["creates"], history["rapid_duplicates"], told["since"][:2]) == (1, 0, "20")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "which tables keep sessions?"),
        (("--table", "chats", "--active", "status"), "expected COLUMN=VALUE"),
        (("--table", "chats", "--since", "soon"), "expected a duration"),
        (("--table", "chats", "--timeout", "0s"), "expected at least 1ms"),
        (("--table", "chats", "--user", "nobody"), "there is no column nobody"),
    ],
)
def test_a_wrong_question_is_answered_with_what_was_expected(url, arguments, said) -> None:
    done = audit("--url", url(CALM), *arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


def test_columns_are_said_by_options_or_by_a_configuration(url, tmp_path) -> None:
    config = tmp_path / "config.yml"
    config.write_text(CONFIG)
    done = audit("--url", url(CALM), "--config.file", config, "--user", "user_id")
    assert done.exit_code == 2
    assert "--user: expected only without --config.file" in done.output
    assert "--table: nope" in audit("--url", "sqlite:////x", "--config.file", config, "--table", "nope").output


@pytest.mark.parametrize("where", ["mysql://u:secret@h/d", "not a url secret", "sqlite:////nowhere/at/all.db"])
def test_a_wrong_url_is_an_error_that_does_not_show_it(where) -> None:
    done = audit("--url", where, *DESCRIBED)
    assert done.exit_code == 2
    assert "secret" not in done.output
    assert "Traceback" not in done.output


@pytest.mark.integration
@pytest.mark.parametrize(
    ("missing", "code", "said"),
    [
        (("sqlalchemy",), 2, "pip install 'session-exporter[sqlalchemy,postgres]'"),
        (("aiohttp", "prometheus_client", "rich", "re2", "redis", "opentelemetry"), 0, ""),
    ],
)
def test_it_needs_sqlalchemy_and_nothing_of_the_sidecar(url, tmp_path, missing, code, said) -> None:
    (tmp_path / "key").write_bytes(b"k" * 32)
    config = tmp_path / "config.yml"
    config.write_text(f"{CONFIG}privacy: {{key_file: {tmp_path / 'key'}}}\n")
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({missing!r}))\n"
        "from session_exporter.cli.session_exporter import main; main()"
    )
    arguments = ("audit", "db", "--url", url(CALM), "--config.file", config, "--table", "chats")
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (code, True, False)


@pytest.mark.integration
def test_a_database_that_refuses_or_is_not_there_is_named_without_its_password(postgres) -> None:
    refused = postgres.dsn(postgres.database(), user="locked:wrong-secret")
    gone = "postgresql://me:wrong-secret@127.0.0.1:1/app"
    for where in (refused, gone):
        done = audit("--url", where, *DESCRIBED)
        assert done.exit_code == 2
        assert "127.0.0.1" in done.output
        assert "wrong-secret" not in done.output


@pytest.mark.integration
def test_who_may_only_read_may_audit(postgres) -> None:
    name = postgres.database()
    postgres.psql(f"CREATE TABLE chats ({COLUMNS})", name)
    postgres.psql("INSERT INTO chats SELECT n, 'ann', 'active', now() FROM generate_series(1, 3) AS n", name)
    role = f"reader_{os.getpid()}_{name[-6:]}"
    postgres.psql(f"CREATE ROLE {role} LOGIN; GRANT SELECT ON chats TO {role}", name)
    code, told = document("--url", postgres.dsn(name, user=role), *DESCRIBED)
    assert (code, told["tables"][0]["active"]["surplus_rows"]) == (1, 2)
    postgres.psql(f"REVOKE SELECT ON chats FROM {role}", name)
    done = audit("--url", postgres.dsn(name, user=role), *DESCRIBED)
    assert done.exit_code == 2
    assert "permission denied" in done.output


@pytest.mark.integration
def test_a_statement_that_takes_too_long_is_given_up(postgres) -> None:
    name = postgres.database()
    postgres.psql(
        "CREATE VIEW chats AS SELECT '1' AS id, 'ann' AS user_id, 'active' AS status, now() AS created_at, "
        "pg_sleep(60)::text AS ended_reason FROM generate_series(1, 9)",
        name,
    )
    done = audit("--url", postgres.dsn(name), *DESCRIBED, "--key", "ended_reason", "--timeout", "200ms")
    assert done.exit_code == 2
    assert "took too long" in done.output
