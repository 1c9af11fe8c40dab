"""A database that is read: how it is found, what is never done to it, and what its failures are called."""

import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psycopg
import pytest
from postgres_server import LOCKED_PASSWORD, LOCKED_USER
from sqlalchemy import text

from session_exporter.errors import ConfigError, DatabaseError, DatabaseRefused, DatabaseUnavailable, TableUnusable
from session_exporter.watch.clock import moment
from session_exporter.watch.database import Database, database_url

pytestmark = pytest.mark.integration
KEY = "watch[0].url"
SECRET = "s3cret"


def url_of(url: str, environ: Any = None, url_file: Path | None = None) -> str:
    return unquote(database_url(url, url_file, environ or {}, KEY).render_as_string(hide_password=False))


def failure_of(database: Database, sql: str = "SELECT 1", **more: Any) -> DatabaseError:
    with pytest.raises(DatabaseError) as caught, database.reading(**more) as connection:
        connection.execute(text(sql)).all()
    return caught.value


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgresql://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgres://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgresql+asyncpg://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgresql+psycopg2://u@h/d", "postgresql+psycopg2://u@h/d"),
        ("sqlite:////a/b", "sqlite:////a/b"),
        ("sqlite+aiosqlite:////a/b", "sqlite:////a/b"),
        ("postgresql://u:${SECRET}@h/$${d}", "postgresql+psycopg://u:s3cret@h/${d}"),
    ],
)
def test_the_applications_own_url_will_do(given, expected) -> None:
    assert url_of(given, {"SECRET": SECRET}) == expected


def test_a_url_may_be_kept_in_a_file(tmp_path) -> None:
    path = tmp_path / "url"
    path.write_text("postgresql://u:a$b@h/d\n")
    assert url_of("", url_file=path) == "postgresql+psycopg://u:a$b@h/d"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "watch[0].url: not set"),
        ("${NOWHERE}", "watch[0].url: the environment has no variable NOWHERE"),
        ("postgresql://u:s3cret$@h/d", "watch[0].url: expected $ only as in ${VARIABLE}, else $$"),
        ("not a url s3cret", "watch[0].url: expected a URL as SQLAlchemy has it"),
        ("mysql://u:s3cret@h/d", "watch[0].url: expected a URL that begins with postgresql or sqlite"),
        ("postgresql+nothing://u:s3cret@h/d", "watch[0].url: "),
        ("postgresql+pg8000://u:s3cret@h/d", "is not installed; install it with: pip install 'session-exporter["),
        ("sqlite://", "watch[0].url: expected the path of a file"),
    ],
)
def test_what_is_no_url_is_said_without_showing_it(given, message) -> None:
    with pytest.raises(ConfigError) as caught:
        url_of(given)
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_file_without_a_url_is_named(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"watch\[0\]\.url_file: .*/nothing: No such file"):
        url_of("", url_file=tmp_path / "nothing")


def test_nothing_can_be_written(place) -> None:
    place.execute("CREATE TABLE t (a integer)")
    assert failure_of(place.database, "INSERT INTO t VALUES (1)").reason == "other"
    assert failure_of(place.database, "CREATE TABLE u (a integer)").reason == "other"
    assert place.execute("SELECT * FROM t") == []


ENDLESS = {
    "postgresql": "SELECT pg_sleep(60)",
    "sqlite": "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r",
}


def test_a_statement_that_takes_too_long_is_given_up(place) -> None:
    error = failure_of(place.database, ENDLESS[place.kind], statement_timeout_s=0.2)
    assert (type(error), error.reason) == (DatabaseUnavailable, "timeout")
    with place.database.reading() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1


def test_a_locked_table_is_waited_for_no_longer_than_a_moment(on_postgres) -> None:
    on_postgres.execute("CREATE TABLE t (a integer)")
    with psycopg.connect(on_postgres.url.replace("+psycopg", "")) as other:
        other.execute("LOCK TABLE t")
        error = failure_of(on_postgres.database, "SELECT * FROM t", statement_timeout_s=0.2)
    assert (type(error), error.reason) == (DatabaseUnavailable, "timeout")


def test_a_reader_of_a_file_does_not_stand_in_a_writers_way(on_sqlite) -> None:
    on_sqlite.execute("CREATE TABLE t (a integer)")
    with on_sqlite.database.reading() as connection:
        assert connection.execute(text("SELECT * FROM t")).all() == []
        on_sqlite.execute("INSERT INTO t VALUES (1)")
        assert connection.execute(text("SELECT * FROM t")).all() == [(1,)]


def test_what_is_not_there_is_a_matter_of_the_table(place) -> None:
    place.execute("CREATE TABLE t (a integer)")
    for sql in ("SELECT * FROM nowhere", "SELECT missing FROM t"):
        error = failure_of(place.database, sql)
        assert (type(error), error.reason) == (TableUnusable, "table")
        assert "no" in str(error)


def test_values_are_in_no_message_and_in_no_cause(on_postgres) -> None:
    on_postgres.execute("CREATE TABLE t (a integer)")
    error = failure_of(on_postgres.database, f"SELECT * FROM t WHERE a = '{SECRET}'")
    assert SECRET not in f"{error} {error.__cause__}"
    assert error.__suppress_context__


def test_a_connection_that_was_lost_is_made_anew(on_postgres, postgres) -> None:
    with on_postgres.database.reading() as connection:
        connection.execute(text("SELECT 1"))
    postgres.terminate_backends(on_postgres.url.rpartition("/")[2])
    error = failure_of(on_postgres.database)
    assert (type(error), error.reason) == (DatabaseUnavailable, "connection")
    with on_postgres.database.reading() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_wrong_password_is_a_refusal_and_is_not_shown(postgres, driver) -> None:
    address = postgres.url(driver, "postgres", f"{LOCKED_USER}:{SECRET}")
    database = Database(database_url(address, None, {}, KEY))
    error = failure_of(database)
    assert (type(error), error.reason) == (DatabaseRefused, "refused")
    assert "password authentication failed" in str(error)
    assert SECRET not in str(error)


def test_a_table_that_may_not_be_read_is_a_refusal(on_postgres, postgres) -> None:
    on_postgres.execute("CREATE TABLE t (a integer)")
    address = on_postgres.url.replace("postgres@", f"{LOCKED_USER}:{LOCKED_PASSWORD.replace(' ', '%20')}@")
    database = Database(database_url(address, None, {}, KEY))
    error = failure_of(database, "SELECT * FROM t")
    database.close()
    assert (type(error), error.reason) == (DatabaseRefused, "refused")
    assert "permission denied for table t" in str(error)


@pytest.mark.parametrize("url", ["postgresql://u:s3cret@127.0.0.1:1/d", "sqlite:////nowhere/at/all.db"])
def test_a_database_that_is_not_there_is_unavailable(url) -> None:
    error = failure_of(Database(database_url(url, None, {}, KEY)))
    assert (type(error), error.reason) == (DatabaseUnavailable, "connection")
    assert SECRET not in str(error)


def test_a_file_is_never_created_and_may_have_any_name(tmp_path) -> None:
    path = tmp_path / "what? 100%#.db"
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE t (a)")
    made.close()
    url = database_url(f"sqlite:///{tmp_path}/x.db", None, {}, KEY).set(database=str(path))
    database = Database(url)
    with database.reading() as connection:
        assert connection.execute(text("SELECT * FROM t")).all() == []
    database.close()
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_the_oldest_open_transaction_is_told_and_forgotten(on_postgres) -> None:
    with on_postgres.connect() as other:
        other.execute("BEGIN")
        begun_us = round(other.execute("SELECT extract(epoch FROM now()) * 1000000").fetchone()[0])
        with on_postgres.database.reading() as connection:
            told = moment(connection)
            assert told.oldest_us == begun_us
            # The same transaction is told of what began meanwhile.
            other.execute("COMMIT")
            later = moment(connection)
            assert later.oldest_us == later.now_us > told.now_us


def test_a_prepared_transaction_may_have_been_open_for_long_before(on_postgres) -> None:
    with on_postgres.connect() as other:
        other.execute("CREATE TABLE t (a integer)")
        other.execute("BEGIN")
        other.execute("INSERT INTO t VALUES (1)")
        other.execute("PREPARE TRANSACTION 'one'")
        try:
            with on_postgres.database.reading() as connection:
                told = moment(connection)
            assert told.prepared_us is not None
            assert told.settled_us(1000) == told.prepared_us - 1000
        finally:
            other.execute("ROLLBACK PREPARED 'one'")


def test_who_may_not_see_others_is_told_that_nothing_is_told(on_postgres) -> None:
    address = on_postgres.url.replace("postgres@", f"{LOCKED_USER}:{LOCKED_PASSWORD.replace(' ', '%20')}@")
    database = Database(database_url(address, None, {}, KEY))
    with on_postgres.connect() as other:
        other.execute("BEGIN")
        with database.reading() as connection:
            told = moment(connection)
    assert told.oldest_us is None
    assert told.settled_us(1000) == told.now_us - 1000
    on_postgres.execute(f"GRANT pg_read_all_stats TO {LOCKED_USER}")
    try:
        with database.reading() as connection:
            assert moment(connection).oldest_us is not None
    finally:
        on_postgres.execute(f"REVOKE pg_read_all_stats FROM {LOCKED_USER}")
        database.close()


def test_a_file_does_not_tell_of_transactions(on_sqlite) -> None:
    with on_sqlite.database.reading() as connection:
        assert moment(connection).oldest_us is None
