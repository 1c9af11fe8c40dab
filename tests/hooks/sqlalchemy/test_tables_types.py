"""Tables of applications that have types of ids, and classes with several tables, of their own."""

import uuid
from typing import Any

import sqlalchemy as sa
from recorder import Recorder
from sqlalchemy import orm
from sqlalchemy.engine import Engine
from watching import told

from session_exporter.hooks.sqlalchemy import map_table
from session_exporter.tracker import SessionTracker


def _fetch(engine: Engine, statement: Any, parameters: Any = None) -> None:
    with engine.connect() as connection:
        assert connection.execute(statement, parameters or {}).one()


def test_a_class_that_inherits_is_found_in_all_of_its_tables(
    tracker: SessionTracker, journal: Recorder, engine: Engine
):
    base: Any = orm.declarative_base()

    class Visit(base):
        __tablename__ = "visits"
        id = sa.Column(sa.String(40), primary_key=True)
        user_id = sa.Column(sa.String(40))
        kind = sa.Column(sa.String(40))
        __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "visit"}  # noqa: RUF012 - SQLAlchemy's way

    class Call(Visit):
        __tablename__ = "calls"
        id = sa.Column(sa.ForeignKey("visits.id"), primary_key=True)
        __mapper_args__ = {"polymorphic_identity": "call"}  # noqa: RUF012 - as above

    base.metadata.create_all(engine)
    uninstall = [
        map_table("visits", scope="visit", user="user_id", tracker=tracker),
        map_table("calls", scope="call", tracker=tracker),
    ]
    with orm.Session(engine, future=True) as session:
        session.add_all([Call(id="v", user_id="ann"), Visit(id="w", user_id="bob")])
        session.commit()
    journal.events.clear()
    anything = orm.with_polymorphic(Visit, [Call])
    for load in (
        lambda session: session.get(Call, "v"),
        lambda session: session.execute(sa.select(Call).where(Call.id == "v")).one(),
        lambda session: session.execute(sa.select(Call.id, Visit.user_id).where(Call.id.in_(["v"]))).one(),
        lambda session: session.execute(sa.select(anything).where(anything.id == "w")).one(),
    ):
        with orm.Session(engine, future=True) as session:
            assert load(session) is not None
    for each in uninstall:
        each()
    found = [(event.scope, event.session, event.user) for event in journal.events]
    assert sorted(found) == [("call", "v", "")] * 3 + [("visit", "v", "ann")] * 3 + [("visit", "w", "bob")]


class GUID(sa.types.TypeDecorator):
    """As SQLAlchemy's documentation shows it, for databases that know no UUIDs."""

    impl = sa.CHAR(32)
    cache_ok = True

    def process_bind_param(self, value: Any, _: Any) -> Any:
        return None if value is None else uuid.UUID(str(value)).hex

    def process_result_value(self, value: Any, _: Any) -> Any:
        return None if value is None else uuid.UUID(value)


class _Name:
    """An id of a class of its own, as ULIDs are."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


class _Named(sa.types.TypeDecorator):
    impl = sa.String(40)
    cache_ok = True

    def process_bind_param(self, value: Any, _: Any) -> Any:
        return value.text

    def process_result_value(self, value: Any, _: Any) -> Any:
        return _Name(value)


def test_uuids_of_the_applications_own_type_are_one_id_as_well(
    tracker: SessionTracker, journal: Recorder, engine: Engine
):
    table = sa.Table("visits", sa.MetaData(), sa.Column("id", GUID, primary_key=True))
    table.create(engine)
    uninstall = map_table("visits", scope="visit", tracker=tracker)
    visit = uuid.uuid4()
    with engine.begin() as connection:
        connection.execute(sa.insert(table).values(id=visit))
    _fetch(engine, sa.select(table).where(table.c.id == visit))
    _fetch(engine, sa.text("select id from visits where id = :i"), {"i": visit.hex})
    uninstall()
    assert told(journal) == [(kind, str(visit), "") for kind in ("created", "looked_up", "looked_up")]


def test_ids_and_users_of_classes_of_their_own_are_their_texts(
    tracker: SessionTracker, journal: Recorder, engine: Engine
):
    columns = (sa.Column("id", _Named, primary_key=True), sa.Column("u", _Named))
    table = sa.Table("visits", sa.MetaData(), *columns)
    table.create(engine)
    uninstall = map_table("visits", scope="visit", user="u", tracker=tracker)
    with engine.begin() as connection:
        connection.execute(sa.insert(table).values(id=_Name("v"), u=_Name("ann")))
    _fetch(engine, sa.select(table).where(table.c.id == _Name("v")))
    uninstall()
    assert told(journal) == [("created", "v", "ann"), ("looked_up", "v", "ann")]
