"""Lookups: which queries ask for a session, and what they got."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from recorder import Recorder
from sqlalchemy import orm
from sqlalchemy.engine import Engine
from watching import Base, Chat, Message, chats, kinds, messages, told

from session_exporter.hooks.sqlalchemy import map_table
from session_exporter.tracker import SessionTracker
from session_exporter.wrapped_calls import Call

HIT, MISS = ("looked_up", "a", "ann"), ("looked_up", "", "")


@pytest.fixture(autouse=True)
def mapped(tracker: SessionTracker, journal: Recorder, engine: Engine) -> Iterator[None]:
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(
            sa.insert(chats),
            [{"id": "a", "user_id": "ann"}, {"id": "b", "user_id": "bob"}, {"id": "c", "user_id": "bob"}],
        )
        connection.execute(
            sa.insert(messages), [{"session_id": "a", "chat_id": "a"}, {"session_id": "a", "chat_id": "a"}]
        )
    uninstall = [
        map_table("chats", scope="chat", user="user_id", active={"status": ["active"]}, tracker=tracker),
        map_table("messages", scope="history", id="session_id", rows="messages", tracker=tracker),
    ]
    yield
    for each in uninstall:
        each()
    assert not journal.errors


def _fetch(engine: Engine, statement: Any, parameters: Any = None) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(statement, parameters or {}).all())


alias = chats.alias("c")
inner = sa.select(chats).where(chats.c.id == "a").limit(1).subquery()
HITS = {
    "core": sa.select(chats).where(chats.c.id == "a"),
    "mapper": sa.select(Chat).where(Chat.id == "a"),
    "of the user": sa.select(chats.c.id, chats.c.user_id).where(chats.c.user_id == "ann"),
    "of the user and status": sa.select(chats).filter_by(user_id="ann", status="active").limit(1),
    "in": sa.select(chats).where(chats.c.id.in_(["a"])),
    "alias": sa.select(alias).where(alias.c.id == "a"),
    "label": sa.select(chats.c.id.label("x"), chats.c.user_id.label("id")).where(chats.c.id == "a"),
    "subquery": sa.select(inner.c.id, inner.c.user_id),
    "outer join": sa.select(chats, messages).join_from(chats, messages, isouter=True).where(chats.c.id == "a"),
    "text": sa.text("select * from chats where id = 'a'"),
    "text parameter": sa.text("SELECT c.user_id AS owner, c.id FROM chats AS c WHERE c.id = :id LIMIT 1").bindparams(
        id="a"
    ),
    "text of the user": sa.text(
        "select chats.*, 1 from chats where user_id = 'ann' order by id for update".replace(" for update", "")
    ),
    "text of columns": sa.text("select id, user_id from chats where id = :i")
    .bindparams(i="a")
    .columns(chats.c.id, chats.c.user_id),
    "locked": sa.select(chats).where(chats.c.id == "a").with_for_update(),
}


@pytest.mark.parametrize("statement", HITS.values(), ids=HITS.keys())
def test_a_query_for_one_session_that_finds_it_is_a_lookup(engine: Engine, journal: Recorder, statement: Any):
    assert _fetch(engine, statement)
    assert told(journal) == [HIT]


MISSES = {
    "core": (sa.select(chats).where(chats.c.id == "x"), ""),
    "of the user": (sa.select(chats).where(chats.c.user_id == "x"), "x"),
    "text": (sa.text("select id from chats where id = 'x' and user_id = 'u'"), "u"),
    "driver": (None, ""),
}


@pytest.mark.parametrize(("statement", "user"), MISSES.values(), ids=MISSES.keys())
def test_a_query_for_one_session_that_finds_none_is_a_miss(
    engine: Engine, journal: Recorder, statement: Any, user: str
):
    if statement is None:
        with engine.connect() as connection:
            assert connection.exec_driver_sql("select id from chats where id = ?", ("x",)).first() is None
    else:
        assert _fetch(engine, statement) == []
    assert told(journal) == [("looked_up", "", user)]


NO_LOOKUPS = {
    "listing": sa.select(chats),
    "of other columns": sa.select(chats).where(chats.c.status == "active"),
    "several of a user": sa.select(chats).where(chats.c.user_id == "bob"),
    "in": sa.select(chats).where(chats.c.id.in_(["a", "b"])),
    "or": sa.select(chats).where(sa.or_(chats.c.id == "a", chats.c.id == "x")),
    "count": sa.select(sa.func.count()).select_from(chats).where(chats.c.id == "a"),
    "count of ids": sa.select(sa.func.count(chats.c.id)).where(chats.c.user_id == "ann"),
    "newest": sa.select(sa.func.max(chats.c.id)).where(chats.c.user_id == "ann"),
    "grouped": sa.select(chats.c.id, sa.func.count()).where(chats.c.id == "a").group_by(chats.c.id),
    "exists": sa.select(sa.exists().where(chats.c.id == "a")),
    "in a condition": sa.select(messages.c.text).where(
        messages.c.chat_id.in_(sa.select(chats.c.id).where(chats.c.id == "a"))
    ),
    "joined": sa.select(messages.c.text).join_from(messages, chats).where(chats.c.id == "a"),
    "not": sa.select(chats).where(sa.not_(chats.c.id == "a")),
    "text count": sa.text("select count(*) from chats where id = 'a'"),
    "text union": sa.text("select id from chats where id = 'a' union select id from chats"),
    "text join": sa.text("select m.text from chats c join messages m on m.chat_id = c.id where c.id = 'a'"),
    "text with": sa.text("with x as (select id from chats where id = 'a') select * from x"),
}


@pytest.mark.parametrize("statement", NO_LOOKUPS.values(), ids=NO_LOOKUPS.keys())
def test_a_query_that_asks_for_no_single_session_is_no_lookup(engine: Engine, journal: Recorder, statement: Any):
    _fetch(engine, statement)
    assert [words for words in told(journal) if words[0] == "looked_up"] == []


def test_rows_that_the_application_does_not_fetch_say_nothing(engine: Engine, journal: Recorder):
    with engine.connect() as connection:
        connection.execute(HITS["core"]).close()
        connection.execute(sa.select(chats).where(chats.c.id == "x")).close()
    assert told(journal) == []


def test_the_first_row_of_several_is_a_lookup_when_no_other_was_fetched(engine: Engine, journal: Recorder):
    with engine.connect() as connection:
        assert connection.execute(sa.select(chats).where(chats.c.user_id == "bob").order_by(chats.c.id)).first()
    assert told(journal) == [("looked_up", "b", "bob")]


def test_a_session_that_is_not_active_counts_as_not_found(engine: Engine, journal: Recorder):
    with engine.begin() as connection:
        connection.execute(sa.text("update chats set status = 'closed' where user_id = 'bob' and id <> 'c'"))
        assert connection.execute(sa.select(chats).where(chats.c.id == "b")).one()
        assert len(connection.execute(sa.select(chats).where(chats.c.user_id == "bob")).all()) == 2
    assert told(journal) == [MISS, ("looked_up", "c", "bob")]


def test_the_same_session_found_again_in_a_transaction_is_no_further_reuse(engine: Engine, journal: Recorder):
    for _ in range(2):
        with engine.connect() as connection:
            for _ in range(2):
                assert connection.execute(HITS["core"]).one()
    assert told(journal) == [HIT, (*HIT, "again")] * 2


def test_a_transaction_that_serves_several_requests_reuses_the_session_in_each(
    engine: Engine, journal: Recorder, tracker: SessionTracker
):
    with engine.connect() as connection:
        for _ in range(2):
            with tracker.request():
                connection.execute(HITS["core"]).all()
    assert told(journal) == [HIT] * 2


def test_a_session_found_by_the_transaction_that_made_it_is_a_lookup_once_committed(engine: Engine, journal: Recorder):
    query = sa.select(chats).where(chats.c.id == "new")
    with engine.connect() as connection, connection.begin():
        connection.execute(sa.insert(chats).values(id="new", user_id="eve"))
        assert connection.execute(query).one()
        assert told(journal) == []
    assert told(journal) == [("created", "new", "eve"), ("looked_up", "new", "eve", "again")]
    journal.events.clear()
    with engine.connect() as connection, connection.begin() as transaction:
        connection.execute(sa.insert(chats).values(id="newer", user_id="eve"))
        assert connection.execute(sa.select(chats).where(chats.c.id == "newer")).one()
        transaction.rollback()
    assert told(journal) == []


def test_inside_of_a_wrapped_call_lookups_and_creates_belong_to_the_call(engine: Engine, journal: Recorder):
    with Call("chat") as call, engine.begin() as connection:
        assert connection.execute(HITS["core"]).one()
        assert connection.execute(sa.select(chats).where(chats.c.id == "x")).first() is None
        connection.execute(sa.insert(chats).values(id="new", user_id="eve"))
    assert (call.found, call.made) == ({"a"}, {"new"})
    assert told(journal) == [("created", "new", "eve")]


def test_a_wrapped_call_of_another_scope_changes_nothing(engine: Engine, journal: Recorder):
    with Call("other") as call:
        _fetch(engine, HITS["core"])
    assert told(journal) == [HIT]
    assert not call.found


def test_objects_are_looked_up_when_the_session_asks_the_database_for_them(engine: Engine, journal: Recorder):
    with orm.Session(engine, future=True) as session:
        chat = session.get(Chat, "a")
        assert session.get(Chat, "a") is chat
        assert session.get(Chat, "x") is None
        assert session.query(Chat).filter_by(owner="ann").first() is chat
    assert told(journal) == [HIT, MISS, (*HIT, "again")]


def test_messages_of_a_session_are_one_lookup(engine: Engine, journal: Recorder):
    assert len(_fetch(engine, sa.select(messages).where(messages.c.session_id == "a").order_by(messages.c.id))) == 2
    assert _fetch(engine, sa.text("select text from messages where session_id = 'x'")) == []
    assert _fetch(engine, sa.select(messages).where(messages.c.session_id == "x", messages.c.id > 3)) == []
    assert told(journal) == [("looked_up", "a", ""), MISS]


def test_a_query_joined_to_messages_is_about_the_session(engine: Engine, journal: Recorder):
    with orm.Session(engine, future=True) as session:
        query = session.query(Chat).options(orm.joinedload(Chat.messages)).filter(Chat.id == "a")
        assert len(query.one().messages) == 2
    assert told(journal) == [HIT]


def test_loading_related_objects_and_columns_is_no_lookup(engine: Engine, journal: Recorder):
    with orm.Session(engine, future=True) as session:
        message = session.query(Message).filter(Message.id == 1).one()
        assert message.chat.owner == "ann"
        session.refresh(message.chat)
        session.expire_all()
        assert message.chat.owner == "ann"
    assert kinds(journal) == []


def test_a_bulk_update_that_brings_objects_in_step_is_no_lookup(engine: Engine, journal: Recorder):
    with orm.Session(engine, future=True) as session:
        session.query(Chat).filter(Chat.id == "a").update({"owner": "eve"}, synchronize_session="fetch")
        session.commit()
    assert told(journal) == [("attributed", "a", "eve")]


def test_uuids_are_one_id_however_they_are_written(tracker: SessionTracker, journal: Recorder, engine: Engine):
    if not hasattr(sa, "Uuid"):
        pytest.skip("1.4 has no Uuid")
    table = sa.Table("visits", sa.MetaData(), sa.Column("id", sa.Uuid, primary_key=True), sa.Column("u", sa.Uuid))
    table.create(engine)
    uninstall = map_table("visits", scope="visit", user="u", tracker=tracker)
    visit, user = uuid.uuid4(), uuid.uuid4()
    with engine.begin() as connection:
        connection.execute(sa.insert(table).values(id=visit, u=user))
        connection.execute(sa.text("update visits set u = u where id = :i"), {"i": visit.hex})
    _fetch(engine, sa.select(table).where(table.c.u == user))
    _fetch(engine, sa.text("select id from visits where id = :i"), {"i": visit.hex})
    uninstall()
    assert {event.session for event in journal.events} == {str(visit)}
    assert told(journal)[1] == ("looked_up", str(visit), str(user))


def test_who_asks_for_the_active_session_asks_for_one_also_when_a_race_has_made_two(
    engine: Engine, journal: Recorder
) -> None:
    statement = sa.select(chats).where(chats.c.user_id == "bob", chats.c.status == "active").order_by(chats.c.id)
    assert [row.id for row in _fetch(engine, statement)] == ["b", "c"]
    with orm.Session(engine) as session:
        found = session.scalars(sa.select(Chat).where(statement.whereclause).order_by(Chat.id)).first()
        assert found.id == "b"
    assert told(journal) == [("looked_up", "b", "bob")] * 2
