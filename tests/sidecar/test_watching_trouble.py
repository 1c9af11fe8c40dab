"""A database that is away, locked, changed or hanging: told once, in nobody's way, and nothing is missed or twice."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postgres_server import LOCKED_PASSWORD, LOCKED_USER, Postgres
from sidecars import killed_in
from watched import HASTE, Table, WatchedSidecar, configured, mapping, running, until

from session_exporter.sidecar.state import State
from session_exporter.watch import watcher
from session_exporter.watchsettings import WatchSettings

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def table(postgres: Postgres) -> Table:
    return Table(postgres)


@pytest.fixture
def sidecar(table: Table, tmp_path: Path) -> Iterator[WatchedSidecar]:
    with running(tmp_path, configured(table.url())) as sidecar:
        sidecar.until_up()
        yield sidecar


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What has been logged of the watch."""
    caplog.set_level(logging.INFO)
    return lambda: [each.getMessage() for each in caplog.records if each.name.endswith("watch.condition")]


def test_a_wrong_password_is_a_refusal_and_told_without_it(table: Table, tmp_path: Path, told) -> None:
    table.execute(f"GRANT SELECT ON sessions TO {LOCKED_USER}")
    right = table.url(LOCKED_USER).replace("@", f":{LOCKED_PASSWORD}@")
    with running(tmp_path, configured(right.replace(LOCKED_PASSWORD, "hush"))) as sidecar:
        until(lambda: sidecar.figures().errors.get("refused", 0) > 2, "it is refused")
        assert not sidecar.figures().up
        assert len(told()) == 1
        assert "hush" not in told()[0]
        sidecar.engine.reload(configured(right))
        sidecar.until_up()
        table.insert("s1")
        assert sidecar.until_created(1).creates == 1


def test_a_password_that_was_changed_in_its_file_is_found_there(table: Table, tmp_path: Path) -> None:
    table.execute(f"GRANT SELECT ON sessions TO {LOCKED_USER}")
    right = table.url(LOCKED_USER).replace("@", f":{LOCKED_PASSWORD}@")
    file = tmp_path / "url"
    file.write_text(right.replace(LOCKED_PASSWORD, "outdated"), encoding="utf-8")
    config = configured(table.url(), watch=(WatchSettings(url_file=file, **HASTE),))
    with running(tmp_path, config) as sidecar:
        until(lambda: sidecar.figures().errors.get("refused"), "it is refused")
        file.unlink()
        file.write_text(right, encoding="utf-8")
        sidecar.until_up()


def test_a_locked_table_times_out_while_others_go_on(table: Table, tmp_path: Path, told) -> None:
    other = Table(table.server, "others", table.database)
    elsewhere = Table(table.server, "elsewhere")
    base = configured(table.url(), mapping(), mapping("others", "form"), mapping("elsewhere", "web"))
    one = WatchSettings("one", table.url(), tables=("sessions", "others"), **HASTE)
    two = WatchSettings("two", elsewhere.url(), tables=("elsewhere",), **HASTE)
    with running(tmp_path, replace(base, watch=(one, two))) as sidecar:
        sidecar.until_up("one")
        sidecar.until_up("two")
        with psycopg.connect(table.server.dsn(table.database)) as locking:
            locking.execute("LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE")
            until(lambda: sidecar.figures("one").errors.get("timeout"), "a look takes too long")
            other.insert("f1")
            elsewhere.insert("w1")
            assert sidecar.until_created(1, "form").creates == 1
            assert sidecar.until_created(1, "web").creates == 1
            assert (sidecar.figures("one").up, sidecar.figures("two").up) == (False, True)
        table.insert("s1")
        sidecar.until_created(1)
        sidecar.until_up("one")
        assert len(told()) == 2


def test_a_dropped_table_stops_no_other_and_is_found_when_it_is_back(table: Table, tmp_path: Path, told) -> None:
    other = Table(table.server, "others", table.database)
    with running(tmp_path, configured(table.url(), mapping(), mapping("others", "form"))) as sidecar:
        sidecar.until_up()
        table.insert("s1")
        sidecar.until_created(1)
        table.execute("DROP TABLE sessions")
        sidecar.until_down()
        until(lambda: sidecar.figures().errors.get("table", 0) > 1, "looks fail")
        other.insert("f1")
        assert sidecar.until_created(1, "form").creates == 1
        table.create()
        table.insert("s2")
        assert sidecar.until_created(2).creates == 2
        sidecar.until_up()
        assert [line.split(",")[0] for line in told()] == [
            "watch main: table sessions cannot be read",
            "watch main: table sessions is read again",
        ]


def test_a_permission_that_is_taken_away_is_a_refusal_of_one_table(table: Table, tmp_path: Path) -> None:
    other = Table(table.server, "others", table.database)
    reader = f"reader_{table.database}"
    table.execute(f"CREATE ROLE {reader} LOGIN; GRANT SELECT ON sessions, others TO {reader}")
    with running(tmp_path, configured(table.url(reader), mapping(), mapping("others", "form"))) as sidecar:
        sidecar.until_up()
        table.execute(f"REVOKE SELECT ON sessions FROM {reader}")
        until(lambda: sidecar.figures().errors.get("refused"), "it is refused")
        table.insert("s1")
        other.insert("f1")
        assert sidecar.until_created(1, "form").creates == 1
        assert not sidecar.figures().up
        table.execute(f"GRANT SELECT ON sessions TO {reader}")
        assert sidecar.until_created(1).creates == 1
        sidecar.until_up()


def test_a_connection_that_is_cut_is_made_again(table: Table, sidecar: WatchedSidecar) -> None:
    for number in range(3):
        table.insert(f"s{number}")
        table.server.terminate_backends(table.database)
    assert sidecar.until_created(3).creates == 3
    sidecar.until_up()


def test_what_was_read_before_the_connection_was_lost_is_not_lost(
    table: Table, sidecar: WatchedSidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking = sidecar.engine._watching._now.watchers["main"]._errands[0]
    step, lost = looking.step, list[str]()

    def step_and_be_cut(connection: Any, judged_us: int) -> Any:
        found = step(connection, judged_us)
        if found is not None and found.rows:
            lost.extend(row.session for row in found.rows)
            table.server.terminate_backends(table.database)
        return found

    monkeypatch.setattr(looking, "step", step_and_be_cut)
    table.insert("s1", "s2")
    chat = sidecar.until_created(2)
    assert (chat.creates, chat.found, set(lost)) == (2, 2, {"s1", "s2"})


def test_a_database_that_is_down_at_the_start_is_read_once_it_is_up(
    own_postgres: Postgres, tmp_path: Path, told
) -> None:
    table = Table(own_postgres)
    table.insert("old")
    own_postgres.kill()
    with running(tmp_path, configured(table.url())) as sidecar:
        until(lambda: sidecar.figures().errors.get("connection", 0) > 2, "it cannot be reached")
        assert not sidecar.figures().up
        own_postgres.restart()
        sidecar.until_up()
        table.insert("new")
        assert sidecar.until_created(1).creates == 1
        assert len(told()) == 2


def test_restarts_in_the_middle_of_inserts_lose_nothing_and_count_nothing_twice(
    own_postgres: Postgres, tmp_path: Path
) -> None:
    table = Table(own_postgres)
    stop = threading.Event()
    committed: list[str] = []

    def insert() -> None:
        while not stop.is_set():
            try:
                with psycopg.connect(own_postgres.dsn(table.database), autocommit=True) as connection:
                    while not stop.is_set():
                        name = f"s{len(committed)}-{time.monotonic_ns()}"
                        connection.execute("INSERT INTO sessions (id, user_id) VALUES (%s, %s)", (name, name))
                        committed.append(name)
            except psycopg.OperationalError:
                stop.wait(0.01)

    with running(tmp_path, configured(table.url())) as sidecar:
        sidecar.until_up()
        writer = threading.Thread(target=insert)
        writer.start()
        try:
            for _ in range(3):
                before = len(committed)
                until(lambda: len(committed) > before + 50 and sidecar.figures().up, "rows are written and read")  # noqa: B023
                own_postgres.kill()
                sidecar.until_down()
                own_postgres.restart()
        finally:
            stop.set()
            writer.join()
        rows = int(own_postgres.psql("SELECT count(*) FROM sessions", table.database))
        chat = sidecar.until_created(rows)
        assert (chat.creates, chat.found) == (rows, rows)


moves = st.sampled_from(["insert", "insert", "open", "commit", "cycle", "cut", "kill", "kill before commit", "stop"])


@settings(max_examples=15)
@given(st.lists(moves, min_size=5, max_size=25))
def test_nothing_is_missed_and_nothing_counts_twice_whatever_is_killed(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    table = Table(postgres)
    inserted = 0
    with ExitStack() as stack, running(tmp_path_factory.mktemp("killed"), configured(table.url())) as sidecar:
        sidecar.until_up()
        waiting: list[psycopg.Connection[Any]] = []
        for move in steps:
            if move in {"insert", "open"}:
                inserted += 1
                connection = stack.enter_context(psycopg.connect(postgres.dsn(table.database)))
                connection.execute("INSERT INTO sessions (id) VALUES (%s)", (f"s{inserted}",))
                waiting.append(connection)
            if move in {"insert", "commit"} and waiting:
                waiting.pop().commit()
            elif move == "cycle":
                sidecar.cycle()
            elif move == "cut":
                postgres.psql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    f"WHERE datname = '{table.database}' AND application_name = 'session-exporter'"
                )
            elif move == "kill before commit":
                killed_in(sidecar, State, "commit")
            elif move in {"kill", "stop"}:
                getattr(sidecar, move)()
        for connection in waiting:
            connection.commit()
        sidecar.until_created(inserted)
        table.insert("last")
        chat = sidecar.until_created(inserted + 1)
        assert (chat.creates, chat.found, chat.unseen) == (inserted + 1,) * 3


def test_while_the_database_hangs_everything_else_goes_on(table: Table, tmp_path: Path) -> None:
    elsewhere = Table(table.server, "elsewhere")
    base = configured(table.url(), mapping(), mapping("elsewhere", "web"))
    one = WatchSettings("one", table.url(), tables=("sessions",), **HASTE)
    two = WatchSettings("two", elsewhere.url(), tables=("elsewhere",), **HASTE)
    with running(tmp_path, replace(base, watch=(one, two))) as sidecar:
        sidecar.until_up("one")
        sidecar.until_up("two")
        sidecar.engine._watching._now.watchers["one"]._patience_s = 0.3
        with stopped_backend(table):
            sidecar.until_down("one")
            elsewhere.insert("w1")
            assert sidecar.until_created(1, "web").creates == 1
            sidecar.until_up("one")
            assert sidecar.figures("one").errors.get("timeout", 0) >= 1
        table.insert("s1")
        assert sidecar.until_created(1).creates == 1


def test_it_stops_at_once_while_the_database_hangs(table: Table, sidecar: WatchedSidecar) -> None:
    with stopped_backend(table):
        begun_s = time.monotonic()
        sidecar.stop()
        assert time.monotonic() - begun_s < watcher.PATIENCE_S
        assert not [each for each in sidecar.threads() if each.startswith("watch")]


def test_it_stops_within_seconds_while_the_server_lets_nobody_in(own_postgres: Postgres, tmp_path: Path) -> None:
    table = Table(own_postgres)
    with running(tmp_path, configured(table.url())) as sidecar:
        sidecar.until_up()
        os.kill(own_postgres.pid, signal.SIGSTOP)
        try:
            sidecar.engine._watching._now.watchers["main"]._database.cut()
            sidecar.until_down()
            assert sidecar.chat().creates == 0
            sidecar.stop()
            assert not [each for each in sidecar.threads() if each.startswith("watch")]
        finally:
            os.kill(own_postgres.pid, signal.SIGCONT)


@contextmanager
def stopped_backend(table: Table) -> Iterator[None]:
    """The server's side of the watch's connection does nothing any more."""
    of_ours = f"datname = '{table.database}' AND application_name = 'session-exporter'"
    pid = int(table.server.psql(f"SELECT pid FROM pg_stat_activity WHERE {of_ours}"))
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
