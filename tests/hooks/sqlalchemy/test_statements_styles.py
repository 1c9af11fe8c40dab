"""Creates, in every style in which SQLAlchemy can be told to insert a row."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from recorder import Recorder
from sqlalchemy import orm
from sqlalchemy.engine import Connection, Engine
from watching import IS_14, Base, Chat, Ticket, chats, created, kinds, others, tickets, told

from session_exporter.hooks.sqlalchemy import map_table
from session_exporter.tracker import SessionTracker

Insert = Callable[[Connection], object]


@pytest.fixture(autouse=True)
def mapped(tracker: SessionTracker, journal: Recorder, engine: Engine) -> Iterator[None]:
    Base.metadata.create_all(engine)
    uninstall = [
        map_table("chats", scope="chat", user="user_id", active={"status": ["active"]}, tracker=tracker),
        map_table("tickets", scope="ticket", user="user_id", tracker=tracker),
    ]
    yield
    for each in uninstall:
        each()
    assert not journal.errors


def _orm(connection: Connection) -> None:
    with orm.Session(connection, future=True) as session:
        session.add_all([Chat(id="a", owner="ann"), Chat(id="b", owner="bob")])
        session.commit()


def _orm_single(connection: Connection) -> None:
    with orm.Session(connection, future=True) as session:
        for name, owner in (("a", "ann"), ("b", "bob")):
            session.add(Chat(id=name, owner=owner))
            session.flush()
        session.commit()


def _bulk_mappings(connection: Connection) -> None:
    with orm.Session(connection, future=True) as session:
        session.bulk_insert_mappings(Chat, [{"id": "a", "owner": "ann"}, {"id": "b", "owner": "bob"}])
        session.commit()


def _bulk_objects(connection: Connection) -> None:
    with orm.Session(connection, future=True) as session:
        session.bulk_save_objects([Chat(id="a", owner="ann"), Chat(id="b", owner="bob")])
        session.commit()


def _orm_insert(connection: Connection) -> None:
    rows = [{"id": "a", "user_id": "ann"}, {"id": "b", "user_id": "bob"}]
    if not IS_14:
        rows = [{"id": row["id"], "owner": row["user_id"]} for row in rows]
    with orm.Session(connection, future=True) as session:
        session.execute(sa.insert(Chat if not IS_14 else chats), rows)
        session.commit()


def _statement(statement: Any, parameters: Any = None) -> Insert:
    return lambda connection: connection.execute(statement, parameters) if parameters else connection.execute(statement)


def _driver(sql: str, parameters: Any) -> Insert:
    return lambda connection: connection.exec_driver_sql(sql, parameters)


ROWS = [{"id": "a", "user_id": "ann"}, {"id": "b", "user_id": "bob"}]
BOTH: dict[str, Insert] = {
    "orm": _orm,
    "orm one by one": _orm_single,
    "bulk mappings": _bulk_mappings,
    "bulk objects": _bulk_objects,
    "orm insert": _orm_insert,
    "core executemany": _statement(sa.insert(chats), ROWS),
    "core values": _statement(sa.insert(chats).values(ROWS)),
    "core parameters": _statement(
        sa.insert(chats).values(id=sa.bindparam("x"), user_id=sa.bindparam("y")),
        [{"x": "a", "y": "ann"}, {"x": "b", "y": "bob"}],
    ),
    "text": _statement(
        sa.text("INSERT INTO chats (id, user_id) VALUES (:i, :u)"), [{"i": "a", "u": "ann"}, {"i": "b", "u": "bob"}]
    ),
    "text of two rows": _statement(
        sa.text("insert into chats (user_id, id) values (:u, :i), ('bob', 'b')"), {"i": "a", "u": "ann"}
    ),
    "driver": _driver('INSERT INTO "chats" ("id", "user_id") VALUES (?, ?)', [("a", "ann"), ("b", "bob")]),
    "driver with schema": _driver("INSERT INTO main.chats (id, user_id) VALUES (?1, ?2)", [("a", "ann"), ("b", "bob")]),
    "insert from select": lambda connection: [
        connection.execute(
            sa.insert(chats).from_select(
                ["id", "user_id"], sa.select(sa.literal(row["id"]), sa.literal(row["user_id"]))
            )
        )
        for row in ROWS
    ],
    "text insert from select": lambda connection: [
        connection.execute(
            sa.text(
                "insert into chats (id, user_id) select :id, :user_id "
                "where not exists (select 1 from chats where id = :id)"
            ),
            row,
        )
        for row in (*ROWS, ROWS[0])
    ],
}


@pytest.mark.parametrize("insert", BOTH.values(), ids=BOTH.keys())
def test_rows_inserted_in_any_style_are_creates_once_committed(engine: Engine, journal: Recorder, insert: Insert):
    with engine.connect() as connection, connection.begin():
        insert(connection)
        assert journal.events == []
    assert sorted(told(journal)) == [("created", "a", "ann"), ("created", "b", "bob")]


@pytest.mark.parametrize("insert", BOTH.values(), ids=BOTH.keys())
def test_rows_inserted_in_any_style_are_nothing_when_rolled_back(engine: Engine, journal: Recorder, insert: Insert):
    with engine.connect() as connection, connection.begin() as transaction:
        insert(connection)
        transaction.rollback()
    assert journal.events == []


def _ticket(connection: Connection) -> None:
    with orm.Session(connection, future=True) as session:
        session.add(Ticket(user_id="ann"))
        session.add(Ticket(user_id="bob"))
        session.commit()


def _tickets_returned(connection: Connection) -> None:
    statement = sa.insert(tickets).returning(tickets.c.id)
    assert connection.execute(statement, [{"user_id": "ann"}, {"user_id": "bob"}]).scalars().all() == [1, 2]


def _orm_returning(connection: Connection) -> None:
    with orm.Session(connection, future=True) as session:
        rows = [{"user_id": "ann"}, {"user_id": "bob"}]
        assert len(session.scalars(sa.insert(Ticket).returning(Ticket), rows).all()) == 2
        session.commit()


def _ticket_by_ticket(connection: Connection) -> None:
    for user in ("ann", "bob"):
        connection.execute(sa.insert(tickets).values(user_id=user))


MADE_BY_DATABASE = {
    "orm": _ticket,
    "core": _ticket_by_ticket,
    "text returning": lambda connection: connection.execute(
        sa.text("insert into tickets (user_id) values ('ann'), ('bob') returning *")
    ).all(),
    "driver returning": lambda connection: connection.exec_driver_sql(
        "insert into tickets (user_id) values ('ann'), ('bob') returning user_id as x, id"
    ).all(),
    "orm returning": _orm_returning,
    "core returning": _tickets_returned,
}


@pytest.mark.parametrize("insert", MADE_BY_DATABASE.values(), ids=MADE_BY_DATABASE.keys())
def test_ids_that_the_database_makes_are_those_of_the_creates(
    engine: Engine, journal: Recorder, insert: Insert, request
):
    if IS_14 and request.node.callspec.id in {"orm returning", "core returning"}:
        pytest.skip("1.4 has no RETURNING on SQLite")
    with engine.connect() as connection, connection.begin():
        insert(connection)
        assert journal.events == []
    assert [words[:2] for words in told(journal)] == [("created", "1"), ("created", "2")]
    if request.node.callspec.id != "core returning":
        assert {words[2] for words in told(journal)} <= {"ann", "bob", ""}


def test_a_statement_on_another_table_is_nothing(engine: Engine, journal: Recorder):
    with engine.begin() as connection:
        connection.execute(sa.insert(others).values(id="a"))
        connection.execute(sa.text("select 'chats' from others where id = 'a'"))
    assert kinds(journal) == []
    assert created(journal) == []
