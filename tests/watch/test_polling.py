"""What one look after the other tells of a table."""

from typing import Any

import pytest
from places import ALL_US, SECOND_US, look, rows_of, sessions_of, settings, watch

from session_exporter.core.rows import NEW, OLD, OVER, USED
from session_exporter.errors import TableUnusable
from session_exporter.mappings import TableMapping, value_texts
from session_exporter.watch.clock import Moment, moment

pytestmark = pytest.mark.integration

PLAIN = TableMapping("sessions", user="user_id", created_at="created_at")
WITH_STATUS = TableMapping(
    "sessions",
    user="user_id",
    key=("device",),
    active={"status": value_texts(["active", None])},
    created_at="created_at",
    end_reason="reason",
)
WITH_UPDATES = TableMapping(
    "sessions",
    user="user_id",
    active={"status": value_texts(["active"])},
    created_at="created_at",
    updated_at="updated_at",
)
INDEXES = ("created_at", "updated_at")


@pytest.fixture
def table(place):
    """A table of sessions with its indexes; times are such as the database's own functions give them."""
    kind = "timestamptz" if place.is_postgresql else "timestamp"
    place.execute(
        "CREATE TABLE sessions (id integer PRIMARY KEY, user_id text, device text, status text DEFAULT 'active', "
        f"reason text, created_at {kind}, updated_at {kind})"
    )
    for name in INDEXES:
        place.execute(f"CREATE INDEX by_{name} ON sessions ({name})")
    return place


def now(place: Any, seconds: float = 0) -> str:
    if place.is_postgresql:
        return f"clock_timestamp() + interval '{seconds} seconds'"
    return f"strftime('%Y-%m-%d %H:%M:%f', 'now', '{seconds} seconds')"


def insert(place: Any, number: int, seconds: float = 0, user: str = "u", **more: Any) -> None:
    names = ", ".join(("id", "user_id", *more))
    values = ", ".join(["%s"] * (2 + len(more)))
    sql = f"INSERT INTO sessions ({names}, created_at) VALUES ({values}, {now(place, seconds)})"
    place.execute(sql, number, user, *more.values())


def at_us(place: Any, number: int, column: str = "created_at") -> int:
    if place.is_postgresql:
        us = f"round(extract(epoch FROM {column}) * 1000000)::bigint"
    else:
        us = f"CAST(round((julianday({column}) - 2440587.5) * 86400000) AS integer) * 1000"
    return int(place.execute(f"SELECT {us} FROM sessions WHERE id = %s", number)[0][0])


def test_a_new_row_is_told_once_with_its_user_and_key(table) -> None:
    watched = watch(WITH_STATUS)
    assert rows_of(look(table, watched)) == []
    insert(table, 1, user="ann", device="phone")
    [row] = rows_of(look(table, watched))
    assert (row.what, row.session, row.user, row.key) == (NEW, "1", "ann", "phone")
    assert row.at_us == at_us(table, 1)
    assert [rows_of(look(table, watched)) for _ in range(3)] == [[], [], []]


def test_rows_of_before_the_first_look_are_only_known_and_only_once_hooks_were_judged(table) -> None:
    insert(table, 1, -3600)
    insert(table, 2, -40 * 86400)  # longer ago than anything is known
    watched = watch(PLAIN)
    [first] = look(table, watched, judged_us=0)
    assert not first.rows
    assert not first.position.is_known
    assert look(table, watched, judged_us=first.position.since_us + settings().grace_us - SECOND_US) == []
    found = look(table, watched, judged_us=first.position.since_us + settings().grace_us + SECOND_US)
    assert [(row.what, row.session) for row in rows_of(found)] == [(OLD, "1")]
    assert found[-1].position.is_known
    assert look(table, watched) == []
    assert rows_of(look(table, watch(PLAIN, found[-1].position))) == []


def test_old_rows_are_read_by_pages_over_several_looks(table, monkeypatch) -> None:
    monkeypatch.setattr("session_exporter.watch.seeding.PAGES_AT_ONCE", 2)
    for number in range(20):
        insert(table, number, -3600 - number // 3)
    watched = watch(PLAIN, page_rows=3)
    found = [each for _ in range(6) for each in look(table, watched)]
    assert sessions_of(found, OLD) == sorted(str(number) for number in range(20))
    assert max(len(each.rows) for each in found) == 3
    assert watched.position.is_known


def test_a_row_that_is_not_active_when_it_is_found_is_a_create_and_an_end(table) -> None:
    watched = watch(WITH_STATUS)
    look(table, watched)
    insert(table, 1, status="Escalated")
    insert(table, 2, status="closed", reason="expired")
    insert(table, 3, status=None)
    found = rows_of(look(table, watched))
    assert sorted((row.what, row.session, row.reason) for row in found) == [
        *[(NEW, str(number), "") for number in (1, 2, 3)],
        (OVER, "1", "escalated"),
        (OVER, "2", "expired"),
    ]


def test_a_row_that_leaves_its_active_state_is_over_when_that_is_seen(table) -> None:
    watched = watch(WITH_STATUS)
    look(table, watched)
    insert(table, 1, user="ann", device="phone")
    look(table, watched)
    begun_us = at_us(table, 1)
    table.execute("UPDATE sessions SET status = 'gone', reason = 'user_request'")
    [row] = rows_of(look(table, watched))
    assert (row.what, row.session, row.user, row.key, row.reason) == (OVER, "1", "ann", "phone", "user_request")
    assert row.at_us > begun_us
    assert rows_of(look(table, watched)) == []


def test_a_row_that_was_ended_by_who_began_before_it_was_made_is_over_when_it_was_made(table) -> None:
    watched = watch(WITH_UPDATES)
    look(table, watched)
    insert(table, 1)
    table.execute(f"UPDATE sessions SET updated_at = {now(table, -1)}, status = 'completed'")
    rows = rows_of(look(table, watched))
    assert {(row.what, row.at_us) for row in rows} == {(what, at_us(table, 1)) for what in (NEW, OVER)}


def test_a_row_that_is_deleted_is_over(table) -> None:
    watched = watch(PLAIN)
    look(table, watched)
    insert(table, 1)
    insert(table, 2)
    look(table, watched)
    table.execute("DELETE FROM sessions WHERE id = 1")
    [row] = rows_of(look(table, watched))
    assert (row.what, row.session, row.reason) == (OVER, "1", "deleted")
    assert rows_of(look(table, watched)) == []


def test_what_lived_is_known_again_after_a_restart(table) -> None:
    insert(table, 1, -3600)
    watched = watch(PLAIN)
    look(table, watched)
    insert(table, 2)
    found = look(table, watched)
    again = watch(PLAIN, found[-1].position)
    look(table, again)
    table.execute("DELETE FROM sessions")
    assert sessions_of(look(table, again), OVER) == ["1", "2"]


def test_changes_are_told_by_the_time_of_the_change(table) -> None:
    insert(table, 1, -3600)
    watched = watch(WITH_UPDATES)
    look(table, watched)
    insert(table, 2)
    look(table, watched)
    table.execute(f"UPDATE sessions SET updated_at = {now(table, 1)}")
    used = rows_of(look(table, watched))
    assert sorted((row.session, row.what, row.at_us) for row in used) == [
        (str(number), USED, at_us(table, number, "updated_at")) for number in (1, 2)
    ]
    table.execute(f"UPDATE sessions SET updated_at = {now(table, 2)}, status = 'completed' WHERE id = 2")
    [over] = rows_of(look(table, watched))
    assert (over.what, over.session, over.reason, over.at_us) == (
        OVER,
        "2",
        "completed",
        at_us(table, 2, "updated_at"),
    )
    assert rows_of(look(table, watched)) == []


def test_a_change_that_was_not_committed_is_told_again_after_a_restart(table) -> None:
    watched = watch(WITH_UPDATES)
    look(table, watched)
    insert(table, 1)
    [*_, kept] = look(table, watched)
    table.execute(f"UPDATE sessions SET updated_at = {now(table, 1)}, status = 'ended'")
    first = rows_of(look(table, watched), OVER)
    assert [row for row in rows_of(look(table, watch(WITH_UPDATES, kept.position)), OVER) if row not in first] == []
    assert rows_of(look(table, watch(WITH_UPDATES, kept.position)), OVER)


def test_the_first_message_is_the_create_and_others_are_uses(place) -> None:
    kind = "timestamptz" if place.is_postgresql else "timestamp"
    place.execute(f"CREATE TABLE messages (n integer PRIMARY KEY, thread text, author text, at {kind})")
    place.execute("CREATE INDEX by_at ON messages (at)")
    place.execute("CREATE INDEX by_thread ON messages (thread, at)")
    mapping = TableMapping("messages", id=("thread",), user="author", created_at="at", rows="messages")

    def write(number: int, thread: str, seconds: float = 0) -> None:
        place.execute(f"INSERT INTO messages VALUES (%s, %s, 'ann', {now(place, seconds)})", number, thread)

    write(1, "old", -100)
    watched = watch(mapping, page_rows=2)
    assert sessions_of(look(place, watched), OLD) == ["old"]
    for number in range(2, 8):
        write(number, "new" if number % 2 else "old", number / 100)
    found = rows_of(look(place, watched))
    assert [(row.what, row.session) for row in found if row.what == NEW] == [(NEW, "new")]
    assert sorted(row.session for row in found if row.what == USED) == ["new", "new", "old", "old", "old"]
    assert min(row.at_us for row in found if row.session == "new") == next(r.at_us for r in found if r.what == NEW)
    place.execute("DELETE FROM messages WHERE thread = 'new' AND n < 7")
    assert rows_of(look(place, watched)) == []
    place.execute("DELETE FROM messages WHERE thread = 'new'")
    assert sessions_of(look(place, watched), OVER) == ["new"]


def test_a_table_without_an_index_is_told_of_and_asked_for_less_often(table) -> None:
    for name in INDEXES:
        table.execute(f"DROP INDEX by_{name}")
    watched = watch(WITH_UPDATES)
    look(table, watched)
    created, updated = watched.take_warnings()
    assert "column created_at: no index begins with it" in created
    where = "CONCURRENTLY sessions_created_at_idx ON public.sessions" if table.is_postgresql else "ON sessions"
    assert where in created
    assert "(updated_at);" in updated
    insert(table, 1)
    found = [sessions_of(look(table, watched)) for _ in range(12)]
    assert found == [[]] * 11 + [["1"]]
    assert watched.take_warnings() == []


def test_the_advice_for_an_index_is_sql_that_works(place) -> None:
    kind = "timestamptz" if place.is_postgresql else "timestamp"
    place.execute(f'CREATE TABLE "Odd Table" ("Id" integer, "Made At" {kind})')
    mapping = TableMapping("Odd Table", id=("Id",), created_at="Made At")
    watched = watch(mapping)
    look(place, watched)
    for warning in watched.take_warnings():
        place.execute(warning.partition("make one: ")[2])
    again = watch(mapping)
    look(place, again)
    assert again.take_warnings() == []


@pytest.mark.parametrize(
    ("mapping", "named"),
    [
        (TableMapping("nowhere", created_at="created_at"), "table nowhere: "),
        (TableMapping("sessions", created_at="nothing"), "table sessions: there is no column nothing"),
        (TableMapping("sessions", user="nobody", created_at="created_at"), "there is no column nobody"),
        (TableMapping("sessions"), "created_at: not set"),
    ],
)
def test_a_table_that_is_not_as_configured_is_named(table, mapping, named) -> None:
    with pytest.raises(TableUnusable, match=named):
        look(table, watch(mapping))


def test_a_table_that_comes_back_is_read_on_from_where_it_was(table) -> None:
    watched = watch(PLAIN)
    look(table, watched)
    insert(table, 1)
    table.execute("ALTER TABLE sessions RENAME TO hidden")
    for _ in range(2):
        with pytest.raises(TableUnusable):
            look(table, watched)
    table.execute("ALTER TABLE hidden RENAME TO sessions")
    assert sessions_of(look(table, watched), NEW) == ["1"]


def test_names_that_are_written_in_another_case_are_found(table) -> None:
    watched = watch(TableMapping("Sessions", id=("ID",), user="User_Id", created_at="Created_At"))
    look(table, watched)
    insert(table, 1, user="ann")
    assert [(row.session, row.user) for row in rows_of(look(table, watched))] == [("1", "ann")]


def test_rows_of_the_future_are_told_once_their_time_is_near(table) -> None:
    ahead_us = 0

    def ask(connection: Any) -> Moment:
        real = moment(connection)
        return Moment(real.now_us + ahead_us, real.known_us + ahead_us, None)

    watched = watch(PLAIN, ask=ask)
    look(table, watched)
    insert(table, 1, 7200)
    insert(table, 2, 60)
    assert sessions_of(look(table, watched)) == ["2"]
    ahead_us = 2 * 3600 * SECOND_US
    assert sessions_of(look(table, watched)) == ["1"]


def test_rows_without_an_id_or_a_time_are_left_out_and_told_of(place) -> None:
    kind = "timestamptz" if place.is_postgresql else "timestamp"
    place.execute(f"CREATE TABLE sessions (id text, created_at {kind})")
    place.execute("CREATE INDEX by_at ON sessions (created_at)")
    place.execute("CREATE INDEX by_id ON sessions (id)")
    watched = watch(TableMapping("sessions", created_at="created_at"))
    look(place, watched)
    for word in ("NULL", "''", "'s'"):
        place.execute(f"INSERT INTO sessions VALUES ({word}, {now(place)})")
    place.execute("INSERT INTO sessions VALUES ('t', NULL)")
    assert sessions_of(look(place, watched)) == ["s"]
    assert watched.take_warnings() == ["table sessions: rows without an id or a time that can be read are left out"]


def test_a_row_that_came_up_later_than_any_limit_is_found_by_a_sweep(table) -> None:
    ahead_us = 0

    def ask(connection: Any) -> Moment:
        real = moment(connection)
        return Moment(real.now_us + ahead_us, real.known_us + ahead_us, None)

    minute = settings(longest_transaction_us=SECOND_US, sweep_every_us=300 * SECOND_US)
    watched = watch(PLAIN, ask=ask, settings=minute)
    look(table, watched)
    insert(table, 1, 10)
    ahead_us = 200 * SECOND_US
    assert sessions_of(look(table, watched)) == ["1"]
    insert(table, 2, 70)  # of a transaction that had been open, unseen, for three minutes
    assert sessions_of(look(table, watched)) == []
    ahead_us = 600 * SECOND_US
    assert sessions_of(look(table, watched)) == ["2"]
    ahead_us = 1200 * SECOND_US
    assert sessions_of(look(table, watched)) == []


def test_a_row_that_comes_up_late_is_found_though_another_of_its_minute_went(table) -> None:
    ahead_us = 0

    def ask(connection: Any) -> Moment:
        real = moment(connection)
        return Moment(real.now_us + ahead_us, real.known_us + ahead_us, None)

    watched = watch(PLAIN, ask=ask, settings=settings(longest_transaction_us=SECOND_US))
    look(table, watched)
    begun, later = (
        ("date_trunc('minute', now()) + interval '2 minutes'", "created_at + interval '20 seconds'")
        if table.is_postgresql
        else ("strftime('%Y-%m-%d %H:%M:00', 'now', '2 minutes')", "datetime(created_at, '20 seconds')")
    )
    table.execute(f"INSERT INTO sessions (id, created_at) VALUES (1, {begun})")
    ahead_us = 300 * SECOND_US
    assert sessions_of(look(table, watched)) == ["1"]
    ahead_us = 700 * SECOND_US
    look(table, watched)
    table.execute(f"INSERT INTO sessions (id, created_at) SELECT 2, {later} FROM sessions")
    table.execute("DELETE FROM sessions WHERE id = 1")
    ahead_us = 1100 * SECOND_US
    # Of texts, nothing but their number is known.
    assert sessions_of(look(table, watched), NEW) == (["2"] if table.is_postgresql else [])


def test_while_a_transaction_is_open_for_long_only_what_changed_is_read_again(table) -> None:
    ahead_us, begun_us = 0, 0

    def ask(connection: Any) -> Moment:
        real = moment(connection)
        now_us = real.now_us + ahead_us
        return Moment(now_us, now_us, begun_us or now_us)

    watched = watch(PLAIN, ask=ask)
    [first, *_] = look(table, watched)
    begun_us = first.position.since_us
    for number in range(10):
        insert(table, number, number * 60)
    ahead_us = 1000 * SECOND_US
    assert len(sessions_of(look(table, watched))) == 10
    ahead_us = 1005 * SECOND_US
    assert sessions_of(look(table, watched)) == []
    insert(table, 10, 30)
    insert(table, 11, 900)
    assert sessions_of(look(table, watched)) == ["10", "11"]
    assert watched.position.created_us == begun_us
    # Whoever begins anew meanwhile finds all of it.
    assert len(sessions_of(look(table, watch(PLAIN, watched.position, ask=ask)), NEW)) == 12


def test_what_is_told_to_be_seen_and_judged_is_by_the_sidecars_clock(table) -> None:
    watched = watch(PLAIN)
    with table.database.reading() as connection:
        findings = watched.look(connection, seen_us=5_000_000, judged_us=ALL_US)
    assert findings is not None
    assert findings.seen_us == 5_000_000
    assert watched.clock_skew_us == findings.position.since_us - 5_000_000
