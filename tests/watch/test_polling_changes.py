"""Whatever becomes of rows, what was told of them last is what they are, wherever the watch begins again."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as given_settings
from hypothesis import strategies as st
from places import SECOND_US, look, settings, sqlite_place, watch

from session_exporter.core.rows import NEW, OVER, USED
from session_exporter.mappings import TableMapping, value_texts
from session_exporter.watch.clock import Moment

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MAPPING = TableMapping(
    "sessions",
    user="user_id",
    active={"status": value_texts(["active"])},
    created_at="created_at",
    updated_at="updated_at",
)
LIMIT_S = 60
rows = st.integers(0, 2)
insert = st.tuples(st.just("insert"), rows, st.integers(0, LIMIT_S))
change = st.tuples(st.sampled_from(["end", "use", "delete"]), rows, st.integers(0, LIMIT_S))
other = st.one_of(
    st.just(("look", 0, 0)),
    st.tuples(st.just("pass"), st.just(0), st.integers(1, 200)),
    st.tuples(st.just("begin anew"), st.just(0), st.integers(0, 3)),
)
acts = st.lists(st.one_of(insert, change, other, other), min_size=10, max_size=40)


class Life:
    """A table whose rows come and go, each change up to a minute after its time; and a watch that is followed."""

    def __init__(self, place: Any, page_rows: int) -> None:
        self.place = place
        self.now_s = 1_790_000_000
        # By session: whether it is there and active, and since when that is so.
        self.rows: dict[str, tuple[bool, int]] = {}
        self.deleted: set[str] = set()
        self.numbers: dict[int, str] = {}
        limit = settings(longest_transaction_us=LIMIT_S * SECOND_US, sweep_every_us=10**15)
        self.more = {"page_rows": page_rows, "margin_us": 0, "ask": self.moment, "settings": limit}
        self.table = watch(MAPPING, **self.more)
        self.begun_s = self.now_s
        self.found: list[Any] = []
        self.look()

    def moment(self, _: Any) -> Moment:
        return Moment(self.now_s * SECOND_US, self.now_s * SECOND_US, None)

    def look(self) -> None:
        self.found += look(self.place, self.table)

    def act(self, what: str, row: int, number: int) -> None:
        at_s = max(self.now_s - number, self.begun_s)
        if what == "look":
            self.look()
        elif what == "pass":
            self.now_s += number
        elif what == "begin anew":
            self.found = self.found[: max(len(self.found) - number, 1)]
            self.table = watch(MAPPING, self.found[-1].position, **self.more)
        elif what == "insert":
            session = self.numbers[row] = str(len(self.rows))
            self.rows[session] = (True, at_s)
            self.place.execute("INSERT INTO sessions VALUES (%s, 'u', 'active', %s, %s)", session, at_s, at_s)
        else:
            self.change(what, self.numbers.get(row, ""), at_s)

    def change(self, what: str, session: str, at_s: int) -> None:
        is_active, since_s = self.rows.get(session, (False, 0))
        at_s = max(at_s, since_s + 1)
        if not is_active or session in self.deleted or at_s > self.now_s:
            return
        if what == "delete":
            self.deleted.add(session)
            self.place.execute("DELETE FROM sessions WHERE id = %s", session)
            return
        status = "active" if what == "use" else "gone"
        self.rows[session] = (what == "use", at_s)
        self.place.execute("UPDATE sessions SET status = %s, updated_at = %s WHERE id = %s", status, at_s, session)

    def told_from_anywhere(self) -> list[dict[str, dict[str, int]]]:
        """What would have been told by a watch that was killed after any piece, and began again only now."""
        tellings = []
        for pieces in range(max(len(self.found) - 8, 1), len(self.found) + 1):
            again = watch(MAPPING, self.found[pieces - 1].position, **self.more)
            tellings.append(told_of(self.found[:pieces] + look(self.place, again)))
        return tellings


@given_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts, st.integers(1, 3))
def test_what_was_told_last_of_a_row_is_what_it_is(tmp_path_factory, acts, page_rows) -> None:
    with sqlite_place(tmp_path_factory.mktemp("db")) as place:
        place.execute(
            "CREATE TABLE sessions "
            "(id text PRIMARY KEY, user_id text, status text, created_at integer, updated_at integer)"
        )
        place.execute("CREATE INDEX by_created ON sessions (created_at)")
        place.execute("CREATE INDEX by_updated ON sessions (updated_at)")
        life = Life(place, page_rows)
        for act in acts:
            life.act(*act)
        for told in life.told_from_anywhere():
            agrees(life, told)
        life.look()
        agrees(life, told_of(life.found))
        # Whoever has not begun anew has seen every end but of those whose rows nobody ever saw.
        if not any(act[0] == "begin anew" for act in acts):
            told = told_of(life.found)
            assert all(OVER in told[session] for session in life.deleted if session in told)


def agrees(life: Life, told: dict[str, dict[str, int]]) -> None:
    for session, (is_active, since_s) in life.rows.items():
        whats = told.get(session, {})
        if session in life.deleted:
            continue
        assert NEW in whats
        if is_active:
            assert OVER not in whats
            assert max(whats[NEW], whats.get(USED, 0)) == since_s
        else:
            assert whats[OVER] == since_s


def told_of(found: list[Any]) -> dict[str, dict[str, int]]:
    """By session, when each thing was told to have happened last."""
    told: dict[str, dict[str, int]] = {}
    for findings in found:
        for row in findings.rows:
            whats = told.setdefault(row.session, {})
            whats[row.what] = max(whats.get(row.what, 0), row.at_us // SECOND_US)
    return told
