"""The rows of a result, seen as the application fetches them: for every way to ask and to fetch."""

import gc
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.engine import Engine

from session_exporter.hooks.sqlalchemy.results import positions_of, watch_rows

metadata = sa.MetaData()
users = sa.Table("users", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String))
chats = sa.Table(
    "chats",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id")),
    sa.Column("title", sa.String),
)
ROWS = [(1, 7), (2, 7), (3, 8)]


class Chat:
    id: Any
    user_id: Any


orm.registry().map_imperatively(Chat, chats)


class Seen:
    """Watches each result of an engine for ids and users of chats."""

    def __init__(self, columns: tuple[Any, ...] = ("id", "user_id")) -> None:
        self.columns = columns
        self.rows: list[tuple[Any, ...]] = []
        self.ends: list[tuple[int, bool]] = []
        self.failures: list[Exception] = []

    def watch(self, result: Any) -> bool:
        columns = positions_of(result, self.columns, "chats")
        return columns is not None and watch_rows(result, columns, self.rows.append, self.end, on_failure=self.fail)

    def end(self, rows: int, exhausted: bool) -> None:  # noqa: FBT001 - the signature under test
        self.ends.append((rows, exhausted))

    def fail(self, error: Exception) -> None:
        self.failures.append(error)

    def listen(self, engine: Engine) -> None:
        sa.event.listen(engine, "after_execute", lambda *arguments: self.watch(arguments[-1]))


def furnish(engine: Engine) -> None:
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(users.insert(), [{"id": 7, "name": "ada"}, {"id": 8, "name": "bob"}])
        connection.execute(chats.insert(), [{"id": id_, "user_id": user, "title": "t"} for id_, user in ROWS])


@pytest.fixture
def engine(engine: Engine) -> Engine:
    furnish(engine)
    return engine


@pytest.fixture
def seen(engine: Engine) -> Iterator[Seen]:
    seen = Seen()
    seen.listen(engine)
    yield seen
    assert not seen.failures


FETCHES: dict[str, tuple[Callable[[Any], Any], list[tuple[int, int]], list[tuple[int, bool]]]] = {
    "all": (lambda result: result.all(), ROWS, [(3, True)]),
    "fetchall": (lambda result: result.fetchall(), ROWS, [(3, True)]),
    "list": (list, ROWS, [(3, True)]),
    "mappings": (lambda result: result.mappings().all(), ROWS, [(3, True)]),
    "scalars": (lambda result: result.scalars().all(), ROWS, [(3, True)]),
    "unique": (lambda result: result.unique().all(), ROWS, [(3, True)]),
    "freeze": (lambda result: result.freeze()().all(), ROWS, [(3, True)]),
    "columns": (lambda result: result.columns("title").all(), ROWS, [(3, True)]),
    "partitions": (lambda result: [list(part) for part in result.partitions(2)], ROWS, [(3, True)]),
    "yield_per": (lambda result: list(result.yield_per(2)), ROWS, [(3, True)]),
    "yield_per, one by one": (lambda result: list(iter(result.yield_per(1).fetchone, None)), ROWS, [(3, True)]),
    "fetchmany": (lambda result: [result.fetchmany(2) for _ in range(3)], ROWS, [(3, True)]),
    "fetchmany of any size": (lambda result: list(iter(result.fetchmany, [])), ROWS, [(3, True)]),
    "fetchone": (lambda result: [result.fetchone() for _ in range(4)], ROWS, [(3, True)]),
    "first": (lambda result: result.first(), ROWS[:1], [(1, False)]),
    "scalar": (lambda result: result.scalar(), ROWS[:1], [(1, False)]),
    "closed": (lambda result: result.close(), [], [(0, False)]),
    "closed midway": (lambda result: (result.fetchone(), result.close(), result.close()), ROWS[:1], [(1, False)]),
    "let go": (lambda result: next(iter(result)), ROWS[:1], [(1, False)]),
}


@pytest.mark.parametrize("fetch", FETCHES)
@pytest.mark.parametrize("streamed", [False, True])
def test_rows_are_seen_however_they_are_fetched(
    fetch: str, streamed: Any, engine: Engine, make_engine: Callable[..., Engine], seen: Seen
) -> None:
    act, rows, ends = FETCHES[fetch]
    statement = sa.select(chats.c.title, chats.c.user_id, chats.c.id).order_by(chats.c.id)
    fetched = []
    for each in (engine, make_engine()):  # watched, and not
        with each.connect() as connection:
            fetched.append(str(act(connection.execution_options(stream_results=streamed).execute(statement))))
    gc.collect()
    assert (seen.rows, seen.ends) == (rows, ends)
    assert fetched[0] == fetched[1]


@pytest.mark.parametrize("user", [8, 9])
def test_a_single_row_is_asked_for_with_one_or_none(user: int, engine: Engine, seen: Seen) -> None:
    with engine.connect() as connection:
        connection.execute(sa.select(chats).where(chats.c.user_id == user)).one_or_none()
    assert seen.rows == ([(3, 8)] if user == 8 else [])
    assert seen.ends == [(len(seen.rows), True)]


STATEMENTS: dict[str, Callable[[], Any]] = {
    "table": lambda: sa.select(chats),
    "columns": lambda: sa.select(chats.c.user_id, chats.c.id),
    "labels": lambda: sa.select(chats.c.user_id.label("id"), chats.c.id.label("user_id")),
    "alias": lambda: sa.select(chats.alias("other")),
    "join of columns with one name": lambda: sa.select(users, chats).join_from(users, chats).order_by(chats.c.id),
    "text": lambda: sa.text("SELECT user_id, id FROM chats"),
    "text with columns": lambda: sa.text("SELECT user_id, id FROM chats").columns(chats.c.user_id, chats.c.id),
    "subquery": lambda: sa.select(chats).subquery().select(),
    "common table expression": lambda: sa.select(chats.c.user_id, chats.c.id).cte().select(),
    "union": lambda: sa.union_all(sa.select(chats).where(chats.c.id < 2), sa.select(chats).where(chats.c.id > 1)),
    "entity": lambda: sa.select(Chat),
    "aliased entity": lambda: sa.select(orm.aliased(Chat)),
    "columns of an entity": lambda: sa.select(Chat.id, Chat.user_id),
}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_columns_are_found_behind_labels_and_aliases(statement: str, engine: Engine, seen: Seen) -> None:
    for _ in range(2):  # compiled, and from the cache
        with orm.Session(engine, future=True) as session:
            session.execute(STATEMENTS[statement]()).all()
        assert sorted(seen.rows) == ROWS
        seen.rows.clear()
    assert seen.ends == [(3, True)] * 2


def test_a_column_that_is_not_there_is_not_guessed(engine: Engine) -> None:
    with engine.connect() as connection:
        result = connection.execute(sa.select(chats.c.id, sa.literal(1).label("n"), sa.literal(2).label("n")))
        assert positions_of(result, ("id", "user_id"), "chats") is None
        assert positions_of(result, ("n",)) is None
        assert positions_of(result, ("id",), "chats") == (0,)
        assert not watch_rows(result, ("user_id",), print, print)


class TestOrm:
    def test_entities_are_seen_with_the_first_one(self, engine: Engine, seen: Seen) -> None:
        with orm.Session(engine, future=True) as session:
            result = session.execute(sa.select(Chat).order_by(Chat.id))
            assert (seen.rows, seen.ends) == ([], [])
            assert result.scalars().first().id == 1
        assert (seen.rows, seen.ends) == (ROWS, [(3, True)])

    def test_get_is_seen(self, engine: Engine, seen: Seen) -> None:
        with orm.Session(engine, future=True) as session:
            assert session.get(Chat, 2).user_id == 7
            assert session.get(Chat, 9) is None
        assert (seen.rows, seen.ends) == ([(2, 7)], [(1, True), (0, True)])

    def test_queries_are_seen(self, engine: Engine, seen: Seen) -> None:
        with orm.Session(engine, future=True) as session:
            assert session.query(Chat).filter_by(user_id=7).order_by(Chat.id).first().id == 1
            assert session.query(Chat).filter_by(id=3).one().user_id == 8
        assert (seen.rows, seen.ends) == ([(1, 7), (3, 8)], [(1, True), (1, True)])

    def test_entities_are_seen_as_they_are_yielded(self, engine: Engine, seen: Seen) -> None:
        with orm.Session(engine, future=True) as session:
            chats_ = session.execute(sa.select(Chat).order_by(Chat.id).execution_options(yield_per=2)).scalars()
            assert next(chats_).id == 1
            assert (seen.rows, seen.ends) == (ROWS[:2], [])
            assert [chat.id for chat in chats_] == [2, 3]
        assert (seen.rows, seen.ends) == (ROWS, [(3, True)])


class TestReturning:
    @pytest.fixture(autouse=True)
    def _with_returning(self) -> None:
        if sa.__version__.startswith("1.4."):
            pytest.skip("1.4 knows of no RETURNING on SQLite")

    def test_rows_are_seen_and_counted_once_fetched(self, engine: Engine, seen: Seen) -> None:
        with engine.begin() as connection:
            result = connection.execute(
                chats.update().where(chats.c.user_id == 7).values(title="x").returning(chats.c.id, chats.c.user_id)
            )
            assert result.rowcount == 0
            assert (seen.rows, seen.ends) == ([], [])
            result.all()
        assert (sorted(seen.rows), seen.ends) == (ROWS[:2], [(2, True)])

    def test_many_inserted_rows_are_seen(self, engine: Engine, seen: Seen) -> None:
        with engine.begin() as connection:
            statement = chats.insert().returning(chats.c.user_id, chats.c.id)
            connection.execute(statement, [{"id": id_, "user_id": 7} for id_ in range(10, 13)]).all()
        assert (seen.rows, seen.ends) == ([(10, 7), (11, 7), (12, 7)], [(3, True)])

    def test_what_sqlalchemy_fetches_for_itself_is_not_watched(self, engine: Engine, seen: Seen) -> None:
        with orm.Session(engine, future=True) as session:
            chat = Chat()
            chat.user_id = 7
            session.add(chat)
            session.flush()
            assert chat.id == 4
        assert (seen.rows, seen.ends) == ([], [])


class Numbered(sa.types.TypeDecorator):  # type: ignore[type-arg] # not generic in 1.4
    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: UUID, _: Any) -> str:
        return value.hex

    def process_result_value(self, value: str, _: Any) -> UUID:
        return UUID(value)


def test_values_are_what_the_application_gets(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine()
    table = sa.Table("t", sa.MetaData(), sa.Column("id", Numbered, primary_key=True), sa.Column("n", sa.Integer))
    table.create(engine)
    seen = Seen()
    with engine.begin() as connection:
        connection.execute(table.insert().values(id=UUID(int=5), n=1))
        result = connection.execute(sa.select(table))
        assert watch_rows(result, ("n", "id"), seen.rows.append, seen.end)
        result.all()
    assert seen.rows == [(1, UUID(int=5))]


class TestFailures:
    def test_of_callbacks_are_counted_and_the_application_has_its_rows(self, engine: Engine) -> None:
        seen = Seen()

        def fail(*_: object) -> None:
            raise ZeroDivisionError

        with engine.connect() as connection:
            result = connection.execute(sa.select(chats.c.id).order_by(chats.c.id))
            assert watch_rows(result, ("id",), fail, fail, on_failure=seen.fail)
            assert result.scalars().all() == [1, 2, 3]
        assert [type(failure) for failure in seen.failures] == [ZeroDivisionError] * 2

    def test_of_the_driver_are_the_applications(self, engine: Engine, seen: Seen) -> None:
        with engine.connect() as connection:
            too_much = sa.func.abs(sa.case((chats.c.id == 3, -(2**63)), else_=1))
            result = connection.execute(sa.select(chats.c.id, chats.c.user_id, too_much).order_by(chats.c.id))
            with pytest.raises(sa.exc.OperationalError, match="overflow"):
                result.all()
            result.close()
        assert (seen.rows, seen.ends) == ([], [(0, False)])

    @pytest.mark.parametrize("result", [None, object()])
    def test_of_results_of_another_kind_are_counted(self, result: object) -> None:
        seen = Seen()
        assert positions_of(result, ("id",)) is None
        assert not watch_rows(result, (0,), seen.rows.append, seen.end, on_failure=seen.fail)
        assert len(seen.failures) == 1

    def test_are_none_for_results_without_rows(self, engine: Engine) -> None:
        seen = Seen()
        with engine.connect() as connection:
            result = connection.execute(chats.insert().values(id=9))
            assert positions_of(result, ("id",)) is None
            assert not watch_rows(result, ("id",), seen.rows.append, seen.end, on_failure=seen.fail)
            read = connection.execute(sa.select(chats))
            read.all()
            assert not watch_rows(read, (0,), seen.rows.append, seen.end, on_failure=seen.fail)
        assert (seen.ends, seen.failures) == ([], [])


def test_rows_are_seen_empty_when_no_columns_are_wanted(engine: Engine) -> None:
    seen = Seen()
    with engine.connect() as connection:
        result = connection.execute(sa.select(chats))
        assert watch_rows(result, (), seen.rows.append, seen.end)
        result.all()
    assert (seen.rows, seen.ends) == ([()] * 3, [(3, True)])


def test_a_result_may_be_watched_twice(engine: Engine, seen: Seen) -> None:
    second = Seen(("title",))
    second.listen(engine)
    with engine.connect() as connection:
        connection.execute(sa.select(chats).order_by(chats.c.id)).yield_per(2).all()
    assert (seen.rows, seen.ends) == (ROWS, [(3, True)])
    assert (second.rows, second.ends) == ([("t",)] * 3, [(3, True)])


def test_results_of_the_old_kind_are_seen(make_engine: Callable[..., Engine]) -> None:
    engine, seen = make_engine(future=False), Seen()
    furnish(engine)
    seen.listen(engine)
    with engine.connect() as connection:
        assert connection.execute(sa.select(chats).order_by(chats.c.id)).fetchall()[0]["user_id"] == 7
        assert connection.execute(sa.select(chats.c.user_id, chats.c.id).where(chats.c.id == 3)).scalar() == 8
    assert (seen.rows, seen.ends) == ([*ROWS, (3, 8)], [(3, True), (1, False)])


@pytest.mark.usefixtures("engine")
class TestAsync:
    def test_buffered_rows_are_seen(self, run_async: Any) -> None:
        seen = Seen()

        async def main(async_engine: Any) -> None:
            seen.listen(async_engine.sync_engine)
            async with async_engine.connect() as connection:
                result = await connection.execute(sa.select(chats).order_by(chats.c.id))
                assert seen.rows == []
                result.all()

        run_async(main)
        assert (seen.rows, seen.ends, seen.failures) == (ROWS, [(3, True)], [])

    def test_streamed_rows_are_seen_as_they_come(self, run_async: Any) -> None:
        seen = Seen()

        async def main(async_engine: Any) -> None:
            seen.listen(async_engine.sync_engine)
            async with async_engine.connect() as connection:
                result = await connection.stream(sa.select(chats).order_by(chats.c.id))
                assert (await result.fetchone()).id == 1
                assert seen.rows == ROWS[:1]
                assert [part async for part in result.partitions(1)]

        run_async(main)
        assert (seen.rows, seen.ends, seen.failures) == (ROWS, [(3, True)], [])
