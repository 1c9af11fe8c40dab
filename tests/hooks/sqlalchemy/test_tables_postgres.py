"""What a mapped table is reported on PostgreSQL, through each of its drivers."""

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from recorder import Recorder
from sqlalchemy import exc, orm
from sqlalchemy.dialects.postgresql import UUID, insert
from sqlalchemy.engine import Engine
from watching import IS_14, Base, Chat, Ticket, chats, created, kinds, tickets, told

from session_exporter.hooks.sqlalchemy import map_table
from session_exporter.tracker import SessionTracker

pytestmark = pytest.mark.integration

visits = sa.Table(
    "visits",
    sa.MetaData(),
    sa.Column("id", UUID(as_uuid=True), primary_key=True, server_default=sa.text("gen_random_uuid()")),
    sa.Column("user_id", sa.String),
)


@pytest.fixture(autouse=True)
def mapped(tracker: SessionTracker, journal: Recorder) -> Iterator[None]:
    uninstall = [
        map_table("chats", scope="chat", user="user_id", active={"status": ["active"]}, tracker=tracker),
        map_table("tickets", scope="ticket", user="user_id", tracker=tracker),
        map_table("public.visits", scope="visit", user="user_id", tracker=tracker),
    ]
    yield
    for each in uninstall:
        each()
    assert not journal.errors


@pytest.fixture
def run(run_on_postgres: Any) -> Any:
    def with_tables(act: Any) -> None:
        def prepared(engine: Engine) -> None:
            with engine.begin() as connection:
                Base.metadata.create_all(connection)
                visits.create(connection)
            act(engine)

        run_on_postgres(prepared)

    return with_tables


def test_savepoints_that_are_rolled_back_create_nothing(run: Any, journal: Recorder):
    def act(engine: Engine) -> None:
        with engine.begin() as connection:
            connection.execute(sa.insert(chats).values(id="a"))
            savepoint = connection.begin_nested()
            connection.execute(sa.insert(chats).values(id="b"))
            savepoint.rollback()
            with connection.begin_nested():
                connection.execute(sa.insert(chats).values(id="c"))
        with engine.connect() as connection, connection.begin() as transaction:
            with connection.begin_nested():
                connection.execute(sa.insert(chats).values(id="d"))
            transaction.rollback()

    run(act)
    assert created(journal) == ["a", "c"]


def test_ids_that_the_database_makes_are_known(run: Any, journal: Recorder):
    def act(engine: Engine) -> None:
        with orm.Session(engine, future=True) as session:
            session.add_all([Ticket(user_id="ann"), Ticket(user_id="bob")])
            session.flush()
            session.execute(sa.insert(tickets).values(user_id="carol"))
            session.execute(sa.insert(tickets).returning(tickets.c.id), [{"user_id": "dan"}]).all()
            session.execute(
                sa.text("insert into tickets (user_id) values (:u) returning id, user_id"), {"u": "eve"}
            ).all()
            session.commit()

    run(act)
    assert told(journal) == [
        ("created", str(number), user) for number, user in enumerate(["ann", "bob", "carol", "dan", "eve"], 1)
    ]


def test_uuids_of_the_server_are_known(run: Any, journal: Recorder):
    own = uuid.uuid4()
    made: list[Any] = []

    def act(engine: Engine) -> None:
        with engine.begin() as connection:
            made.append(connection.execute(sa.insert(visits).values(user_id="ann")).inserted_primary_key[0])
            connection.execute(sa.insert(visits).values(id=own, user_id="ann"))
            connection.execute(sa.text("select * from visits where id = :id"), {"id": own}).all()
            query = sa.select(visits.c.id).where(visits.c.id == own)
            assert connection.execute(query).scalar() == own
        with engine.begin() as connection:
            assert connection.execute(query).scalar() == own
            connection.execute(sa.text("delete from public.visits where id = cast(:id as uuid)"), {"id": str(own)})

    run(act)
    assert [words[:2] for words in told(journal)] == [
        ("created", str(made[0])),
        ("created", str(own)),
        ("looked_up", str(own)),
        ("looked_up", str(own)),
        ("looked_up", str(own)),
        ("ended", str(own)),
    ]


def test_rows_that_conflict_are_told_from_rows_that_do_not(run: Any, journal: Recorder):
    def act(engine: Engine) -> None:
        statement = insert(chats).values(id="a", user_id="ann").on_conflict_do_nothing()
        for _ in range(2):
            with engine.begin() as connection:
                connection.execute(statement)
                connection.execute(statement.returning(chats.c.id)).all()
                text = "insert into chats (id, user_id) values (:i, 'ann') on conflict (id) do nothing"
                connection.execute(sa.text(text), {"i": "b"})
                connection.execute(sa.text(text + " returning id"), {"i": "c"}).all()

    run(act)
    assert told(journal) == [("created", name, "ann") for name in "abc"]


def test_an_upsert_is_left_to_the_ledger_unless_its_id_is_known(run: Any, journal: Recorder):
    def act(engine: Engine) -> None:
        with engine.begin() as connection:
            for name in ("a", "a"):
                statement = insert(chats).values(id=name, user_id="ann")
                statement = statement.on_conflict_do_update(constraint="chats_pkey", set_={"status": "active"})
                connection.execute(statement.returning(chats.c.id)).all()
            assert connection.execute(sa.select(chats).where(chats.c.id == "b")).first() is None
            connection.execute(statement.values(id="b"))
            merge = (
                "merge into chats using (select cast(:i as varchar) as id) as new on chats.id = new.id "
                "when matched then update set task = 'x' "
                "when not matched then insert (id, user_id) values (new.id, 'ann')"
            )
            connection.execute(sa.text(merge), {"i": "c"})

    run(act)
    assert told(journal) == [
        ("looked_up", "", ""),
        ("observed", "a", "ann", "upsert", ""),
        ("created", "b", "ann"),
        ("observed", "c", "ann", "upsert", ""),
    ]


def test_ends_are_told_by_the_rows_that_were_changed(run: Any, journal: Recorder):
    def act(engine: Engine) -> None:
        with orm.Session(engine, future=True) as session:
            session.add_all([Chat(id=name) for name in "abcde"])
            session.commit()
            journal.events.clear()
            for _ in range(2):
                session.execute(sa.delete(chats).where(chats.c.id == "a"))
            session.query(Chat).filter(Chat.id == "b").update({"status": "expired"}, synchronize_session="fetch")
            session.execute(sa.delete(chats).where(chats.c.id.in_(["c", "d"])))
            returned = sa.update(chats).where(chats.c.id > "d").values(status="escalated").returning(chats.c.id)
            assert session.execute(returned).all() == [("e",)]
            session.commit()

    run(act)
    assert told(journal) == [
        ("ended", "a", "", "deleted"),
        ("ended", "b", "", "expired"),
        ("ended", "c", "", "deleted"),
        ("ended", "d", "", "deleted"),
        ("ended", "e", "", "escalated"),
    ]


def test_a_conflict_does_not_spoil_what_comes_after_it(run: Any, journal: Recorder):
    def act(engine: Engine) -> None:
        with engine.begin() as connection:
            connection.execute(sa.insert(tickets).values(id=1, user_id="ann"))
            with pytest.raises(exc.IntegrityError), connection.begin_nested():
                connection.execute(sa.insert(tickets).values(id=2, user_id="ann"))
            connection.execute(sa.insert(tickets).values(id=3, user_id="bob"))

    run(act)
    assert told(journal) == [("conflicted", "2", "ann"), ("created", "1", "ann"), ("created", "3", "bob")]


def test_many_rows_at_once_are_creates_of_each(run: Any, journal: Recorder):
    def act(engine: Engine) -> None:
        with engine.begin() as connection:
            connection.execute(sa.insert(chats), [{"id": f"s{number}", "user_id": "ann"} for number in range(2500)])
            connection.execute(sa.text("insert into chats (id) values (:i)"), [{"i": "x"}, {"i": "y"}])
        with orm.Session(engine, future=True) as session:
            session.add_all([Ticket() for _ in range(1500)])
            session.commit()

    run(act)
    assert kinds(journal) == ["created"] * 4002
    assert len(set(created(journal))) == 4002


def test_rows_that_stream_are_lookups_like_others(run: Any, journal: Recorder):
    def act(engine: Engine) -> None:
        with engine.begin() as connection:
            connection.execute(sa.insert(chats).values(id="a", user_id="ann"))
        with engine.connect() as connection:
            streaming = connection.execution_options(stream_results=True)
            assert [row.id for row in streaming.execute(sa.select(chats).where(chats.c.user_id == "ann"))] == ["a"]

    run(act)
    assert told(journal)[1:] == [("looked_up", "a", "ann")]


@pytest.mark.skipif(IS_14, reason="the driver of 1.4 that can is tested with settlement")
def test_two_phases_are_one_commit(run: Any, journal: Recorder, postgres_driver: str):
    if postgres_driver not in {"psycopg2", "psycopg"}:
        pytest.skip("the driver cannot")

    def act(engine: Engine) -> None:
        with engine.connect() as connection:
            transaction = connection.begin_twophase()
            connection.execute(sa.insert(chats).values(id="a"))
            transaction.prepare()
            assert created(journal) == []
            transaction.commit()

    run(act)
    assert created(journal) == ["a"]


def test_what_a_statement_returns_need_not_be_fetched(run: Any, journal: Recorder):
    def act(engine: Engine) -> None:
        upsert = insert(chats).on_conflict_do_nothing().returning(chats.c.id)
        with engine.begin() as connection:
            connection.execute(upsert.values(id="a", user_id="ann"))
            connection.execute(sa.insert(chats).values(id="b", user_id="bob"))
        with engine.begin() as connection:
            connection.execute(upsert.values(id="a", user_id="ann"))
            connection.execute(sa.delete(chats).where(chats.c.id == "a").returning(chats.c.id))
            connection.execute(sa.delete(chats).where(chats.c.id == "b").returning(chats.c.status))
            connection.execute(sa.delete(chats).where(chats.c.id == "c").returning(chats.c.status))

    run(act)
    assert sorted(told(journal)) == [
        ("created", "a", "ann"),
        ("created", "b", "bob"),
        ("ended", "a", "", "deleted"),
        ("ended", "b", "", "deleted"),
    ]


def test_rows_that_are_not_fetched_are_nothing_when_rolled_back(run: Any, journal: Recorder):
    def act(engine: Engine) -> None:
        with engine.connect() as connection, connection.begin() as transaction:
            connection.execute(insert(chats).values(id="a").on_conflict_do_nothing().returning(chats.c.id))
            connection.execute(sa.delete(chats).where(chats.c.id == "a").returning(chats.c.status))
            transaction.rollback()

    run(act)
    assert told(journal) == []


def test_a_create_that_its_client_has_cancelled_is_no_failed_one(
    run_async: Any, postgres: Any, database: str, journal: Recorder
):
    async def main(engine: Any) -> None:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), engine.begin() as connection:
                await connection.execute(sa.text("INSERT INTO chats (id) SELECT 'a' FROM pg_sleep(60)"))

    run_async(main, postgres.url("asyncpg", database))
    assert told(journal) == []
