"""The rows of a result on PostgreSQL, for each of its drivers, from buffers and from cursors of the server."""

from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Engine

from session_exporter.hooks.sqlalchemy.results import watch_rows

pytestmark = pytest.mark.integration

chats = sa.Table(
    "chats",
    sa.MetaData(),
    sa.Column("id", postgresql.UUID(as_uuid=True), primary_key=True),
    sa.Column("user_id", sa.Integer),
)
ROWS = [(UUID(int=number), number % 2) for number in range(5)]


class Seen:
    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.ends: list[tuple[int, bool]] = []

    def watch(self, result: Any) -> Any:
        def end(rows: int, exhausted: bool) -> None:  # noqa: FBT001 - as it is called
            self.ends.append((rows, exhausted))

        assert watch_rows(result, ("id", "user_id"), self.rows.append, end)
        return result


@pytest.mark.parametrize("options", [{}, {"stream_results": True}, {"yield_per": 2}, {"max_row_buffer": 2}])
def test_rows_are_seen_as_they_are_fetched(options: dict[str, Any], run_on_postgres: Any) -> None:
    if "yield_per" in options and sa.__version__.startswith("1.4."):
        options = {"stream_results": True, "max_row_buffer": 2}
    seen = Seen()

    def act(engine: Engine) -> None:
        chats.create(engine)
        with engine.begin() as connection:
            connection.execute(chats.insert(), [{"id": id_, "user_id": user} for id_, user in ROWS])
            result = seen.watch(connection.execution_options(**options).execute(sa.select(chats).order_by(chats.c.id)))
            assert tuple(result.fetchone()) == ROWS[0]
            assert seen.rows == ROWS[:1]
            assert list(map(tuple, result)) == ROWS[1:]

    run_on_postgres(act)
    assert (seen.rows, seen.ends) == (ROWS, [(5, True)])


def test_returned_rows_are_seen(run_on_postgres: Any) -> None:
    seen = Seen()

    def act(engine: Engine) -> None:
        chats.create(engine)
        with engine.begin() as connection:
            statement = chats.insert().returning(chats.c.user_id, chats.c.id)
            seen.watch(connection.execute(statement.values(id=UUID(int=7), user_id=1))).one()
            seen.watch(connection.execute(chats.delete().returning(chats))).all()

    run_on_postgres(act)
    assert (seen.rows, seen.ends) == ([(UUID(int=7), 1)] * 2, [(1, True)] * 2)
