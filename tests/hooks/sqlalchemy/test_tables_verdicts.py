"""Mapped tables: whether a request got the session that it expected, as its statements show."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from recorder import Recorder
from sqlalchemy import orm
from sqlalchemy.engine import Engine
from watching import Base, Chat, Message, chats, messages

from session_exporter.ambient import Request
from session_exporter.core.events import MISSED_BY_ID, MISSED_BY_USER, OTHER_USED, Created, LookedUp, Unmet
from session_exporter.hooks.sqlalchemy import map_table
from session_exporter.tracker import SessionTracker
from session_exporter.wrapped_calls import Call


@pytest.fixture(autouse=True)
def mapped(tracker: SessionTracker, journal: Recorder, engine: Engine) -> Iterator[None]:
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        rows = [{"id": "e", "user_id": "ann"}, {"id": "x", "user_id": "bob"}]
        connection.execute(sa.insert(chats), [{**row, "status": "active", "task": "-"} for row in rows])
        connection.execute(sa.insert(messages), [{"session_id": "e", "chat_id": "e"}])
    uninstall = [
        map_table("chats", scope="chat", user="user_id", active={"status": ["active"]}, tracker=tracker),
        map_table("messages", scope="history", id="session_id", rows="messages", tracker=tracker),
    ]
    yield
    for each in uninstall:
        each()
    assert not journal.errors


@pytest.fixture
def request_of_e(tracker: SessionTracker) -> Request:
    return tracker.request(user_id="ann", session_id="e")


def unmet(journal: Recorder) -> list[tuple[str, int, str]]:
    return [(event.scope, event.missed, event.actual) for event in journal.events if isinstance(event, Unmet)]


def _execute(engine: Engine, *statements: Any) -> None:
    with engine.begin() as connection:
        for statement in statements:
            result = connection.execute(statement)
            if result.returns_rows:
                result.fetchall()


BY_ID = {
    "core": (sa.select(chats).where(chats.c.id == "gone"), "gone"),
    "text": (sa.text("select * from chats where id = 'gone'"), "gone"),
    "further conditions": (sa.select(chats).where(chats.c.id == "gone", chats.c.task > "a"), "gone"),
    "not active": (sa.select(chats).where(chats.c.id == "e", chats.c.status == "closed"), "e"),
    "of the user": (sa.select(chats).where(chats.c.user_id == "cat"), ""),
    "of the user and active": (sa.select(chats).filter_by(user_id="cat", status="active").limit(1), ""),
}


@pytest.mark.parametrize(("statement", "asked"), BY_ID.values(), ids=BY_ID.keys())
def test_a_query_that_finds_nothing_says_which_id_it_asked_for(
    engine: Engine, journal: Recorder, statement: Any, asked: str
) -> None:
    _execute(engine, statement)
    assert [(event.session, event.asked) for event in journal.events if isinstance(event, LookedUp)] == [("", asked)]


def test_a_session_that_is_gone_is_missed_by_its_id_and_the_next_one_is_used_instead(
    engine: Engine, tracker: SessionTracker, journal: Recorder
) -> None:
    with tracker.request(user_id="ann", session_id="gone"):
        _execute(engine, sa.select(chats).where(chats.c.id == "gone"))
        _execute(engine, sa.insert(chats).values(id="new", user_id="ann", status="active"))
    assert unmet(journal) == [("chat", MISSED_BY_ID, "new")]


def test_a_session_that_was_found_and_ended_for_another_one_is_no_loss(
    engine: Engine, request_of_e: Request, journal: Recorder
) -> None:
    with request_of_e:
        _execute(
            engine,
            sa.select(chats).where(chats.c.id == "e"),
            sa.insert(chats).values(id="new", user_id="ann", status="active"),
            sa.update(chats).where(chats.c.id == "e").values(status="closed"),
        )
    assert unmet(journal) == []
    assert [(event.session, event.expected) for event in journal.events if isinstance(event, Created)] == [("new", "e")]


def test_the_expected_session_is_that_of_the_statement_and_not_of_the_commit(
    engine: Engine, request_of_e: Request, journal: Recorder
) -> None:
    with engine.begin() as connection:
        with request_of_e:
            connection.execute(sa.select(chats).where(chats.c.id == "e")).fetchall()
            connection.execute(sa.insert(chats).values(id="new", user_id="ann"))
        assert not [event for event in journal.events if isinstance(event, Created)]
    assert [(event.session, event.expected) for event in journal.events if isinstance(event, Created)] == [("new", "e")]


TOUCHES = {
    "deletes it": sa.delete(chats).where(chats.c.id == "e"),
    "ends it": sa.update(chats).where(chats.c.id == "e").values(status="closed"),
    "changes another column": sa.update(chats).where(chats.c.id == "e").values(task="t"),
    "activates it once more": sa.update(chats).where(chats.c.id == "e").values(status="active"),
    "changes it in text": sa.text("UPDATE chats SET task = 't' WHERE id = 'e'"),
}


@pytest.mark.parametrize("touch", TOUCHES.values(), ids=TOUCHES.keys())
@pytest.mark.parametrize("commits", [True, False])
def test_whoever_changes_the_expected_session_has_got_it(
    engine: Engine, request_of_e: Request, journal: Recorder, *, touch: Any, commits: bool
) -> None:
    with engine.connect() as connection, connection.begin() as transaction:
        with request_of_e:
            connection.execute(touch)
            connection.execute(sa.select(chats).where(chats.c.id == "x")).fetchall()
        if not commits:
            transaction.rollback()
    assert unmet(journal) == []


def test_a_change_that_meets_no_row_is_no_find(engine: Engine, tracker: SessionTracker, journal: Recorder) -> None:
    with tracker.request(user_id="ann", session_id="gone"):
        _execute(
            engine,
            sa.update(chats).where(chats.c.id == "gone").values(task="t"),
            sa.select(chats).where(chats.c.id == "x"),
        )
    assert unmet(journal) == [("chat", OTHER_USED, "x")]


def test_an_object_that_is_refreshed_or_loaded_by_another_one_is_got(
    engine: Engine, tracker: SessionTracker, journal: Recorder
) -> None:
    with orm.Session(engine, future=True) as session:
        chat = session.get(Chat, "e")
        assert chat is not None
        with tracker.request(user_id="ann", session_id="e"):
            session.refresh(chat)
            session.get(Chat, "x")
        session.expire_all()
        with tracker.request(user_id="ann", session_id="e"):
            assert chat.owner == "ann"
            session.execute(sa.select(Chat).where(Chat.id == "x")).all()
        session.expunge_all()
        with tracker.request(user_id="ann", session_id="e"):
            assert session.execute(sa.select(Message)).scalars().one().chat.owner == "ann"
            session.get(Chat, "x")
    assert unmet(journal) == []


def test_what_was_rolled_back_was_never_used_instead(engine: Engine, request_of_e: Request, journal: Recorder) -> None:
    with engine.connect() as connection, request_of_e:
        connection.execute(sa.insert(chats).values(id="new", user_id="ann"))
        connection.rollback()
    assert unmet(journal) == []


def test_a_session_that_is_bound_before_its_create_is_committed_makes_no_loss(
    engine: Engine, tracker: SessionTracker, journal: Recorder
) -> None:
    with engine.begin() as connection, tracker.request(user_id="cat") as request:
        connection.execute(sa.select(chats).where(chats.c.user_id == "cat")).fetchall()
        connection.execute(sa.insert(chats).values(id="new", user_id="cat"))
        request.bind_session("new")
        connection.execute(sa.select(chats).where(chats.c.id == "x")).fetchall()
    assert unmet(journal) == []


def test_an_id_of_the_client_s_that_is_adopted_was_missed(
    engine: Engine, tracker: SessionTracker, journal: Recorder
) -> None:
    with tracker.request(user_id="cat", session_id="made by the client"):
        _execute(
            engine,
            sa.select(chats).where(chats.c.id == "made by the client"),
            sa.insert(chats).values(id="made by the client", user_id="cat"),
            sa.select(chats).where(chats.c.id == "made by the client"),
        )
        _execute(engine, sa.select(chats).where(chats.c.id == "made by the client"))
    assert unmet(journal) == [("chat", MISSED_BY_ID, "")]


def test_messages_that_meet_a_condition_may_be_missing_without_their_session_being_missed(
    engine: Engine, request_of_e: Request, journal: Recorder
) -> None:
    with request_of_e:
        _execute(engine, sa.select(messages).where(messages.c.session_id == "e", messages.c.text == "hello"))
    assert unmet(journal) == []


def test_a_user_without_rows_misses_the_expected_one(
    engine: Engine, tracker: SessionTracker, journal: Recorder
) -> None:
    with tracker.request(user_id="cat", session_id="gone"):
        _execute(engine, sa.select(chats).filter_by(user_id="cat", status="active").limit(1))
    assert unmet(journal) == [("chat", MISSED_BY_USER, "")]


OTHER_KINDS = {
    "closed": sa.select(chats).filter_by(user_id="ann", status="closed"),
    "of other states": sa.select(chats).where(chats.c.user_id == "ann", chats.c.status.in_(["closed", "failed"])),
    "not active": sa.select(chats).where(chats.c.user_id == "ann", chats.c.status != "active"),
    "that meet a search": sa.select(chats).where(chats.c.user_id == "ann", chats.c.task.like("%none%")),
    "of a task": sa.select(chats).filter_by(user_id="ann", task="none"),
    "on the second page": sa.select(chats).where(chats.c.user_id == "ann").limit(20).offset(20),
    "closed, in text": sa.text("SELECT * FROM chats WHERE user_id = 'ann' AND status = 'closed'"),
    "on the second page, in text": sa.text("SELECT * FROM chats WHERE user_id = 'ann' LIMIT 20 OFFSET 20"),
}


@pytest.mark.parametrize("statement", OTHER_KINDS.values(), ids=OTHER_KINDS.keys())
@pytest.mark.parametrize("is_called", [True, False])
def test_who_lists_sessions_of_another_kind_has_not_missed_the_active_one(
    engine: Engine, request_of_e: Request, journal: Recorder, *, statement: Any, is_called: bool
) -> None:
    with request_of_e:
        if is_called:
            with Call("chat"):
                _execute(engine, statement)
        else:
            _execute(engine, statement)
    assert unmet(journal) == []


ANY_KIND = {
    "any": sa.select(chats).filter_by(user_id="cat"),
    "active": sa.select(chats).filter_by(user_id="cat", status="active"),
    "active among others": sa.select(chats).where(chats.c.user_id == "cat", chats.c.status.in_(["new", "active"])),
}


@pytest.mark.parametrize("statement", ANY_KIND.values(), ids=ANY_KIND.keys())
def test_who_asks_for_all_active_sessions_of_a_user_and_finds_none_has_missed_it(
    engine: Engine, tracker: SessionTracker, journal: Recorder, statement: Any
) -> None:
    with tracker.request(user_id="cat", session_id="gone"):
        _execute(engine, statement)
    assert unmet(journal) == [("chat", MISSED_BY_USER, "")]


SWEEPS = {
    "closes those of the user": sa.update(chats).filter_by(user_id="ann", status="active").values(status="closed"),
    "deletes those of the user": sa.delete(chats).where(chats.c.user_id == "ann"),
    "closes them in text": sa.text("UPDATE chats SET status = 'closed' WHERE user_id = 'ann'"),
}


@pytest.mark.parametrize("sweep", SWEEPS.values(), ids=SWEEPS.keys())
def test_who_ends_all_sessions_of_a_user_and_begins_another_one_has_lost_none(
    engine: Engine, request_of_e: Request, journal: Recorder, sweep: Any
) -> None:
    with request_of_e:
        _execute(engine, sweep, sa.select(chats).filter_by(user_id="ann", status="active"))
        _execute(engine, sa.insert(chats).values(id="new", user_id="ann", status="active"))
    assert unmet(journal) == []
    assert [event.expected for event in journal.events if isinstance(event, Created)] == [""]


NO_SWEEPS = {
    "of nobody": sa.delete(chats).where(chats.c.user_id == "cat"),
    "that ends none": sa.update(chats).where(chats.c.user_id == "ann").values(task="t"),
    "that activates": sa.update(chats).where(chats.c.user_id == "ann").values(status="active"),
}


@pytest.mark.parametrize("statement", NO_SWEEPS.values(), ids=NO_SWEEPS.keys())
def test_a_statement_that_ends_no_session_excuses_nobody(
    engine: Engine, request_of_e: Request, journal: Recorder, statement: Any
) -> None:
    with request_of_e:
        _execute(engine, statement, sa.insert(chats).values(id="new", user_id="ann", status="active"))
    assert unmet(journal) == [("chat", OTHER_USED, "new")]


def test_what_was_missed_before_all_sessions_of_the_user_were_ended_was_missed(
    engine: Engine, tracker: SessionTracker, journal: Recorder
) -> None:
    with tracker.request(user_id="ann", session_id="gone"):
        _execute(engine, sa.select(chats).where(chats.c.id == "gone"), sa.delete(chats).where(chats.c.user_id == "ann"))
    assert unmet(journal) == [("chat", MISSED_BY_ID, "")]


def test_statements_of_other_threads_and_of_async_engines_count(run_async: Any, journal: Recorder) -> None:
    import asyncio

    tracker = SessionTracker(journal=journal)

    async def main(made: Any) -> None:
        async with tracker.request(user_id="ann", session_id="e"), made.connect() as connection:
            await asyncio.to_thread(tracker.looked_up, "ann", None, scope="chat")
            (await connection.execute(sa.select(chats).where(chats.c.id == "e"))).all()
        async with tracker.request(user_id="ann", session_id="gone"), made.connect() as connection:
            (await connection.execute(sa.select(chats).where(chats.c.id == "gone"))).all()

    run_async(main)
    assert unmet(journal) == [("chat", MISSED_BY_ID, "")]
