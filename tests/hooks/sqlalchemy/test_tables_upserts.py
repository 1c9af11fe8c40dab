"""Inserts that may find a row in place: what is a create, and what is left to the ledger."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from recorder import Recorder
from sqlalchemy import orm
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Engine
from watching import IS_14, Base, Chat, chats, messages, tickets, told

from session_exporter.hooks.sqlalchemy import map_table
from session_exporter.tracker import SessionTracker


@pytest.fixture(autouse=True)
def mapped(tracker: SessionTracker, journal: Recorder, engine: Engine) -> Iterator[None]:
    Base.metadata.create_all(engine)
    uninstall = [
        map_table("chats", scope="chat", user="user_id", restart_on=["task"], tracker=tracker),
        map_table("tickets", scope="ticket", user="user_id", tracker=tracker),
        map_table("messages", scope="history", id="session_id", rows="messages", tracker=tracker),
    ]
    yield
    for each in uninstall:
        each()
    assert not journal.errors


def _run(engine: Engine, *statements: Any) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(statement)


def _row(name: str, owner: str = "ann", **values: Any) -> dict[str, Any]:
    return {"id": name, "user_id": owner, **values}


def _upsert(name: str, owner: str = "ann", **values: Any) -> Any:
    statement = insert(chats).values(_row(name, owner, **values))
    return statement.on_conflict_do_update(
        index_elements=["id"], set_={"user_id": statement.excluded.user_id, **values}
    )


TEXT_UPSERT = sa.text(
    "insert into chats (id, user_id) values (:i, 'ann') on conflict (id) do update set user_id = excluded.user_id"
)


def test_a_row_that_was_not_inserted_because_of_another_is_no_create(engine: Engine, journal: Recorder):
    statement = insert(chats).values(_row("a")).on_conflict_do_nothing()
    _run(engine, statement)
    _run(engine, statement)
    assert told(journal) == [("created", "a", "ann")]


def test_insert_or_ignore_is_read_in_every_style(engine: Engine, journal: Recorder):
    for _ in range(2):
        _run(
            engine,
            sa.insert(chats).prefix_with("OR IGNORE").values(_row("a")),
            sa.text("INSERT OR IGNORE INTO chats (id, user_id) VALUES ('b', 'ann')"),
            sa.text("insert into chats (id, user_id) values ('c', 'ann') on conflict do nothing"),
        )
    assert told(journal) == [("created", name, "ann") for name in "abc"]


def test_of_several_rows_those_that_are_not_certain_to_be_new_are_upserts(engine: Engine, journal: Recorder):
    _run(engine, sa.insert(chats).values(_row("a")))
    with engine.begin() as connection:
        connection.execute(insert(chats).on_conflict_do_nothing(), [_row("a"), _row("b")])
        connection.execute(insert(chats).on_conflict_do_nothing(), [_row("c"), _row("d")])
    assert told(journal) == [
        ("created", "a", "ann"),
        ("observed", "b", "ann", "upsert", ""),
        ("created", "c", "ann"),
        ("created", "d", "ann"),
    ]


@pytest.mark.skipif(IS_14, reason="1.4 has no RETURNING on SQLite")
def test_returned_rows_say_which_were_inserted(engine: Engine, journal: Recorder):
    _run(engine, sa.insert(chats).values(_row("a")))
    with engine.begin() as connection:
        statement = insert(chats).on_conflict_do_nothing().returning(chats.c.id)
        assert connection.execute(statement, [_row("a"), _row("b")]).all() == [("b",)]
    assert told(journal) == [("created", "a", "ann"), ("created", "b", "ann")]


@pytest.mark.skipif(IS_14, reason="1.4 has no RETURNING on SQLite")
def test_rows_that_are_returned_and_not_fetched_were_written_all_the_same(engine: Engine, journal: Recorder):
    with engine.begin() as connection:
        connection.execute(_upsert("a").returning(chats.c.id))
    assert told(journal) == [("observed", "a", "ann", "upsert", "")]


@pytest.mark.skipif(IS_14, reason="1.4 has no RETURNING on SQLite")
def test_written_rows_that_a_mapper_loads_are_seen(engine: Engine, journal: Recorder):
    with orm.Session(engine) as session:
        for statement in (sa.insert(Chat).values(id="a", owner="ann"), _upsert("b")):
            loaded = session.scalars(sa.select(Chat).from_statement(statement.returning(Chat)))
            assert loaded.one().owner == "ann"
        session.commit()
    assert told(journal) == [("created", "a", "ann"), ("observed", "b", "ann", "upsert", "")]


@pytest.mark.parametrize("statement", [_upsert("a"), TEXT_UPSERT.bindparams(i="a")], ids=["core", "text"])
def test_an_upsert_of_an_id_that_is_not_known_is_left_to_the_ledger(engine: Engine, journal: Recorder, statement: Any):
    _run(engine, statement)
    assert told(journal) == [("observed", "a", "ann", "upsert", "")]


@pytest.mark.parametrize("statement", [_upsert("a"), TEXT_UPSERT.bindparams(i="a")], ids=["core", "text"])
def test_an_upsert_of_an_id_that_was_missed_before_is_a_create(engine: Engine, journal: Recorder, statement: Any):
    with engine.begin() as connection:
        assert connection.execute(sa.select(chats.c.id).where(chats.c.id == "a")).first() is None
        connection.execute(statement)
    assert told(journal) == [("looked_up", "", ""), ("created", "a", "ann")]


@pytest.mark.parametrize("statement", [_upsert("a"), TEXT_UPSERT.bindparams(i="a")], ids=["core", "text"])
def test_an_upsert_of_an_id_that_was_found_or_made_before_is_nothing(engine: Engine, journal: Recorder, statement: Any):
    _run(engine, sa.insert(chats).values(_row("a")))
    _run(engine, statement)
    assert told(journal) == [("created", "a", "ann")]


def test_what_a_rolled_back_transaction_made_is_not_known(engine: Engine, journal: Recorder):
    with engine.connect() as connection, connection.begin() as transaction:
        connection.execute(sa.insert(chats).values(_row("a")))
        transaction.rollback()
    _run(engine, _upsert("a"))
    assert told(journal) == [("observed", "a", "ann", "upsert", "")]


@pytest.mark.parametrize(
    "statement",
    [
        sa.insert(chats).prefix_with("OR REPLACE").values(_row("a", status="active")),
        sa.text("INSERT OR REPLACE INTO chats (id, user_id, status) VALUES ('a', 'ann', 'active')"),
        sa.text("REPLACE INTO chats (id, user_id, status) VALUES ('a', 'ann', 'active')"),
    ],
    ids=["core", "text", "replace"],
)
def test_a_replacing_insert_is_an_upsert(engine: Engine, journal: Recorder, statement: Any):
    _run(engine, statement)
    _run(engine, statement)
    assert told(journal) == [("observed", "a", "ann", "upsert", "")]


def test_an_upsert_that_decides_by_the_user_says_nothing_of_the_id_it_proposes(engine: Engine, journal: Recorder):
    sql = "insert into tickets (id, user_id) values (:id, 'ann') on conflict (user_id) do update set user_id = 'ann'"
    with engine.begin() as connection:
        connection.execute(sa.text(sql), {"id": 1})
        connection.execute(sa.text(sql), {"id": 2})
        assert connection.execute(sa.text(sql + " returning id"), {"id": 3}).all() == [(1,)]
        bob = sql.replace("ann", "bob") + " returning id"
        assert connection.execute(sa.text(bob), {"id": 4}).all() == [(4,)]
    assert told(journal) == [("created", "4", "bob")]


def test_an_upsert_that_changes_a_restarting_column_says_the_generation(engine: Engine, journal: Recorder):
    _run(engine, _upsert("a", task="one"))
    _run(engine, _upsert("a", task="two"))
    _run(engine, _upsert("a"))
    assert told(journal) == [("observed", "a", "ann", "upsert", "one"), ("observed", "a", "ann", "upsert", "two")]


def test_an_update_of_a_restarting_column_says_the_generation(engine: Engine, journal: Recorder):
    _run(engine, sa.insert(chats).values(_row("a", task="one")))
    _run(engine, sa.update(chats).where(chats.c.id == "a").values(task="two"))
    _run(engine, sa.text("update chats set task = 'three' where id = 'a'"))
    assert told(journal) == [
        ("created", "a", "ann", "one"),
        ("observed", "a", "", "upsert", "two"),
        ("observed", "a", "", "upsert", "three"),
    ]


def test_a_row_of_messages_is_left_to_the_ledger_until_its_session_is_known(engine: Engine, journal: Recorder):
    first = sa.insert(messages).values(session_id="a", text="hello")
    _run(engine, first, first)
    _run(engine, first)
    assert told(journal) == [("observed", "a", "", "row", "")]


def test_messages_after_a_miss_are_one_create(engine: Engine, journal: Recorder):
    with engine.begin() as connection:
        query = sa.select(messages).where(messages.c.session_id == "a").order_by(messages.c.id)
        assert connection.execute(query).all() == []
        connection.execute(sa.insert(messages), [{"session_id": "a"}, {"session_id": "a"}])
    assert told(journal) == [("looked_up", "", ""), ("created", "a", "")]


def test_deleting_all_messages_of_a_session_ends_it_and_deleting_one_does_not(engine: Engine, journal: Recorder):
    _run(engine, sa.insert(messages).values(session_id="a", id=1), sa.insert(messages).values(session_id="a", id=2))
    _run(engine, sa.delete(messages).where(messages.c.session_id == "a", messages.c.id == 1))
    assert told(journal)[1:] == []
    _run(engine, sa.delete(messages).where(messages.c.session_id == "a"))
    _run(engine, sa.delete(messages).where(messages.c.session_id == "a"))
    assert told(journal)[1:] == [("ended", "a", "", "deleted")]
    _run(engine, sa.insert(messages).values(session_id="a"))
    assert told(journal)[2:] == [("created", "a", "")]


def test_tickets_of_different_users_are_creates(engine: Engine, journal: Recorder):
    _run(engine, sa.insert(tickets).values(user_id="ann"), sa.insert(tickets).values(user_id=None))
    assert told(journal) == [("created", "1", "ann"), ("created", "2", "")]
