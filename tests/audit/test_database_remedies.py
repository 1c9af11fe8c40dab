"""The printed SQL runs as it is: afterwards nothing is found, and the database refuses the race."""

import sqlite3

import psycopg
import pytest

from session_exporter.audit.database.auditing import audit_tables
from session_exporter.audit.database.remedy import PLACEHOLDER
from session_exporter.core.scopes import ScopeRules
from session_exporter.mappings import TableMapping, value_texts
from session_exporter.watch.address import database_url
from session_exporter.watch.database import Database

TIMES = [f"2026-11-20 10:00:0{second}" for second in range(10)]


class SqliteOwner:
    """Whoever may write to an SQLite."""

    errors = sqlite3.IntegrityError

    def __init__(self, directory):
        self.url = f"sqlite:///{directory / 'app.db'}"
        self._connection = sqlite3.connect(directory / "app.db", isolation_level=None)

    def run(self, sql):
        if sql.lstrip().upper().startswith("SELECT"):
            return self._connection.execute(sql).fetchall()
        return self._connection.executescript(sql)

    def close(self):
        self._connection.close()


class PostgresOwner:
    """Whoever may write to a PostgreSQL."""

    errors = psycopg.errors.UniqueViolation

    def __init__(self, url):
        self.url = url
        self._connection = psycopg.connect(url, autocommit=True)

    def run(self, sql):
        # Statements by themselves, as psql sends them: CONCURRENTLY will have it so.
        for statement in sql.split(";\n") if sql.startswith("DROP") else [sql]:
            cursor = self._connection.execute(statement)
        return cursor.fetchall() if cursor.description else None

    def close(self):
        self._connection.close()


@pytest.fixture(scope="module")
def emptied(postgres):
    """The address of a database that is emptied for each test: faster than a new one."""
    url = postgres.dsn(postgres.database())

    def empty():
        with psycopg.connect(url, autocommit=True) as connection:
            for (name,) in connection.execute("SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|info)'"):
                connection.execute(f"DROP SCHEMA {name} CASCADE")
            connection.execute("CREATE SCHEMA public")
        return url

    return empty


POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.integration)
# For what is tried many times.
SLOWLY = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(params=["sqlite", POSTGRESQL])
def owner(request, tmp_path):
    is_sqlite = request.param == "sqlite"
    made = SqliteOwner(tmp_path) if is_sqlite else PostgresOwner(request.getfixturevalue("emptied")())
    yield made
    made.close()


def audit(owner, *mappings, rules=None):
    database = Database(database_url(owner.url, None, {}, "url"))
    try:
        return audit_tables(database, [(mapping, rules or ScopeRules()) for mapping in mappings])
    finally:
        database.close()


def mapped(table="chats", active=None, **more):
    active = {"status": ["active"]} if active is None else active
    values = {column: value_texts(each) for column, each in active.items()}
    return TableMapping(table, **{"user": "user_id", "created_at": "created_at", "active": values, **more})


class Case:
    """A table with two active rows of one user, and others that are to be left alone."""

    def __init__(self, columns, mapping, rows, *, before=(), is_of_postgresql=False):
        self.mapping, self.is_of_postgresql = mapping, is_of_postgresql
        self._table, self._ids = quoted(mapping.table), [quoted(name) for name in mapping.id]
        self._columns, self._rows, self._before = columns, rows, before

    def make(self, owner):
        for statement in self._before:
            owner.run(statement)
        owner.run(f"CREATE TABLE {self._table} ({self._columns})")
        owner.run(f"INSERT INTO {self._table} VALUES {self._rows.format(*TIMES)}")

    def rows_of(self, owner):
        rows = owner.run(f"SELECT {', '.join(self._ids)}, t.* FROM {self._table} AS t")
        return {"/".join(map(str, row[: len(self._ids)])): row for row in rows}

    def again(self, kept):
        """Insert a row once more, under another id."""
        declared = self._columns.partition(", PRIMARY KEY (")[0].split(", ")
        names = [each[: each.index('"', 1) + 1] if each[0] == '"' else quoted(each.split()[0]) for each in declared]
        values = [f"{name} + 90" if name in self._ids else name for name in names]
        where = " AND ".join(f"{name} = {value}" for name, value in zip(self._ids, kept.split("/"), strict=True))
        row = f"SELECT {', '.join(values)} FROM {self._table} WHERE {where}"
        return f"INSERT INTO {self._table} ({', '.join(names)}) {row}"


def quoted(name):
    return ".".join('"' + word.replace('"', '""') + '"' for word in name.split("."))


PLAIN = "id integer PRIMARY KEY, user_id varchar(20) NOT NULL, status varchar(20) NOT NULL, created_at timestamp"
CASES = {
    "status": Case(
        f"{PLAIN}, updated_at timestamp, ended_reason varchar(40)",
        mapped(updated_at="updated_at", end_reason="ended_reason"),
        "(1, 'ann', 'active', '{0}', '{0}', NULL), (2, 'ann', 'active', '{2}', '{2}', NULL), "
        "(3, 'bob', 'active', '{3}', '{3}', NULL), (4, 'ann', 'closed', '{9}', '{9}', 'completed')",
    ),
    "a boolean": Case(
        "id integer PRIMARY KEY, user_id varchar(20), is_open boolean, created_at timestamp",
        mapped(active={"is_open": [True]}),
        "(1, 'ann', true, '{0}'), (2, 'ann', true, '{2}'), (3, 'bob', true, '{3}'), (4, NULL, true, '{3}'), "
        "(5, NULL, true, '{3}')",
    ),
    "the time of the end": Case(
        "id integer PRIMARY KEY, user_id integer, ended_at timestamp, created_at timestamp NOT NULL",
        mapped(active={"ended_at": [None]}),
        "(1, 7, NULL, '{0}'), (2, 7, NULL, '{2}'), (3, 8, NULL, '{3}'), (4, 7, '{8}', '{9}')",
    ),
    "two active states": Case(
        PLAIN,
        mapped(active={"status": ["active", "idle"]}),
        "(1, 'ann', 'idle', '{0}'), (2, 'ann', 'active', '{2}'), (3, 'bob', 'idle', '{3}'), (4, 'ann', 'zzz', '{3}')",
    ),
    "active or nothing": Case(
        "id integer PRIMARY KEY, user_id varchar(20) NOT NULL, status varchar(20), created_at timestamp",
        mapped(active={"status": ["active", None]}),
        "(1, 'ann', NULL, '{0}'), (2, 'ann', 'active', '{2}'), (3, 'bob', NULL, '{3}'), (4, 'ann', 'ended', '{3}')",
    ),
    "two columns": Case(
        f"{PLAIN}, deleted_at timestamp",
        mapped(active={"status": ["active"], "deleted_at": [None]}),
        "(1, 'ann', 'active', '{0}', NULL), (2, 'ann', 'active', '{2}', NULL), (3, 'bob', 'active', '{3}', NULL), "
        "(4, 'ann', 'active', '{9}', '{9}')",
    ),
    "a device that may be missing": Case(
        f"{PLAIN}, device varchar(20), app integer NOT NULL",
        mapped(key=("device", "app")),
        "(1, 'ann', 'active', '{0}', NULL, 1), (2, 'ann', 'active', '{2}', NULL, 1), "
        "(3, 'bob', 'active', '{3}', NULL, 1), (4, 'ann', 'active', '{3}', 'phone', 1), "
        "(5, 'ann', 'active', '{3}', NULL, 2), (6, 'ann', 'ended', '{3}', NULL, 2)",
    ),
    "an empty user": Case(
        PLAIN,
        mapped(),
        "(1, 'ann', 'active', '{0}'), (2, 'ann', 'active', '{2}'), (3, '', 'active', '{3}'), (4, '', 'active', '{3}'), "
        "(5, 'bob', 'gone', '{3}')",
    ),
    "names that are quoted": Case(
        '"Id" integer PRIMARY KEY, "its user" varchar(20) NOT NULL, "the %s state" varchar(20) NOT NULL, at timestamp',
        mapped('Chat "Rooms"', id=("Id",), user="its user", created_at="at", active={"the %s state": ["it's  on"]}),
        "(1, 'ann', 'it''s  on', '{0}'), (2, 'ann', 'it''s  on', '{2}'), (3, 'bob', 'it''s  on', '{3}'), "
        "(4, 'bob', 'it''s 100%s off', '{3}')",
    ),
    "a key of two columns": Case(
        "app integer, id integer, user_id varchar(20) NOT NULL, status varchar(20) NOT NULL, created_at timestamp, "
        "PRIMARY KEY (app, id)",
        mapped(id=("app", "id")),
        "(1, 1, 'ann', 'active', '{0}'), (2, 1, 'ann', 'active', '{2}'), (3, 1, 'bob', 'active', '{3}'), "
        "(3, 4, 'bob', 'ended', '{3}')",
    ),
    "no primary key": Case(
        "id integer, user_id varchar(20) NOT NULL, status integer NOT NULL, created_at timestamp",
        mapped(active={"status": [1]}),
        "(1, 'ann', 1, '{0}'), (2, 'ann', 1, '{2}'), (3, 'bob', 1, '{3}'), (4, 'bob', 0, '{3}')",
    ),
    "no time": Case(
        "id integer PRIMARY KEY, user_id varchar(20) NOT NULL, status varchar(20) NOT NULL",
        mapped(created_at=""),
        "(1, 'ann', 'active'), (2, 'ann', 'active'), (3, 'bob', 'active'), (4, 'bob', 'over')",
    ),
    "a user within JSON": Case(
        "id integer PRIMARY KEY, data json NOT NULL, status varchar(20) NOT NULL, created_at timestamp",
        mapped(user="data", user_path="who.id"),
        """(1, '{{"who": {{"id": "ann"}}}}', 'active', '{0}'), (2, '{{"who": {{"id": "ann"}}}}', 'active', '{2}'), """
        """(3, '{{"who": {{"id": "bob"}}}}', 'active', '{3}'), (4, '{{}}', 'ended', '{3}'), """
        """(5, '{{}}', 'active', '{3}'), (6, '{{}}', 'active', '{3}')""",
    ),
    "an enumeration": Case(
        "id integer PRIMARY KEY, user_id uuid NOT NULL, status state NOT NULL, created_at timestamptz, reason why",
        mapped("app.chats", active={"status": ["active", "ACTIVE"]}, end_reason="reason"),
        "(1, '00000000-0000-4000-8000-000000000001', 'active', '{0}', NULL), "
        "(2, '00000000-0000-4000-8000-000000000001', 'active', '{2}', NULL), "
        "(3, '00000000-0000-4000-8000-000000000002', 'active', '{3}', NULL)",
        before=("CREATE SCHEMA app", "CREATE TYPE state AS ENUM ('active', 'gone')", "CREATE TYPE why AS ENUM ('x')"),
        is_of_postgresql=True,
    ),
}


PAIRS = [("sqlite", name) for name, case in CASES.items() if not case.is_of_postgresql]
PAIRS += [pytest.param("postgresql", name, marks=SLOWLY) for name in CASES]


@pytest.mark.parametrize(("owner", "name"), PAIRS, indirect=["owner"])
def test_what_is_printed_ends_the_duplicates_and_refuses_the_next(owner, name) -> None:
    case = CASES[name]
    case.make(owner)
    (found,) = audit(owner, case.mapping)
    assert not found.problem
    assert (found.active.users, found.active.surplus, found.guards.unique) == (1, 1, "")
    before = case.rows_of(owner)
    kept = found.active.worst[0].sessions[0].id

    assert len(owner.run(found.remedy.look)) == 1
    assert case.rows_of(owner) == before, "looking has changed something"
    owner.run(found.remedy.clean_up)
    owner.run(found.remedy.guard)

    (repaired,) = audit(owner, case.mapping)
    assert (repaired.active.users, repaired.active.rows) == (0, found.active.rows - 1)
    assert repaired.guards.unique
    assert repaired.remedy is None
    changed = {key: row for key, row in case.rows_of(owner).items() if row != before[key]}
    assert len(changed) == 1
    assert kept not in changed
    with pytest.raises(owner.errors):
        owner.run(case.again(kept))


def test_an_ended_row_says_why_and_when(owner) -> None:
    case = CASES["status"]
    case.make(owner)
    (found,) = audit(owner, case.mapping)
    owner.run(found.remedy.clean_up)
    ((state, reason, updated),) = owner.run("SELECT status, ended_reason, updated_at FROM chats WHERE id = 1")
    assert (state, reason) == ("closed", "duplicate_cleanup")
    assert str(updated) > TIMES[0]


def test_a_state_that_is_not_known_is_asked_for_and_the_sql_does_not_run_without_it(owner) -> None:
    owner.run(f"CREATE TABLE chats ({PLAIN})")
    owner.run("INSERT INTO chats VALUES (1, 'ann', 'active', NULL), (2, 'ann', 'active', '2026-11-20 10:00:00')")
    (found,) = audit(owner, mapped())
    assert PLACEHOLDER in found.remedy.clean_up
    assert any(PLACEHOLDER in note and "status" in note for note in found.remedy.notes)
    with pytest.raises((sqlite3.OperationalError, psycopg.errors.SyntaxError)):
        owner.run(found.remedy.clean_up.removeprefix("BEGIN;\n").removesuffix("\nCOMMIT;"))
    owner.run(found.remedy.clean_up.replace(PLACEHOLDER, "'over'"))
    assert owner.run("SELECT id, status FROM chats ORDER BY id") == [(1, "over"), (2, "active")]


def test_a_reason_that_does_not_fit_is_left_out_and_said(owner) -> None:
    owner.run(f"CREATE TABLE chats ({PLAIN}, ended_reason varchar(10))")
    rows = "(1, 'ann', 'active', NULL, NULL), (2, 'ann', 'active', NULL, NULL), (3, 'ann', 'ended', NULL, NULL)"
    owner.run(f"INSERT INTO chats VALUES {rows}")
    (found,) = audit(owner, mapped(end_reason="ended_reason"))
    assert "duplicate_cleanup" not in found.remedy.clean_up
    assert any("ended_reason" in note for note in found.remedy.notes)
    owner.run(found.remedy.clean_up)


def test_without_duplicates_only_the_index_is_printed(owner) -> None:
    owner.run(f"CREATE TABLE chats ({PLAIN})")
    (found,) = audit(owner, mapped())
    assert not found.is_found
    assert (found.remedy.look, found.remedy.clean_up) == ("", "")
    owner.run(found.remedy.guard)
    (guarded,) = audit(owner, mapped())
    assert (guarded.guards.unique, guarded.remedy) == ("chats_one_active", None)


GUARDS = {
    "chats (user_id)": True,
    "chats (user_id) WHERE status = 'active'": True,
    "chats (user_id) WHERE status IN ('active', 'idle')": True,
    "chats (user_id, app) WHERE status <> 'ended'": True,
    "chats (app, user_id) WHERE status = 'active' AND user_id IS NOT NULL": True,
    "chats (user_id, app, id) WHERE status = 'active'": False,
    "chats (app) WHERE status = 'active'": False,
    "chats (user_id, device) WHERE status = 'active'": False,  # rows without a device collide with nothing
    "chats (user_id, COALESCE(device, '')) WHERE status = 'active'": True,
    "chats (user_id) WHERE status = 'idle'": False,
    "chats (user_id) WHERE status = 'active' AND app = 1": False,
    "chats (lower(user_id)) WHERE status = 'active'": False,
}


@pytest.mark.parametrize("owner", ["sqlite", pytest.param("postgresql", marks=SLOWLY)], indirect=True)
@pytest.mark.parametrize("index", GUARDS)
def test_an_index_guards_when_no_two_active_rows_of_one_user_and_key_can_be_in_it(owner, index) -> None:
    owner.run(f"CREATE TABLE chats ({PLAIN}, app integer NOT NULL, device varchar(20))")
    owner.run(f"CREATE UNIQUE INDEX one ON {index}")
    (found,) = audit(owner, mapped(key=("app", "device")))
    assert (found.guards.unique == "one") is GUARDS[index]


@pytest.mark.parametrize(
    ("index", "is_found"),
    [("(created_at)", True), ("(created_at DESC, id)", True), ("(id, created_at)", False)],
)
def test_an_index_finds_new_rows_when_it_begins_with_their_time(owner, index, is_found) -> None:
    owner.run(f"CREATE TABLE chats ({PLAIN})")
    owner.run(f"CREATE INDEX timely ON chats {index}")
    (found,) = audit(owner, mapped())
    assert (found.guards.created_at == "timely") is is_found


def test_an_index_that_is_not_unique_guards_nothing(owner) -> None:
    owner.run(f"CREATE TABLE chats ({PLAIN})")
    owner.run("CREATE INDEX one ON chats (user_id) WHERE status = 'active'")
    assert audit(owner, mapped())[0].guards.unique == ""


@pytest.mark.integration
@pytest.mark.parametrize("owner", ["postgresql"], indirect=True)
def test_what_an_interrupted_build_leaves_is_dropped_first(owner) -> None:
    owner.run(f"CREATE TABLE chats ({PLAIN})")
    owner.run("INSERT INTO chats VALUES (1, 'ann', 'active', NULL), (2, 'ann', 'active', NULL), (3, 'ann', 'x', NULL)")
    (crowded,) = audit(owner, mapped())
    with pytest.raises(psycopg.errors.UniqueViolation):
        owner.run(crowded.remedy.guard)
    (found,) = audit(owner, mapped())
    assert (found.guards.unique, found.guards.invalid) == ("", "chats_one_active")
    owner.run(found.remedy.clean_up)
    owner.run(found.remedy.guard)
    assert audit(owner, mapped())[0].guards.unique == "chats_one_active"
