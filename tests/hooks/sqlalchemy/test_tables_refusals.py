"""Creates that the database refuses, and a hook that fails: the application sees no difference."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from recorder import Recorder
from sqlalchemy import exc, orm
from sqlalchemy.engine import Engine
from watching import Base, Chat, chats, messages, told

from session_exporter import pending
from session_exporter.hooks.sqlalchemy import creating, looking, map_table, statements, tables
from session_exporter.tracker import SessionTracker
from session_exporter.wrapped_calls import Call

A = {"id": "a", "user_id": "ann"}


@pytest.fixture(autouse=True)
def mapped(tracker: SessionTracker, engine: Engine) -> Iterator[None]:
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(chats).values(A))
    uninstall = [
        map_table("chats", scope="chat", user="user_id", tracker=tracker),
        map_table("messages", scope="history", id="session_id", rows="messages", tracker=tracker),
    ]
    yield
    for each in uninstall:
        each()


REFUSED = {
    "core": (sa.insert(chats), A),
    "text": (sa.text("insert into chats (id, user_id) values (:id, :user_id)"), A),
    "driver": ("insert into chats (id, user_id) values (?, ?)", ("a", "ann")),
}


@pytest.mark.parametrize(("statement", "parameters"), REFUSED.values(), ids=REFUSED.keys())
def test_a_create_refused_by_a_unique_index_is_a_conflict(
    engine: Engine, journal: Recorder, statement: Any, parameters: Any
):
    with engine.connect() as connection:
        execute = connection.exec_driver_sql if isinstance(statement, str) else connection.execute
        with pytest.raises(exc.IntegrityError):
            execute(statement, parameters)
    assert told(journal) == [("conflicted", "a", "ann")]
    assert not journal.errors


def test_of_several_refused_rows_none_is_named(engine: Engine, journal: Recorder):
    with orm.Session(engine, future=True) as session:
        session.add_all([Chat(id="b", owner="ann"), Chat(id="a", owner="ann")])
        with pytest.raises(exc.IntegrityError):
            session.flush()
        session.rollback()
    assert told(journal) == [("conflicted", "", "ann")]


def test_a_create_that_fails_otherwise_is_a_failed_create(engine: Engine, journal: Recorder):
    with engine.connect() as connection:
        with pytest.raises(exc.IntegrityError):
            connection.execute(sa.insert(messages).values(session_id=None, text="x"))
        with pytest.raises(exc.OperationalError):
            connection.execute(sa.text("insert into chats (id, user_id, nothing) values ('b', 'ann', 1)"))
    assert told(journal) == [("create_failed", "", "", "integrity"), ("create_failed", "", "ann", "other")]


def test_a_refused_message_says_nothing_about_its_session(engine: Engine, journal: Recorder):
    with engine.connect() as connection:
        connection.execute(sa.insert(messages).values(id=1, session_id="a"))
        with pytest.raises(exc.IntegrityError):
            connection.execute(sa.insert(messages).values(id=1, session_id="a"))
    assert told(journal) == []


def test_inside_of_a_wrapped_call_the_call_is_told(engine: Engine, journal: Recorder):
    with Call("chat") as call, engine.connect() as connection, pytest.raises(exc.IntegrityError):
        connection.execute(sa.insert(chats), A)
    assert call.failed
    assert told(journal) == [("conflicted", "a", "ann")]


def test_statements_of_other_kinds_that_fail_are_no_failed_creates(engine: Engine, journal: Recorder):
    with engine.connect() as connection:
        for sql in ("select nothing from chats where id = 'a'", "no sql at all", "delete from chats where nothing = 1"):
            with pytest.raises(exc.OperationalError):
                connection.execute(sa.text(sql))
            with pytest.raises(exc.OperationalError):
                connection.exec_driver_sql(sql)
    assert told(journal) == []
    assert not journal.errors


def _use(engine: Engine) -> list[Any]:
    seen: list[Any] = []
    with orm.Session(engine, future=True) as session:
        session.add(Chat(id="b", owner="bob"))
        session.commit()
        seen.append(session.get(Chat, "a").owner)
        seen.append(session.execute(sa.select(chats.c.id).where(chats.c.user_id == "bob")).all())
        seen.append(session.connection().exec_driver_sql("select id from chats where id = 'x'").all())
        with pytest.raises(exc.IntegrityError) as raised:
            session.execute(sa.insert(chats), A)
        session.rollback()
        seen.append(str(raised.value))
        seen.append(session.execute(sa.delete(chats).where(chats.c.id == "b")).rowcount)
        session.commit()
    return seen


@pytest.mark.parametrize(
    "broken",
    [
        (statements.Statements, "of_compiled"),
        (statements.Statements, "of_text"),
        (statements, "readings_of"),
        (tables, "Execution"),
        (tables, "refuse"),
        (creating, "work_of"),
        (creating, "Deeds"),
        (looking, "work_of"),
        (looking._Finding, "on_row"),
        (looking._Finding, "on_end"),
    ],
)
def test_the_application_does_not_notice_a_hook_that_is_broken(
    engine: Engine, tracker: SessionTracker, journal: Recorder, monkeypatch: pytest.MonkeyPatch, broken: tuple[Any, str]
):
    expected = _use(engine)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(*broken, fail)
    # Plans are worked out anew with each change of the mappings.
    map_table("others", scope="other", tracker=tracker)()
    assert _use(engine) == expected
    assert journal.errors["sqlalchemy"]


def test_a_create_is_pending_until_its_transaction_is_over(engine: Engine):
    assert pending.is_watched("chat")
    with engine.connect() as connection, connection.begin() as transaction:
        connection.execute(sa.insert(chats).values(id="b"))
        assert pending.is_pending("chat", "b")
        transaction.rollback()
    assert not pending.is_pending("chat", "b")
    with engine.begin() as connection:
        connection.execute(sa.insert(chats).values(id="b"))
    assert not pending.is_pending("chat", "b")
