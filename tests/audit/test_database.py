"""What can be told of a table, and what cannot."""

import sqlite3

import pytest
import sqlalchemy as sa

from session_exporter.audit.database.auditing import audit_tables
from session_exporter.core.scopes import ScopeRules
from session_exporter.mappings import TableMapping, value_texts
from session_exporter.watch.address import database_url
from session_exporter.watch.database import Database

ACTIVE = {"status": value_texts(["active"])}


@pytest.fixture
def told(tmp_path):
    """Runs SQL in an empty SQLite, then audits a table of it."""

    def audit(sql, mapping, rules=None, since_us=None):
        with sqlite3.connect(tmp_path / "app.db") as connection:
            connection.executescript(sql)
        connection.close()
        database = Database(database_url(f"sqlite:///{tmp_path / 'app.db'}", None, {}, "url"))
        try:
            return audit_tables(database, [(mapping, rules or ScopeRules())], since_us=since_us)[0]
        finally:
            database.close()

    return audit


TWICE = (
    "INSERT INTO chats VALUES ('1', 'ann', 'active', {0}), ('2', 'ann', 'active', {1}), ('3', 'ann', 'active', {2});"
)


@pytest.mark.parametrize(
    ("kind", "times"),
    [
        ("timestamp", ("'2026-11-20 10:00:00'", "'2026-11-20 10:00:00.116000'", "'2026-11-20 11:00:00.000001'")),
        ("text", ("'2026-11-20T10:00:00+00:00'", "'2026-11-20T12:00:00.116+02:00'", "'2026-11-20T11:00:00.000001Z'")),
        ("integer", ("1795168800", "1795168800.116", "1795172400.000001")),
        ("real", ("1795168800.0", "1795168800.116", "1795172400.000001")),
    ],
)
def test_times_are_understood_as_applications_keep_them(told, kind, times) -> None:
    table = f"CREATE TABLE chats (id text, user_id text, status text, at {kind});"
    found = told(table + TWICE.format(*times), TableMapping("chats", user="user_id", created_at="at"))
    assert (found.history.duplicates, found.undated) == (1, 0)
    assert found.history.smallest[0].gap_us == 116_000
    assert found.history.first_us == 1_795_168_800_000_000
    assert found.history.last_us == 1_795_172_400_000_001


def test_what_is_no_time_is_counted_and_left_out(told) -> None:
    table = "CREATE TABLE chats (id text, user_id text, status text, at timestamp);"
    mapping = TableMapping("chats", user="user_id", created_at="at", active=ACTIVE)
    found = told(table + TWICE.format("NULL", "'yesterday'", "1795168800000"), mapping)
    assert (found.undated, found.history.creates, found.history.duplicates) == (3, 0, 0)
    assert (found.active.users, found.active.surplus) == (1, 2)


PLAIN = "CREATE TABLE chats (id text, user_id text, status text, at timestamp);"
TIMES = ("'2026-11-20 10:00:00'", "'2026-11-20 10:00:06'", "'2026-11-20 10:00:12'")


@pytest.mark.parametrize(
    ("columns", "gap", "has_history", "has_active"),
    [
        ({"created_at": "at", "active": ACTIVE}, "names the user", False, False),
        ({"user": "user_id", "active": ACTIVE}, "when a session was created", False, True),
        ({"user": "user_id", "created_at": "at"}, "which sessions are active", True, False),
    ],
)
def test_what_a_mapping_leaves_out_is_said_and_the_rest_is_told(told, columns, gap, has_history, has_active) -> None:
    found = told(PLAIN + TWICE.format(*TIMES), TableMapping("chats", **columns))
    assert gap in " ".join(found.gaps)
    assert ((found.history is not None), (found.active is not None)) == (has_history, has_active)
    assert (found.remedy is not None) is has_active


def test_many_sessions_are_no_fault_where_users_may_have_many(told) -> None:
    mapping = TableMapping("chats", user="user_id", created_at="at", active=ACTIVE)
    found = told(PLAIN + TWICE.format(*TIMES), mapping, ScopeRules(sessions_per_user="many"))
    assert not found.is_found
    assert (found.history, found.active, found.remedy) == (None, None, None)
    assert "many sessions" in found.gaps[0]


def test_creates_that_follow_each_other_chain(told) -> None:
    found = told(PLAIN + TWICE.format(*TIMES), TableMapping("chats", user="user_id", created_at="at"))
    assert found.history.duplicates == 2


def test_of_messages_the_first_one_is_the_create(told) -> None:
    table = "CREATE TABLE messages (session text, user_id text, at timestamp);"
    rows = [
        ("a", "ann", "10:00:00"),
        ("a", "bob", "10:00:05"),
        ("b", "ann", "10:00:03"),
        ("b", "ann", "10:00:04"),
        ("c", "bob", "10:00:06"),
    ]
    values = ", ".join(f"('{session}', '{user}', '2026-11-20 {at}')" for session, user, at in rows)
    mapping = TableMapping("messages", id=("session",), user="user_id", created_at="at", rows="messages")
    found = told(f"{table} INSERT INTO messages VALUES {values};", mapping)
    assert (found.rows, found.history.creates, found.history.duplicates) == (3, 3, 1)
    assert [found.history.smallest[0].first.id, found.history.smallest[0].second.id] == ["a", "b"]
    assert "messages" in found.gaps[0]


def test_ids_have_the_texts_that_hooks_give_them(told) -> None:
    table = "CREATE TABLE chats (id char(32), user_id char(32), status text, at timestamp);"
    ids = [f"{number:032x}" for number in range(3)]
    values = ", ".join(f"('{each}', '{ids[0]}', 'active', '2026-11-20 10:00:00')" for each in ids[1:])
    mapping = TableMapping("chats", id=("status", "id"), id_prefix="active/", user="user_id", created_at="at")
    found = told(f"{table} INSERT INTO chats VALUES {values};", mapping)
    (pair,) = found.history.smallest
    assert pair.user == "00000000-0000-0000-0000-000000000000"
    assert pair.first.id == "00000000-0000-0000-0000-000000000001"


def test_columns_need_no_type(told) -> None:
    table = "CREATE TABLE chats (id, user_id, status, at);"
    mapping = TableMapping("chats", user="user_id", created_at="at", active=ACTIVE)
    found = told(table + TWICE.format(*TIMES), mapping)
    assert (found.history.duplicates, found.active.surplus) == (2, 2)
    assert "WHERE status = 'active'" in found.remedy.guard


def test_names_are_found_in_any_case(told) -> None:
    found = told(PLAIN + TWICE.format(*TIMES), TableMapping("Chats", id=("ID",), user="USER_ID", created_at="At"))
    assert found.history.duplicates == 2


def test_a_view_is_audited_and_its_tables_are_left_to_their_owner(told) -> None:
    view = "CREATE VIEW seen AS SELECT * FROM chats;"
    mapping = TableMapping("seen", user="user_id", created_at="at", active=ACTIVE)
    found = told(PLAIN + view + TWICE.format(*TIMES), mapping)
    assert (found.active.surplus, found.guards, found.remedy) == (2, None, None)
    assert "view" in found.gaps[0]


@pytest.mark.parametrize("missing", ["table nope", "column nope"])
def test_what_is_not_there_is_named(told, missing) -> None:
    mapping = TableMapping("nope") if missing.startswith("table") else TableMapping("chats", user="nope")
    found = told(PLAIN, mapping)
    assert missing in found.problem
    assert not found.is_found


def test_an_audit_writes_nothing(tmp_path) -> None:
    path = tmp_path / "app.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(PLAIN + TWICE.format(*TIMES))
    connection.close()
    before = path.read_bytes()
    path.chmod(0o400)
    database = Database(database_url(f"sqlite:///{path}", None, {}, "url"))
    audit_tables(database, [(TableMapping("chats", user="user_id", created_at="at", active=ACTIVE), ScopeRules())])
    with database.reading() as connection, pytest.raises(sa.exc.OperationalError):
        connection.execute(sa.text("DELETE FROM chats"))
    database.close()
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["app.db"]


@pytest.mark.integration
def test_times_and_users_of_postgresqls_own_types_are_understood(postgres) -> None:
    name = postgres.database()
    postgres.psql(
        "CREATE DOMAIN condition AS text CHECK (VALUE <> ''); CREATE TYPE state AS ENUM ('active', 'over');"
        "CREATE TABLE chats (id uuid PRIMARY KEY, who jsonb, state state, naive timestamp, aware timestamptz, "
        "seconds double precision, whole bigint, said text, condition condition DEFAULT 'on');"
        "INSERT INTO chats SELECT gen_random_uuid(), '{\"user\": {\"id\": 7}}', 'active', at, at AT TIME ZONE 'UTC', "
        "extract(epoch FROM at), extract(epoch FROM at), at::text FROM (VALUES (timestamp '2026-11-20 10:00:00'), "
        "('2026-11-20 10:00:00.116'), ('infinity'), (NULL)) AS t (at) WHERE at IS NULL OR at < 'infinity';"
        "INSERT INTO chats SELECT gen_random_uuid(), '{}', 'active', 'infinity', '-infinity', 'infinity', 0, NULL;"
        'ALTER DATABASE "' + name + "\" SET timezone TO 'Asia/Kolkata'",
        name,
    )
    database = Database(database_url(postgres.dsn(name), None, {}, "url"))
    active = {"state": value_texts(["active", "ACTIVE"]), "condition": value_texts(["on"])}
    for column, gap_us in {"naive": 116_000, "aware": 116_000, "seconds": 116_000, "whole": 0, "said": 116_000}.items():
        mapping = TableMapping("chats", user="who", user_path="user.id", created_at=column, active=active)
        (found,) = audit_tables(database, [(mapping, ScopeRules())])
        assert not found.problem
        assert (found.history.creates, found.history.duplicates, found.active.surplus) == (2, 1, 2), column
        assert (found.history.first_us, found.history.smallest[0].gap_us) == (1_795_168_800_000_000, gap_us), column
        assert found.without_user == 1
    database.close()


@pytest.mark.integration
def test_a_partitioned_table_gets_an_index_that_can_be_made(postgres) -> None:
    name = postgres.database()
    postgres.psql(
        "CREATE TABLE chats (id int, user_id int NOT NULL, status text) PARTITION BY HASH (user_id);"
        "CREATE TABLE one PARTITION OF chats FOR VALUES WITH (MODULUS 1, REMAINDER 0);"
        "INSERT INTO chats VALUES (1, 7, 'active'), (2, 7, 'active'), (3, 7, 'over')",
        name,
    )
    database = Database(database_url(postgres.dsn(name), None, {}, "url"))
    mapping = TableMapping("chats", user="user_id", active=ACTIVE)
    (found,) = audit_tables(database, [(mapping, ScopeRules())])
    assert "partitioned" in found.remedy.notes[0]
    postgres.psql(found.remedy.clean_up, name)
    postgres.psql(found.remedy.guard, name)
    (repaired,) = audit_tables(database, [(mapping, ScopeRules())])
    assert (repaired.active.users, repaired.guards.unique) == (0, "chats_one_active")
    database.close()
