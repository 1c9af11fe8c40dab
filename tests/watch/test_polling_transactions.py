"""No row is passed over, whatever transactions do meanwhile, and wherever the watch begins again."""

from typing import Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as given_settings
from hypothesis import strategies as st
from places import SECOND_US, look, postgres_place, rows_of, settings, sqlite_place, watch

from session_exporter.core.rows import NEW
from session_exporter.mappings import TableMapping
from session_exporter.watch.clock import Moment

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MAPPING = TableMapping("sessions", id=("id",), user="user_id", key=("device",), created_at="created_at")
EXAMPLES = max(given_settings().max_examples // 3, 20)
AGAIN = given_settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])

WRITERS = 3
writers = st.integers(0, WRITERS - 1)
insert = st.tuples(st.just("insert"), writers, st.integers(1, 3))
end = st.tuples(st.sampled_from(["commit", "commit", "rollback", "prepare"]), writers, st.just(0))
look_on = st.just(("look", 0, 0))
wait = st.tuples(st.just("pass"), st.just(0), st.integers(1, 90))
begin_anew = st.tuples(st.just("begin anew"), st.just(0), st.integers(0, 5))
# Short lists would hardly ever have a look between two transactions that overlap.
acts = st.lists(st.one_of(insert, insert, end, look_on, wait, begin_anew), min_size=12, max_size=30)
page_rows = st.integers(1, 4)


class Course:
    """A watch that is followed: what it handed over, and may begin again anywhere it could have been killed."""

    def __init__(self, place: Any, page_rows: int, **more: Any) -> None:
        self.place = place
        self.more = {"page_rows": page_rows, "margin_us": 0, **more}
        self.table = watch(MAPPING, **self.more)
        self.found: list[Any] = []
        self.look()

    def look(self) -> None:
        self.found += look(self.place, self.table)

    def begin_anew(self, lost: int) -> None:
        """The last pieces were never committed."""
        self.found = self.found[: max(len(self.found) - lost, 1)]
        self.table = watch(MAPPING, self.found[-1].position, **self.more)

    def told(self) -> dict[str, tuple[int, str, str]]:
        return created(self.found)

    def told_from_anywhere(self) -> list[dict[str, tuple[int, str, str]]]:
        """What would have been told by a watch that was killed after any piece, and began again only now."""
        tellings = []
        for pieces in range(max(len(self.found) - 12, 1), len(self.found) + 1):
            again = watch(MAPPING, self.found[pieces - 1].position, **self.more)
            tellings.append(created(self.found[:pieces]) | created(look(self.place, again)))
        return tellings


def created(found: list[Any]) -> dict[str, tuple[int, str, str]]:
    return {row.session: (row.at_us, row.user, row.key) for row in rows_of(found, NEW)}


class Writers:
    """Connections with transactions of any length."""

    def __init__(self, place: Any) -> None:
        self.connections = [place.connect() for _ in range(WRITERS)]
        self.rows = 0
        self.open: set[int] = set()
        self.prepared: list[str] = []

    def insert(self, writer: int, rows: int) -> None:
        connection = self.connections[writer]
        if writer not in self.open:
            connection.execute("BEGIN")
            self.open.add(writer)
        for _ in range(rows):
            self.rows += 1
            connection.execute(
                "INSERT INTO sessions (id, user_id, device) VALUES (%s, %s, 'd')", (str(self.rows), f"u{self.rows}")
            )

    def end(self, how: str, writer: int) -> None:
        if writer not in self.open:
            return
        self.open.remove(writer)
        if how != "prepare":
            self.connections[writer].execute(how)
            return
        self.prepared.append(f"p{self.rows}_{writer}_{len(self.prepared)}")
        self.connections[writer].execute(f"PREPARE TRANSACTION '{self.prepared[-1]}'")

    def finish(self) -> None:
        for writer in list(self.open):
            self.end("commit", writer)
        for name in self.prepared:
            self.connections[0].execute(f"COMMIT PREPARED '{name}'")
        self.prepared = []

    def close(self) -> None:
        for connection in self.connections:
            connection.close()


TABLE = "CREATE TABLE sessions (id text PRIMARY KEY, user_id text, device text, created_at {} NOT NULL)"
TOLD = "SELECT id, round(extract(epoch FROM created_at) * 1000000)::bigint, user_id, device FROM sessions"


@pytest.fixture(scope="module")
def shared(postgres):
    with postgres_place(postgres) as place:
        place.execute(TABLE.format("timestamptz DEFAULT now()"))
        place.execute("CREATE INDEX ON sessions (created_at)")
        writers = Writers(place)
        yield place, writers
        writers.close()


@AGAIN
@example([("insert", 0, 1), ("insert", 1, 1), ("commit", 1, 0), ("look", 0, 0)], 1)
@example([("insert", 0, 1), ("prepare", 0, 0), ("insert", 1, 1), ("commit", 1, 0), ("look", 0, 0), ("look", 0, 0)], 1)
@given(acts, page_rows)
def test_every_row_of_every_transaction_is_found_by_postgresqls_own_account_of_them(shared, acts, page_rows) -> None:
    place, writers = shared
    place.execute("TRUNCATE sessions")
    course = Course(place, page_rows)
    try:
        for what, writer, number in acts:
            if what == "insert":
                writers.insert(writer, number)
            elif what == "look":
                course.look()
            elif what == "begin anew":
                course.begin_anew(number)
            elif what != "pass":
                writers.end(what, writer)
    finally:
        writers.finish()
    rows = {row[0]: tuple(row[1:]) for row in place.execute(TOLD)}
    assert all(told == rows for told in course.told_from_anywhere())
    course.look()
    assert course.told() == rows


class Silence:
    """A database that does not tell of transactions; nobody's is open for longer than a minute of a clock set by hand.

    Attributes:
        rows: What is committed.
    """

    longest_s = 60

    def __init__(self, place: Any) -> None:
        self.now_s = 1_790_000_000
        self.rows: dict[str, tuple[int, str, str]] = {}
        self._place = place
        self._count = 0
        self._begun_s: dict[int, int] = {}
        self._inserted: dict[int, list[int]] = {}

    def moment(self, _: Any) -> Moment:
        return Moment(self.now_s * SECOND_US, self.now_s * SECOND_US, None)

    def insert(self, writer: int, rows: int) -> None:
        self._begun_s.setdefault(writer, self.now_s)
        self._inserted.setdefault(writer, []).extend(range(self._count, self._count + rows))
        self._count += rows

    def end(self, how: str, writer: int) -> None:
        begun_s = self._begun_s.pop(writer, 0)
        for number in self._inserted.pop(writer, []):
            if how != "rollback":
                self.rows[str(number)] = (begun_s * SECOND_US, f"u{number}", "d")
                values = (str(number), f"u{number}", begun_s)
                self._place.execute("INSERT INTO sessions VALUES (%s, %s, 'd', %s)", *values)

    def wait(self, seconds: int) -> None:
        for writer, begun_s in list(self._begun_s.items()):
            if self.now_s + seconds - begun_s > self.longest_s:
                self.end("commit", writer)
        self.now_s += seconds

    def finish(self) -> None:
        for writer in list(self._begun_s):
            self.end("commit", writer)


@AGAIN
@given(acts, page_rows)
def test_every_row_is_found_where_the_database_does_not_tell_of_transactions(tmp_path_factory, acts, page_rows) -> None:
    with sqlite_place(tmp_path_factory.mktemp("db")) as place:
        place.execute(TABLE.format("integer"))
        place.execute("CREATE INDEX sessions_at ON sessions (created_at)")
        silence = Silence(place)
        limit = settings(longest_transaction_us=silence.longest_s * SECOND_US)
        course = Course(place, page_rows, ask=silence.moment, settings=limit)
        for what, writer, number in acts:
            go = {"insert": silence.insert, "look": course.look, "begin anew": course.begin_anew, "pass": silence.wait}
            arguments = {"insert": (writer, number), "look": (), "begin anew": (number,), "pass": (number,)}
            go.get(what, silence.end)(*arguments.get(what, (what, writer)))
        silence.finish()
        assert all(told == silence.rows for told in course.told_from_anywhere())
        course.look()
        assert course.told() == silence.rows
