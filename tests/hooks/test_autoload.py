"""Installing what a configuration asks for, in this process."""

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import booth
import pytest
from journals import Journal
from recorder import Recorder

from session_exporter.config import Config, JournalSettings
from session_exporter.core.events import Created
from session_exporter.hooks import autoload
from session_exporter.mappings import FRAMEWORKS, CallMapping, MiddlewareMapping, StoreMapping, TableMapping
from session_exporter.tracker import SessionTracker

Install = Callable[..., Callable[[], None]]

CALLS = (CallMapping("booth:open_session", kind="create", scope="chat", user="user", session="id"),)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def tracker(recorder: Recorder) -> SessionTracker:
    return SessionTracker(journal=recorder)


@pytest.fixture
def install() -> Iterator[Install]:
    undo: list[Callable[[], None]] = []

    def installed(config: Config, tracker: SessionTracker | None = None) -> Callable[[], None]:
        undo.append(autoload.install(config, tracker))
        return undo[-1]

    yield installed
    for each in undo:
        each()


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    monkeypatch.delenv("SESSION_EXPORTER_DIR", raising=False)
    return Journal(tmp_path / "journal")


def sessions(recorder: Recorder) -> list[str]:
    return [event.session for event in recorder.events if isinstance(event, Created)]


def test_a_section_is_installed_by_its_hook(install, tracker, recorder) -> None:
    install(Config(calls=CALLS), tracker)
    assert sessions(recorder) == []
    assert [booth.open_session("u")["id"]] == sessions(recorder)
    assert recorder.hooks == {"autoload": True, "calls": True}


def test_every_section_has_its_hook(install, tracker, recorder) -> None:
    config = Config(
        tables=(TableMapping("sessions"),),
        calls=CALLS,
        stores=(StoreMapping("session:*"),),
        middleware=tuple(MiddlewareMapping(framework) for framework in FRAMEWORKS),
        db_sessions=True,
    )
    uninstall = install(config, tracker)
    assert {"autoload", "calls"} <= set(recorder.hooks)
    assert all(recorder.hooks.values())
    assert recorder.errors == {}
    uninstall()
    assert not any(recorder.hooks.values())


def test_a_table_that_only_the_sidecar_reads_is_not_hooked(install, tracker, recorder) -> None:
    pytest.importorskip("sqlalchemy")
    install(Config(tables=(TableMapping("sessions", hook=False),)), tracker)
    assert recorder.hooks == {"autoload": True}
    install(Config(tables=(TableMapping("sessions", hook=False), TableMapping("others"))), tracker)
    assert set(recorder.hooks) == {"autoload", "sqlalchemy"}


def test_the_worker_is_visible_at_once(install, tracker, recorder) -> None:
    install(Config(), tracker)
    assert (recorder.opened, recorder.hooks, recorder.events) == (1, {"autoload": True}, [])


def test_installed_twice_it_reports_once(install, tracker, recorder) -> None:
    install(Config(calls=CALLS), tracker)
    install(Config(calls=CALLS), tracker)
    assert [booth.open_session("u")["id"]] == sessions(recorder)


def test_removed_it_reports_nothing(install, tracker, recorder) -> None:
    uninstall = install(Config(calls=CALLS), tracker)
    uninstall()
    uninstall()
    booth.open_session("u")
    assert sessions(recorder) == []
    assert recorder.hooks == {"autoload": False, "calls": False}


def test_a_section_that_is_broken_is_counted_and_named_and_the_others_work(
    install, tracker, recorder, monkeypatch, caplog
) -> None:
    monkeypatch.setitem(sys.modules, "session_exporter.hooks.stores", None)
    install(Config(calls=CALLS, stores=(StoreMapping("session:*"),)), tracker)
    assert [booth.open_session("u")["id"]] == sessions(recorder)
    assert recorder.errors == {"autoload": 1}
    assert recorder.hooks["autoload"] is False
    [message] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "not in effect: stores (ModuleNotFoundError: " in message


def test_several_broken_sections_are_all_counted_and_named_in_one_line(
    install, tracker, recorder, monkeypatch, caplog
) -> None:
    monkeypatch.setitem(sys.modules, "session_exporter.hooks.stores", None)
    monkeypatch.setitem(sys.modules, "session_exporter.hooks.calls", None)
    install(Config(calls=CALLS, stores=(StoreMapping("session:*"),)), tracker)
    assert recorder.errors == {"autoload": 2}
    [message] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "calls (" in message
    assert "stores (" in message


def test_its_own_tracker_keeps_to_the_configured_directory_and_limits(install, journal) -> None:
    settings = JournalSettings(journal.directory, worker_limit_bytes=512 << 10, directory_limit_bytes=512 << 10)
    uninstall = install(Config(journal=settings, calls=CALLS))
    for _ in range(20_000):
        booth.open_session("u")
    [control] = journal.controls()
    assert sum(control.lost.values()) > 0
    assert {reason for reason, _ in control.lost} <= {"worker_limit", "directory_limit"}
    assert len(journal.events()) + sum(control.lost.values()) == 20_000
    uninstall()


def test_its_workers_are_of_the_configured_replica(install, journal) -> None:
    install(Config(journal=JournalSettings(journal.directory), replica="web-7"))
    assert [control.writer.replica for control in journal.controls()] == ["web-7"]


def test_the_environments_directory_wins_over_the_configured_one(install, journal, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SESSION_EXPORTER_DIR", str(journal.directory))
    install(Config(journal=JournalSettings(tmp_path / "configured")))
    assert len(journal.pids()) == 1
    assert not (tmp_path / "configured").exists()


def test_a_directory_that_cannot_be_made_leaves_the_application_alone(install, tmp_path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    uninstall = install(Config(journal=JournalSettings(tmp_path / "file" / "journal"), calls=CALLS))
    assert booth.open_session("u")["id"].startswith("u-")
    uninstall()


def test_the_environment_loads_once_per_process_and_can_be_taken_back(journal, tmp_path, monkeypatch) -> None:
    config = tmp_path / "sessions.yml"
    config.write_text(f"journal: {{directory: {journal.directory}}}\n", encoding="utf-8")
    monkeypatch.setenv("SESSION_EXPORTER_CONFIG_FILE", str(config))
    assert [autoload.load(), autoload.load()] == [True, False]
    assert list(journal.hooks().values()) == [{"autoload": True}]
    autoload.unload()
    autoload.unload()
    assert autoload.load()
    autoload.unload()


def test_without_a_configuration_in_the_environment_nothing_is_loaded(monkeypatch) -> None:
    monkeypatch.delenv("SESSION_EXPORTER_CONFIG_FILE", raising=False)
    assert not autoload.load()


@pytest.mark.parametrize(
    "arguments",
    [
        ["/usr/bin/session-exporter", "serve"],
        ["/usr/bin/view-metrics"],
        ["-m", "session_exporter", "tail"],
        ["-s", "-c", "from multiprocessing.resource_tracker import main;main(5)"],
    ],
    ids=["the sidecar", "its viewer", "as a module", "the resource tracker"],
)
def test_what_is_no_application_is_left_out(arguments, journal, tmp_path, monkeypatch) -> None:
    config = tmp_path / "sessions.yml"
    config.write_text(f"journal: {{directory: {journal.directory}}}\n", encoding="utf-8")
    monkeypatch.setenv("SESSION_EXPORTER_CONFIG_FILE", str(config))
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, *arguments])
    assert not autoload.load()
    assert journal.pids() == []
