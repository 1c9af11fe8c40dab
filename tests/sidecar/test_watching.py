"""What the database says, in the commits of an engine: each row once, whatever is killed, and whoever told of it."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from postgres_server import Postgres
from sidecars import FULL_DISK, killed_in, tampered
from watched import HASTE, Table, WatchedSidecar, configured, mapping, running, until

from session_exporter.config import Config, PrivacySettings
from session_exporter.core import events as wire
from session_exporter.core.ledger import Ledger
from session_exporter.core.rows import Row, take_rows
from session_exporter.core.scopes import ScopeRules
from session_exporter.errors import ConfigError, StateError
from session_exporter.sidecar import watching
from session_exporter.sidecar.rendering import render
from session_exporter.sidecar.state import State
from session_exporter.watch.errands import Looking
from session_exporter.watchsettings import WatchSettings

pytestmark = pytest.mark.integration


@pytest.fixture
def table(postgres: Postgres) -> Table:
    return Table(postgres)


@pytest.fixture
def sidecar(table: Table, tmp_path: Path) -> Iterator[WatchedSidecar]:
    with running(tmp_path, configured(table.url())) as sidecar:
        sidecar.until_up()
        yield sidecar


def test_rows_that_nobody_told_of_are_creates(table: Table, sidecar: WatchedSidecar) -> None:
    table.insert("s1", "s2", user="ann")
    chat = sidecar.until_created(2)
    assert (chat.creates, chat.found, chat.unseen, chat.unreported) == (2, 2, 2, 0)
    assert chat.duplicates["unobserved"] == 1
    assert sidecar.figures().rows >= 2


def test_a_row_that_a_hook_has_told_of_is_counted_once(table: Table, sidecar: WatchedSidecar) -> None:
    for number in range(3):
        sidecar.tell_now(wire.Created, f"told{number}", f"u{number}")
    table.insert("told0", "told1", "told2", "untold")
    chat = sidecar.until_created(4)
    until(lambda: sidecar.chat().found == 4, "all rows are found")
    assert (chat.creates, chat.unreported, chat.reported) == (4, 1, 3)
    body = render(sidecar.cycle())[0].decode()
    assert 'session_unreported_creates_total{scope="chat"} 1.0' in body
    assert 'session_exporter_watch_up{watch="main"} 1.0' in body


def test_rows_from_before_the_first_look_are_known_and_not_counted(table: Table, tmp_path: Path) -> None:
    table.insert("old")
    with running(tmp_path, configured(table.url())) as sidecar:
        sidecar.until_up()
        table.insert("new")
        sidecar.until_created(1)
        until(lambda: any(each.is_known for each in sidecar.positions().values()), "the old rows are known")
        sidecar.tell_now(wire.Observed, "old", "ann")
        until(lambda: sidecar.chat().reuses == 1, "the old session is reused")
        assert sidecar.chat().creates == 1


def test_every_series_of_a_watch_is_there_before_the_database_is(tmp_path: Path) -> None:
    unreachable = configured("postgresql://postgres@127.0.0.1:1/nothing")
    with running(tmp_path, unreachable) as sidecar:
        body = render(sidecar.cycle())[0].decode()
        assert 'session_exporter_watch_up{watch="main"} 0.0' in body
        assert 'session_exporter_watch_errors_total{reason="timeout",watch="main"} 0.0' in body
        assert 'session_unreported_creates_total{scope="chat"} 0.0' in body
        until(lambda: sidecar.figures().errors.get("connection", 0) > 1, "looks fail")
        assert set(sidecar.figures().errors) == {"connection"}


@pytest.mark.parametrize("step", ["commit", "_store_window", "_store_meta"])
def test_an_engine_that_is_killed_between_taking_and_committing_counts_once(
    table: Table, sidecar: WatchedSidecar, step: str
) -> None:
    table.insert("s1", "s2")
    sidecar.until_created(2)
    table.insert("s3", "s4")
    until(lambda: sidecar.engine._watching.has_more(sidecar.engine._progress.ledger), "rows are to be taken")
    assert killed_in(sidecar, State, step)
    table.insert("s5")
    chat = sidecar.until_created(5)
    assert (chat.creates, chat.found, chat.unseen) == (5, 5, 5)


def test_what_could_not_be_committed_is_read_again(table: Table, sidecar: WatchedSidecar) -> None:
    table.insert("s1")
    sidecar.until_created(1)
    with tampered(sidecar, FULL_DISK) as other:
        table.insert("s2", "s3")
        with pytest.raises(StateError):
            until(lambda: sidecar.cycle() is None, "a commit fails")
        other.execute("DROP TRIGGER full_disk")
    chat = sidecar.until_created(3)
    assert (chat.creates, chat.found) == (3, 3)


def test_a_row_that_trips_over_a_defect_is_passed_over_and_counted(
    table: Table, sidecar: WatchedSidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trip(ledger: Ledger, scope: str, rows: Sequence[Row], **times: int) -> None:
        if any(row.session == "bad" for row in rows):
            raise ValueError("a defect")
        take_rows(ledger, scope, rows, **times)

    monkeypatch.setattr(watching, "take_rows", trip)
    table.insert("s1", "bad", "s2")
    with pytest.raises(ValueError, match="a defect"):
        until(lambda: sidecar.chat().creates, "a cycle fails")
    assert sidecar.until_created(2).creates == 2
    assert sidecar.cycle().exporter.events_lost["malformed", "unknown"] == 1
    table.insert("s3")
    assert sidecar.until_created(3).creates == 3


def test_a_defect_of_the_reading_is_told_without_what_was_read(
    table: Table, sidecar: WatchedSidecar, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def trip(*_: object) -> None:
        raise ValueError("secret")

    with monkeypatch.context() as patch:
        patch.setattr(Looking, "step", trip)
        until(lambda: sidecar.figures().errors.get("other", 0) > 1, "looks fail")
        assert not sidecar.figures().up
    sidecar.until_up()
    assert "ValueError in test_watching.py, line" in caplog.text
    assert "secret" not in caplog.text


def test_stopping_judges_what_waits_for_its_grace(table: Table, tmp_path: Path) -> None:
    config = configured(table.url())
    patient = replace(config, watch=(replace(config.watch[0], grace_us=3_600_000_000),))
    with running(tmp_path, patient) as sidecar:
        sidecar.until_up()
        table.insert("s1")
        until(lambda: sidecar.figures().rows, "the row is found")
        assert sidecar.chat().creates == 0
        sidecar.stop()
        sidecar.config = replace(config, watch=())
        assert sidecar.chat().creates == 1


def test_active_rows_and_users_with_several_of_them_are_counted(table: Table, sidecar: WatchedSidecar) -> None:
    table.insert("s1", "s2", user="ann")
    table.insert("s3")
    until(lambda: sidecar.watched().active_rows == {"chat": 3}, "the rows are counted")
    assert sidecar.watched().duplicate_users == {"chat": 1}
    body = render(sidecar.cycle())[0].decode()
    assert 'session_db_active_rows{scope="chat"} 3.0' in body
    assert [each.kind for each in sidecar.alarms].count("duplicate_active_user") == 1
    sidecar.stop()
    until(lambda: sidecar.figures().up, "it is counted again")
    assert len(sidecar.incidents(kind="duplicate_active_user")) == 1


def test_a_stop_after_a_commit_that_failed_forgets_nothing_that_was_counted(
    table: Table, sidecar: WatchedSidecar
) -> None:
    table.insert("s1", "s2", user="ann")
    until(lambda: sidecar.watched().duplicate_users == {"chat": 1}, "the rows are counted")
    with tampered(sidecar, FULL_DISK) as other:
        table.insert("s3")
        with pytest.raises(StateError):
            until(lambda: sidecar.cycle() is None, "a commit fails")
        other.execute("DROP TRIGGER full_disk")
    sidecar.stop()
    with closing(State(sidecar.state, sidecar.config.limits)) as state:
        kept = state.exporter()
    assert kept is not None
    assert [(each.duplicate_users, len(each.twins)) for each in kept.census.values()] == [(1, 1)]


def test_a_reload_changes_what_is_watched_and_leaves_the_rest_alone(table: Table, tmp_path: Path) -> None:
    other = Table(table.server, "others", table.database)
    chat, form = mapping(), mapping("others", "form")
    one = WatchSettings("one", table.url(), tables=("sessions",), **HASTE)
    two = WatchSettings("two", table.url(), tables=("others",), **HASTE)
    base = configured(table.url(), chat, form, watch=(one,))
    with running(tmp_path, base) as sidecar:
        sidecar.until_up("one")
        running_one = sidecar.engine._watching._now.watchers["one"]
        sidecar.engine.reload(replace(base, watch=(one, two)))
        sidecar.until_up("two")
        assert sidecar.engine._watching._now.watchers["one"] is running_one
        table.insert("s1")
        other.insert("f1")
        assert sidecar.until_created(1, "form").creates == 1
        sidecar.until_created(1)

        sidecar.engine.reload(replace(base, watch=(replace(one, interval_us=10_000), two)))
        assert sidecar.engine._watching._now.watchers["one"] is not running_one
        table.insert("s2")
        assert sidecar.until_created(2).creates == 2

        sidecar.engine.reload(replace(base, watch=()))
        assert sidecar.watched().watches == {}
        until(lambda: not [each for each in sidecar.threads() if "watch" in each], "nobody reads any more")


def test_a_reload_with_a_watch_that_can_never_work_changes_nothing(table: Table, sidecar: WatchedSidecar) -> None:
    wrong = replace(sidecar.config, watch=(WatchSettings(url="mysql://nobody@127.0.0.1/nothing"),))
    with pytest.raises(ConfigError, match=r"watch\[0\]"):
        sidecar.engine.reload(wrong)
    table.insert("s1")
    assert sidecar.until_created(1).creates == 1


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mysql://nobody:hush@127.0.0.1/nothing", "begins with postgresql or sqlite"),
        ("postgresql+none://nobody:hush@127.0.0.1/nothing", "not installed"),
        ("hush", "expected a URL"),
        ("${NOT_SET_ANYWHERE}", "NOT_SET_ANYWHERE"),
    ],
)
def test_what_can_never_work_is_told_at_the_start(tmp_path: Path, url: str, expected: str) -> None:
    with running(tmp_path, configured(url)) as sidecar:
        with pytest.raises(ConfigError, match=expected) as raised:
            sidecar.cycle()
        assert "hush" not in str(raised.value)


def test_after_ids_are_written_anew_tables_are_looked_at_as_for_the_first_time(
    table: Table, sidecar: WatchedSidecar
) -> None:
    table.insert("s1")
    sidecar.until_created(1)
    sidecar.config = replace(sidecar.config, privacy=PrivacySettings(show_ids=True))
    sidecar.engine.reload(sidecar.config)
    sidecar.until_up()
    table.insert("s2")
    assert sidecar.until_created(2).creates == 2


def test_a_sidecar_without_a_watch_imports_nothing_for_it(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from session_exporter.config import Config\n"
        "from session_exporter.sidecar.engine import Engine, Reloads\n"
        "from session_exporter.sidecar.intake import JournalIntake\n"
        f"place = Path({str(tmp_path)!r})\n"
        "engine = Engine(Config(), JournalIntake(place / 'j'), place / 's', reloads=Reloads(0), "
        "on_incident=lambda *_: None)\n"
        "engine.cycle(1.0); engine.close()\n"
        "assert not [name for name in sys.modules if name.startswith(('sqlalchemy', 'psycopg', 'redis'))]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_ids_are_neither_kept_nor_shown(table: Table, sidecar: WatchedSidecar) -> None:
    table.insert("secret-one", "secret-two", user="secret-user")
    sidecar.until_created(2)
    sidecar.stop()
    assert not any(b"secret" in path.read_bytes() for path in sidecar.state.iterdir())


def test_a_table_of_an_undeclared_scope_has_the_rules_of_any(table: Table, tmp_path: Path) -> None:
    with running(tmp_path, replace(configured(table.url()), scopes={"web": ScopeRules("web")})) as sidecar:
        sidecar.until_up()
        table.insert("s1")
        assert sidecar.until_created(1).creates == 1


def test_nothing_is_watched_by_default() -> None:
    assert Config().watch == ()
