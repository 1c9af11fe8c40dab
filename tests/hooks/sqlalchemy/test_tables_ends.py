"""Ends, attributions and second lives: what updates and deletes make of sessions."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from recorder import Recorder
from sqlalchemy import orm
from sqlalchemy.engine import Engine
from watching import IS_14, Base, Chat, chats, ended, told

from session_exporter.hooks.sqlalchemy import map_table
from session_exporter.tracker import SessionTracker


@pytest.fixture(autouse=True)
def mapped(tracker: SessionTracker, journal: Recorder, engine: Engine) -> Iterator[None]:
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        rows = [{"id": name, "user_id": "ann", "status": "active"} for name in "abcd"]
        connection.execute(sa.insert(chats), [*rows, {"id": "anonymous", "user_id": None, "status": "active"}])
    uninstall = map_table(
        "chats",
        scope="chat",
        user="user_id",
        active={"status": ["active", "idle"]},
        end_reason="ended_reason",
        tracker=tracker,
    )
    yield
    uninstall()
    assert not journal.errors


def _run(engine: Engine, statement: Any, parameters: Any = None) -> None:
    with engine.begin() as connection:
        connection.execute(statement, parameters or {})


DELETES = {
    "core": sa.delete(chats).where(chats.c.id == "a"),
    "mapper": sa.delete(Chat).where(Chat.id == "a"),
    "in": sa.delete(chats).where(chats.c.id.in_(["a"])),
    "and": sa.delete(chats).where(sa.and_(chats.c.id == "a", chats.c.status == "active"), chats.c.user_id.isnot(None)),
    "turned round": sa.delete(chats).where(sa.literal("a") == chats.c.id),
    "text": sa.text("delete from chats where id = 'a'"),
    "text parameter": sa.text("DELETE FROM chats WHERE chats.id = :chat AND status <> 'x'").bindparams(chat="a"),
    "text fragment": sa.delete(chats).where(sa.text("id = :id").bindparams(id="a")),
}


@pytest.mark.parametrize("statement", DELETES.values(), ids=DELETES.keys())
def test_a_deleted_row_is_an_end_once(engine: Engine, journal: Recorder, statement: Any):
    _run(engine, statement)
    _run(engine, statement)
    assert [words[::3] for words in told(journal)] == [("ended", "deleted")]
    assert ended(journal) == ["a"]


def test_an_object_that_is_deleted_is_an_end(engine: Engine, journal: Recorder):
    with orm.Session(engine, future=True) as session:
        for name in "ab":
            session.delete(session.get(Chat, name))
        session.commit()
    assert ended(journal) == ["a", "b"]


def test_several_ids_in_one_condition_end_when_all_of_them_were_there(engine: Engine, journal: Recorder):
    _run(engine, sa.delete(chats).where(chats.c.id.in_(["a", "b"])))
    _run(engine, sa.text("delete from chats where id in ('c', 'nobody')"))
    assert ended(journal) == ["a", "b"]


def test_a_condition_with_or_names_no_session(engine: Engine, journal: Recorder):
    _run(engine, sa.delete(chats).where(sa.or_(chats.c.id == "a", chats.c.id == "b")))
    _run(engine, sa.text("delete from chats where id = 'c' or id = 'd'"))
    assert told(journal) == []


def test_a_bulk_delete_says_nothing_unless_it_returns_ids(engine: Engine, journal: Recorder):
    _run(engine, sa.delete(chats).where(chats.c.user_id == "nobody"))
    with engine.begin() as connection:
        returned = connection.execute(sa.text("delete from chats where user_id = 'ann' and id < 'c' returning id"))
        assert returned.all() == [("a",), ("b",)]
    assert ended(journal) == ["a", "b"]
    _run(engine, sa.delete(chats))
    assert ended(journal) == ["a", "b"]


@pytest.mark.skipif(IS_14, reason="1.4 has no RETURNING on SQLite")
def test_a_result_that_is_not_fetched_is_let_go_at_once(engine: Engine, journal: Recorder):
    """SQLite does not commit as long as a statement under way is kept."""
    with engine.begin() as connection:
        connection.execute(sa.update(chats).where(chats.c.id == "a").values(status="gone").returning(chats.c.user_id))
        connection.execute(sa.update(chats).where(chats.c.id == "b").values(status="gone").returning(chats.c.id))
    with engine.connect() as connection:
        assert connection.execute(sa.select(sa.func.count()).where(chats.c.status == "gone")).scalar() == 2
    assert ended(journal) == []


CLOSES = {
    "core": sa.update(chats).where(chats.c.id == "a").values(status="completed"),
    "text": sa.text("update chats set status = 'completed' where id = :i").bindparams(i="a"),
    "mapper": sa.update(Chat).where(Chat.id == "a").values(status="completed"),
    "mapper's columns": sa.update(Chat).where(Chat.id == "a").values({Chat.status: "completed"}),
    "parameters": sa.update(chats)
    .where(chats.c.id == sa.bindparam("b_id", "a"))
    .values(status=sa.bindparam("s", "completed")),
}


@pytest.mark.parametrize("statement", CLOSES.values(), ids=CLOSES.keys())
def test_a_row_that_leaves_the_active_values_has_ended_for_what_its_new_value_says(
    engine: Engine, journal: Recorder, statement: Any
):
    _run(engine, statement)
    assert told(journal) == [("ended", "a", "", "completed")]


def test_an_object_whose_state_is_changed_has_ended(engine: Engine, journal: Recorder):
    with orm.Session(engine, future=True) as session:
        session.get(Chat, "a").status = "closed"
        session.get(Chat, "b").status = "idle"
        session.commit()
    assert told(journal)[2:] == [("ended", "a", "", "other")]


def test_the_reason_is_taken_from_its_column(engine: Engine, journal: Recorder):
    _run(engine, sa.update(chats).where(chats.c.id == "a").values(status="closed", ended_reason="user_request"))
    _run(engine, sa.text("update chats set ended_reason = 'whatever', status = 'EXPIRED' where id = 'b'"))
    assert [words[3] for words in told(journal)] == ["user_request", "expired"]


def test_an_update_that_found_no_row_or_changed_nothing_of_interest_is_nothing(engine: Engine, journal: Recorder):
    _run(engine, sa.update(chats).where(chats.c.id == "nobody").values(status="closed"))
    _run(engine, sa.update(chats).where(chats.c.id == "a").values(task="x"))
    _run(engine, sa.update(chats).where(chats.c.id == "a").values(status="idle"))
    assert told(journal) == []


def test_rows_updated_one_by_one_are_ends_of_each(engine: Engine, journal: Recorder):
    statement = sa.update(chats).where(chats.c.id == sa.bindparam("b_id")).values(status="closed")
    _run(engine, statement, [{"b_id": "a"}, {"b_id": "b"}])
    assert ended(journal) == ["a", "b"]


@pytest.mark.skipif(IS_14, reason="1.4 has no RETURNING on SQLite")
def test_ids_returned_by_an_update_are_ends(engine: Engine, journal: Recorder):
    with engine.begin() as connection:
        statement = sa.update(chats).where(chats.c.user_id == "ann", chats.c.id > "b").values(status="expired")
        assert len(connection.execute(statement.returning(chats.c.id)).all()) == 2
    assert told(journal) == [("ended", "c", "ann", "expired"), ("ended", "d", "ann", "expired")]


def test_a_row_that_returns_to_the_active_values_is_created_anew(engine: Engine, journal: Recorder):
    close = sa.update(chats).where(chats.c.id == "a").values(status="closed")
    reopen = sa.update(chats).where(chats.c.id == "a").values(status="active")
    _run(engine, reopen)
    _run(engine, close)
    _run(engine, reopen)
    _run(engine, reopen)
    assert told(journal) == [("ended", "a", "", "other"), ("created", "a", "")]


def test_a_row_found_inactive_or_named_so_by_the_condition_is_created_anew(engine: Engine, journal: Recorder):
    _run(engine, sa.text("update chats set status = 'closed'"))
    with orm.Session(engine, future=True) as session:
        session.get(Chat, "a").status = "active"
        session.commit()
    _run(engine, sa.text("update chats set status = 'active' where id = 'b' and status = 'closed'"))
    assert told(journal) == [("looked_up", "", ""), ("created", "a", ""), ("created", "b", "")]


def test_a_user_who_becomes_known_later_is_an_attribution(engine: Engine, journal: Recorder):
    with orm.Session(engine, future=True) as session:
        chat = Chat(id="late")
        session.add(chat)
        session.commit()
        chat.owner = "bob"
        session.commit()
    _run(engine, sa.text("update chats set user_id = :u where id = 'anonymous'"), {"u": "carol"})
    _run(engine, sa.update(chats).where(chats.c.id == "a").values(user_id=None))
    assert told(journal) == [
        ("created", "late", ""),
        ("attributed", "late", "bob"),
        ("attributed", "anonymous", "carol"),
    ]


def test_ends_that_are_rolled_back_are_nothing(engine: Engine, journal: Recorder):
    with engine.connect() as connection, connection.begin() as transaction:
        connection.execute(DELETES["core"])
        connection.execute(sa.update(chats).where(chats.c.id == "b").values(status="closed", user_id="x"))
        transaction.rollback()
    assert told(journal) == []


def test_a_row_deleted_and_inserted_in_one_transaction_ends_before_it_is_created(engine: Engine, journal: Recorder):
    with engine.begin() as connection:
        connection.execute(DELETES["core"])
        connection.execute(sa.insert(chats).values(id="a", user_id="ann", status="active"))
    assert [words[0] for words in told(journal)] == ["ended", "created"]
    assert journal.events[0].at_us < journal.events[1].at_us


def test_who_ends_one_session_and_creates_another_in_one_transaction_means_that_order(
    engine: Engine, journal: Recorder
):
    with orm.Session(engine, future=True) as session:
        session.get(Chat, "a").status = "closed"
        session.add(Chat(id="new", owner="ann"))
        session.commit()
    at_us = {event.session: event.at_us for event in journal.events if type(event).__name__ != "LookedUp"}
    assert at_us["a"] < at_us["new"]


def test_a_session_that_ends_where_it_was_created_was_there_before(engine: Engine, journal: Recorder):
    with engine.begin() as connection:
        connection.execute(sa.insert(chats).values(id="brief", user_id="ann", status="active"))
        connection.execute(sa.delete(chats).where(chats.c.id == "brief"))
    created, ended = journal.events
    assert (type(created).__name__, type(ended).__name__) == ("Created", "Ended")
    assert created.at_us <= ended.at_us
