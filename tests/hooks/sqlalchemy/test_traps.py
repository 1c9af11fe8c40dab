"""What went wrong for somebody who counted sessions in SQLAlchemy: each must not go wrong here, in any version."""

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from recorder import Recorder
from sqlalchemy import event, exc, orm
from sqlalchemy.engine import Engine
from watching import IS_14, Base, Chat, Message, Ticket, chats, created, ended, kinds, messages, tickets, told

from session_exporter.hooks.sqlalchemy import map_table
from session_exporter.tracker import SessionTracker


@pytest.fixture(autouse=True)
def mapped(tracker: SessionTracker, journal: Recorder, engine: Engine) -> Iterator[None]:
    Base.metadata.create_all(engine)
    uninstall = [
        map_table("chats", scope="chat", user="user_id", active={"status": ["active"]}, tracker=tracker),
        map_table("tickets", scope="ticket", user="user_id", tracker=tracker),
        map_table("messages", scope="history", id="session_id", rows="messages", tracker=tracker),
    ]
    yield
    for each in uninstall:
        each()
    assert not journal.errors


@pytest.fixture
def session(engine: Engine) -> Iterator[orm.Session]:
    with orm.Session(engine, future=True) as session:
        yield session


def test_a_released_savepoint_is_no_commit(session: orm.Session, journal: Recorder):
    with session.begin_nested():
        session.add(Chat(id="a"))
    assert created(journal) == []
    session.commit()
    assert created(journal) == ["a"]


def test_core_bulk_and_text_inserts_in_a_session_are_seen_as_well_as_flushes(session: orm.Session, journal: Recorder):
    session.add(Chat(id="a"))
    session.execute(sa.insert(chats).values(id="b"))
    session.bulk_insert_mappings(Chat, [{"id": "c"}])
    session.execute(sa.text("insert into chats (id) values ('d')"))
    session.connection().exec_driver_sql("insert into chats (id) values ('e')")
    session.commit()
    assert sorted(created(journal)) == ["a", "b", "c", "d", "e"]


def test_a_commit_that_the_database_refuses_creates_nothing(make_engine: Any, journal: Recorder):
    engine = make_engine()
    with engine.begin() as connection:
        connection.exec_driver_sql("pragma foreign_keys = on")
        connection.exec_driver_sql("create table parents (id primary key)")
        connection.exec_driver_sql(
            "create table visits (id primary key, p references parents (id) deferrable initially deferred)"
        )
    tracker = SessionTracker(journal=journal)
    uninstall = map_table("visits", tracker=tracker)

    @event.listens_for(engine, "connect")
    def enforce(driver: Any, _: Any) -> None:
        driver.execute("pragma foreign_keys = on")

    engine.dispose()
    with engine.connect() as connection:
        connection.execute(sa.text("insert into visits values ('a', 'nobody')"))
        with pytest.raises(exc.IntegrityError):
            connection.commit()
        connection.rollback()
    uninstall()
    assert told(journal) == []


def test_a_connection_closed_without_commit_creates_nothing(engine: Engine, journal: Recorder):
    connection = engine.connect()
    connection.execute(sa.insert(chats).values(id="a"))
    connection.close()
    forgotten = engine.connect()
    forgotten.execute(sa.insert(chats).values(id="b"))
    forgotten.invalidate()
    forgotten.close()
    assert told(journal) == []


def test_the_request_is_the_one_that_executed_not_the_one_that_committed(
    engine: Engine, tracker: SessionTracker, journal: Recorder
):
    with engine.connect() as connection:
        with tracker.request(request_id="first", user_id="ann"):
            connection.execute(sa.insert(tickets).values(user_id=None))
            connection.execute(sa.insert(messages).values(session_id="m"))
        with tracker.request(request_id="second", user_id="bob"):
            connection.commit()
    assert [(event.request, event.user) for event in journal.events] == [("first", ""), ("first", "ann")]


def test_in_autocommit_a_rollback_undoes_nothing(make_engine: Any, journal: Recorder):
    with make_engine(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(sa.insert(chats).values(id="a"))
        assert created(journal) == ["a"]
        connection.rollback()
    assert created(journal) == ["a"]


def test_driver_sql_is_seen_though_it_has_no_execute_events(engine: Engine, journal: Recorder):
    with engine.begin() as connection:
        connection.exec_driver_sql("insert into chats (id, status) values (?, ?)", ("a", "active"))
        assert connection.exec_driver_sql("select * from chats where id = ?", ("a",)).first()
        connection.exec_driver_sql("update chats set status = 'expired' where id = ?", ("a",))
    assert kinds(journal) == ["created", "looked_up", "ended"]


def test_a_thousand_rows_inserted_at_once_are_a_thousand_creates(session: orm.Session, journal: Recorder):
    session.add_all([Ticket() for _ in range(1000)])
    session.flush()
    if not IS_14:
        session.execute(sa.insert(tickets).returning(tickets.c.id), [{"user_id": None}] * 1000).all()
    session.commit()
    assert created(journal) == [str(number) for number in range(1, 1001 if IS_14 else 2001)]


@pytest.mark.skipif(IS_14, reason="1.4 has no RETURNING on SQLite")
def test_a_rowcount_of_nought_before_returned_rows_are_fetched_hides_nothing(engine: Engine, journal: Recorder):
    with engine.begin() as connection:
        statement = sa.insert(chats).values(id=sa.func.lower("A")).returning(chats.c.id)
        assert connection.execute(statement).scalar() == "a"
        closing = sa.update(chats).where(chats.c.id == "a").values(status="closed").returning(chats.c.user_id)
        assert connection.execute(closing).all() == [(None,)]
    assert (created(journal), ended(journal)) == (["a"], ["a"])


def test_columns_are_found_by_the_tree_and_not_by_the_names_of_parameters(engine: Engine, journal: Recorder):
    query = sa.select(chats).where(chats.c.user_id == sa.bindparam("id_1"), chats.c.id == sa.bindparam("user_id"))
    with engine.begin() as connection:
        connection.execute(
            sa.insert(chats).values(id=sa.bindparam("user_id_1"), user_id=sa.bindparam("x")),
            {"user_id_1": "a", "x": "ann"},
        )
        assert connection.execute(query, {"id_1": "ann", "user_id": "a"}).one()
        connection.execute(
            sa.update(chats).where(chats.c.id == sa.bindparam("status_1")).values(status=sa.bindparam("id_1")),
            {"status_1": "a", "id_1": "expired"},
        )
    assert told(journal) == [
        ("created", "a", "ann"),
        ("looked_up", "a", "ann", "again"),
        ("ended", "a", "", "expired"),
    ]


def test_nothing_is_executed_on_the_connection_of_the_application(engine: Engine, journal: Recorder):
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    with engine.begin() as connection:
        connection.execute(sa.insert(chats).values(id="a"))
        connection.execute(sa.select(chats).where(chats.c.id == "a")).all()
        connection.execute(sa.delete(chats).where(chats.c.id == "a"))
    assert [statement.split()[0] for statement in statements] == ["INSERT", "SELECT", "DELETE"]


def test_a_statement_is_read_once_however_often_it_is_executed(
    engine: Engine, journal: Recorder, monkeypatch: pytest.MonkeyPatch
):
    from session_exporter.hooks.sqlalchemy import statements

    read: list[Any] = []
    original = statements.readings_of
    monkeypatch.setattr(statements, "readings_of", lambda *args: read.append(args[0]) or original(*args))
    with engine.begin() as connection:
        for number in range(20):
            connection.execute(sa.insert(chats).values(id=f"{number}"))
            connection.execute(sa.insert(chats).prefix_with("OR IGNORE").values([{"id": f"{number}"}, {"id": "x"}]))
            connection.execute(sa.select(chats).where(chats.c.id == f"{number}")).all()
            connection.execute(sa.select(chats).where(chats.c.id.in_([f"{number}"]))).all()
            connection.execute(sa.text("select * from chats where id = :id"), {"id": f"{number}"}).all()
    assert len(read) == 5


def test_a_refresh_or_a_lazy_load_is_no_lookup(session: orm.Session, journal: Recorder):
    chat = Chat(id="a")
    session.add_all([chat, Message(session_id="m", chat_id="a")])
    session.commit()
    journal.events.clear()
    assert chat.status == "active"
    session.refresh(chat)
    assert session.query(Message).filter_by(text=None).one().chat is chat
    assert kinds(journal) == []


def test_the_same_id_in_another_type_is_the_same_id(engine: Engine, journal: Recorder):
    with engine.begin() as connection:
        connection.execute(sa.insert(tickets).values(id=7))
        connection.execute(sa.text("select id from tickets where id = :id"), {"id": "7"}).all()
        connection.execute(sa.text("delete from tickets where id = '7'"))
    assert {event.session for event in journal.events} == {"7"}
    assert len(journal.events) == 3


def test_a_forked_child_has_nothing_of_the_open_transactions_of_its_parent(engine: Engine, journal: Recorder):
    with engine.connect() as connection, connection.begin():
        connection.execute(sa.insert(chats).values(id="a"))
        child = os.fork()
        if not child:
            os._exit(len(journal.events))
        assert os.waitpid(child, 0)[1] == 0
    assert created(journal) == ["a"]


def test_an_async_engine_is_watched_like_any_other(run_async: Any, engine: Engine, journal: Recorder):
    from sqlalchemy.ext.asyncio import AsyncSession

    async def main(made: Any) -> None:
        async with AsyncSession(made, expire_on_commit=False) as session:
            session.add(Chat(id="a", owner="ann"))
            await session.commit()
            assert (await session.execute(sa.select(Chat).filter_by(owner="ann"))).scalar_one().id == "a"
            await session.rollback()
        async with made.begin() as connection:
            rows = await connection.stream(sa.select(chats).where(chats.c.id == "a"))
            assert [row.id async for row in rows] == ["a"]
            assert (await connection.execute(sa.delete(chats).where(chats.c.id == "a"))).rowcount == 1
            await connection.exec_driver_sql("insert into chats (id) values ('b')")

    run_async(main)
    assert told(journal) == [
        ("created", "a", "ann"),
        ("looked_up", "a", "ann"),
        ("looked_up", "a", "ann"),
        ("ended", "a", "", "deleted"),
        ("created", "b", ""),
    ]


def test_requests_of_tasks_that_run_at_once_are_not_mixed_up(
    run_async: Any, engine: Engine, tracker: SessionTracker, journal: Recorder
):
    async def one(made: Any, name: str) -> None:
        with tracker.request(request_id=name, user_id=f"user of {name}"):
            async with made.begin() as connection:
                await connection.execute(sa.select(messages).where(messages.c.session_id == name))
                await asyncio.sleep(0)
                await connection.execute(sa.insert(messages).values(session_id=name))

    async def main(made: Any) -> None:
        await asyncio.gather(*(one(made, f"r{number}") for number in range(5)))

    run_async(main, connect_args={"timeout": 30})
    made = [event for event in journal.events if event.session]
    assert sorted((event.session, event.request, event.user) for event in made) == [
        (f"r{number}", f"r{number}", f"user of r{number}") for number in range(5)
    ]


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.RemovedIn20Warning" if IS_14 else "default")
def test_engines_of_the_old_kind_commit_by_themselves_and_take_plain_text(make_engine: Any, journal: Recorder):
    engine = make_engine(future=False)
    engine.execute("insert into chats (id, status) values ('a', 'active')")
    assert created(journal) == ["a"]
    engine.execute(sa.insert(chats).values(id="b"))
    assert created(journal) == ["a", "b"]
    assert engine.execute("select * from chats where id = 'a'").fetchall()
    with engine.begin() as connection:
        connection.execute("delete from chats where id = 'a'")
        assert kinds(journal) == ["created", "created", "looked_up"]
    assert kinds(journal) == ["created", "created", "looked_up", "ended"]


def test_a_long_statement_cache_or_none_changes_nothing(make_engine: Any, journal: Recorder):
    engine = make_engine().execution_options(compiled_cache=None)
    for _ in range(2):
        with orm.Session(engine, future=True) as session:
            chat = session.get(Chat, "a") or Chat(id="a")
            session.add(chat)
            session.commit()
            assert chat.status == "active"
    assert told(journal) == [("looked_up", "", ""), ("created", "a", ""), ("looked_up", "a", "")]
