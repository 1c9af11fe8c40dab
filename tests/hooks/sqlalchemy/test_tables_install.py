"""Installing the hook, and what mappings say beside table, id and user."""

import json
import subprocess
import sys
from typing import Any

import pytest
import sqlalchemy as sa
from recorder import Recorder
from sqlalchemy.engine import Engine
from watching import Base, chats, kinds, told

from session_exporter import pending
from session_exporter.hooks.sqlalchemy import install_tables, map_table
from session_exporter.mappings import TableMapping
from session_exporter.tracker import SessionTracker

metadata = sa.MetaData()
sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("app", sa.String, primary_key=True),
    sa.Column("user", sa.String, primary_key=True),
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("state", sa.JSON),
    sa.Column("device", sa.String),
    sa.Column("closed_at", sa.String),
)


def _insert(engine: Engine, table: Any, **values: Any) -> None:
    with engine.begin() as connection:
        connection.execute(sa.insert(table).values(**values))


@pytest.fixture
def database(engine: Engine, journal: Recorder) -> Any:
    Base.metadata.create_all(engine)
    metadata.create_all(engine)
    yield engine
    assert not journal.errors


def test_a_table_that_is_mapped_twice_is_reported_once(database: Engine, tracker: SessionTracker, journal: Recorder):
    first = map_table("chats", scope="chat", tracker=tracker)
    second = install_tables([TableMapping(table="chats", scope="chat")], tracker)
    _insert(database, chats, id="a")
    first()
    first()
    _insert(database, chats, id="b")
    assert kinds(journal) == ["created"] * 2
    second()
    _insert(database, chats, id="c")
    assert kinds(journal) == ["created"] * 2
    assert not pending.is_watched("chat")


def test_an_engine_made_before_is_watched_and_none_after_uninstalling(
    database: Engine, tracker: SessionTracker, journal: Recorder
):
    with database.connect() as connection:
        connection.execute(sa.select(chats)).all()
        connection.commit()
        uninstall = map_table("CHATS", scope="chat", tracker=tracker)
        connection.execute(sa.insert(chats).values(id="a"))
        connection.commit()
        assert journal.hooks == {"sqlalchemy": True}
        uninstall()
        connection.execute(sa.insert(chats).values(id="b"))
        connection.exec_driver_sql("insert into chats (id) values ('c')")
        connection.commit()
    assert kinds(journal) == ["created"]
    assert journal.hooks == {"sqlalchemy": False}


def test_a_second_engine_gets_to_know_its_database_in_peace(
    make_engine: Any, tracker: SessionTracker, journal: Recorder
):
    uninstall = map_table("chats", tracker=tracker)
    for _ in range(2):
        engine = make_engine()
        Base.metadata.create_all(engine)
        _insert(engine, chats, id=f"{id(engine)}")
    uninstall()
    assert kinds(journal) == ["created"] * 2
    assert not journal.errors


def test_one_table_may_keep_several_kinds_of_sessions(database: Engine, tracker: SessionTracker, journal: Recorder):
    uninstall = install_tables(
        [
            TableMapping(table="chats", scope="chat", user="user_id"),
            TableMapping(table="chats", scope="task", id=("task",), user="user_id"),
        ],
        tracker,
    )
    _insert(database, chats, id="a", user_id="ann", task="t")
    uninstall()
    assert [(event.scope, event.session) for event in journal.events] == [("chat", "a"), ("task", "t")]


def test_ids_and_keys_of_several_columns_are_joined(database: Engine, tracker: SessionTracker, journal: Recorder):
    uninstall = map_table("sessions", id=["app", "user", "id"], user="user", key="device", tracker=tracker)
    _insert(database, sessions, app="chat", user="ann", id=7, device="phone")
    with database.begin() as connection:
        pinned = sa.and_(sessions.c.app == "chat", sessions.c.user == "ann", sessions.c.id == 7)
        assert connection.execute(sa.select(sessions).where(pinned)).one()
        connection.execute(sa.select(sessions).where(sessions.c.app == "chat", sessions.c.id == 7)).all()
        connection.execute(
            sa.text('delete from sessions where app = :a and "user" = :u and id = :i'),
            {"a": "chat", "u": "ann", "i": 7},
        )
    uninstall()
    assert told(journal) == [
        ("created", "chat/ann/7", "ann"),
        ("looked_up", "chat/ann/7", "ann"),
        ("ended", "chat/ann/7", "ann", "deleted"),
    ]
    assert [event.key for event in journal.events] == ["phone", "phone", ""]


def test_a_prefix_is_removed_from_ids(database: Engine, tracker: SessionTracker, journal: Recorder):
    uninstall = map_table("chats", id_prefix="session:", tracker=tracker)
    _insert(database, chats, id="session:a")
    _insert(database, chats, id="b")
    uninstall()
    assert [words[1] for words in told(journal)] == ["a", "b"]


def test_the_user_may_be_inside_of_a_json_value(database: Engine, tracker: SessionTracker, journal: Recorder):
    uninstall = map_table("sessions", user="state", user_path="user.id", tracker=tracker)
    _insert(database, sessions, app="x", user="x", id=1, state={"user": {"id": 12}})
    with database.begin() as connection:
        insert = sa.text("insert into sessions (app, \"user\", id, state) values ('x', 'x', :i, :s)")
        connection.execute(insert, {"i": 2, "s": json.dumps({"user": {"id": "ann"}})})
        connection.execute(insert, {"i": 3, "s": b'{"user": null}'})
        connection.execute(insert, {"i": 4, "s": "no json"})
        assert connection.execute(sa.select(sessions).where(sessions.c.id == 1)).one()
        connection.execute(sa.update(sessions).where(sessions.c.id == 3).values(state={"user": {"id": "late"}}))
    uninstall()
    assert told(journal) == [
        ("created", "1", "12"),
        ("looked_up", "1", "12"),
        ("created", "2", "ann"),
        ("created", "3", ""),
        ("created", "4", ""),
        ("attributed", "3", "late"),
    ]


def test_a_column_that_is_no_longer_null_may_mean_the_end(database: Engine, tracker: SessionTracker, journal: Recorder):
    uninstall = map_table("sessions", active={"closed_at": [None]}, tracker=tracker)
    _insert(database, sessions, app="x", user="x", id=1)
    with database.begin() as connection:
        connection.execute(sa.update(sessions).where(sessions.c.id == 1).values(closed_at=sa.func.current_timestamp()))
    uninstall()
    assert told(journal)[1:] == [("ended", "1", "", "other")]


def test_the_user_of_the_request_stands_in_where_the_table_has_none(
    database: Engine, tracker: SessionTracker, journal: Recorder
):
    uninstall = map_table("chats", tracker=tracker)
    with database.connect() as connection, connection.begin() as transaction:
        with tracker.request(user_id="ann", request_id="r1"):
            connection.execute(sa.insert(chats).values(id="a", user_id="somebody"))
        with tracker.request(user_id="bob", request_id="r2"):
            transaction.commit()
    uninstall()
    assert [(event.session, event.user, event.request) for event in journal.events] == [("a", "ann", "r1")]


def test_mistakes_are_told_where_they_are_made(tracker: SessionTracker):
    with pytest.raises(ValueError, match="rows"):
        map_table("chats", rows="pages", tracker=tracker)
    with pytest.raises(ValueError, match="id"):
        map_table("chats", id=[], tracker=tracker)


PROGRAM = """
import sys
from session_exporter.hooks.sqlalchemy import map_table
map_table("chats")
assert "sqlalchemy" not in sys.modules
import sqlalchemy
engine = sqlalchemy.create_engine("sqlite://")
with engine.connect() as connection:
    print(connection.exec_driver_sql("select 1").scalar(), len(connection.dispatch.after_execute))
assert "sqlalchemy.ext.asyncio" not in sys.modules
"""


@pytest.mark.integration
def test_sqlalchemy_is_hooked_when_the_application_imports_it(tmp_path: Any):
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path), "SESSION_EXPORTER_DIR": str(tmp_path)},
    )
    assert ran.stdout.split() == ["1", "1"]
    assert ran.stderr == ""
