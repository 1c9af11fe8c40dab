"""Where functions are wrapped: in every module that knows them, whenever it is imported, and put back afterwards."""

import importlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from recorder import Recorder
from written import Application, application

from session_exporter.core.events import LookedUp
from session_exporter.hooks.calls import instrument
from session_exporter.tracker import SessionTracker

SERVICES = """
    def get(user_id):
        return f"of {user_id}"

    class Service:
        def get(self, user_id):
            return f"of {user_id}"

    class Inheriting(Service):
        pass

    class Slotted:
        __slots__ = ()
        def get(self, user_id):
            return f"of {user_id}"

    slotted = Slotted()
    number = 5
"""


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Application]:
    with application(tmp_path) as app:
        app.write("shop.__init__", "")
        app.write("shop.services", SERVICES)
        yield app


@pytest.fixture
def watch(tracker: SessionTracker) -> Iterator[Any]:
    undo = []

    def watch(call: str = "shop.services:get", **more: Any) -> Any:
        undo.append(instrument(call, **{"kind": "get", "user": "user_id", "tracker": tracker, **more}))
        return undo[-1]

    yield watch
    for each in undo:
        each()


def users(journal: Recorder) -> list[str]:
    assert all(type(event) is LookedUp for event in journal.events)
    told = [event.user for event in journal.events]
    journal.events.clear()
    return told


def test_a_module_that_is_not_imported_is_wrapped_when_it_is(
    watch: Any, app: Application, journal: Recorder, tracker: SessionTracker
) -> None:
    tracker.open()
    watch()
    assert "shop.services" not in sys.modules
    assert journal.hooks == {"calls": True}
    assert app.load("shop.services").get("u1") == "of u1"
    assert users(journal) == ["u1"]


def test_a_name_that_was_imported_before_is_wrapped_as_well(watch: Any, app: Application, journal: Recorder) -> None:
    early = app.load("early", "from shop.services import get as fetch\nimport shop.services\n")
    watch()
    late = app.load("late", "from shop.services import get\n")
    assert early.fetch is late.get is early.shop.services.get
    early.fetch("u1")
    late.get("u2")
    early.shop.services.get("u3")
    assert users(journal) == ["u1", "u2", "u3"]


def test_uninstalling_puts_everything_back(
    watch: Any, app: Application, journal: Recorder, tracker: SessionTracker
) -> None:
    tracker.open()
    services = app.load("shop.services")
    early = app.load("early", "from shop.services import get\n")
    function, method = services.get, vars(services.Service)["get"]
    undo = [watch(), watch("shop.services:Service.get"), watch("shop.services:Inheriting.get")]
    late = app.load("late", "from shop.services import get\n")
    kept = services.get
    for each in undo * 2:
        each()
    assert services.get is early.get is late.get is function
    assert vars(services.Service)["get"] is method
    assert "get" not in vars(services.Inheriting)
    assert kept("u1") == "of u1"
    assert journal.events == []
    assert journal.hooks == {"calls": False}


def test_uninstalling_leaves_alone_what_somebody_else_has_put_there(
    watch: Any, app: Application, journal: Recorder
) -> None:
    services, undo = app.load("shop.services"), watch()
    wrapped = services.get

    def patched(user_id: str) -> str:
        return wrapped(user_id)

    services.get = patched
    undo()
    assert services.get is patched
    assert services.get("u1") == "of u1"
    assert journal.events == []


def test_uninstalling_one_of_two_mappings_leaves_the_other(watch: Any, app: Application, journal: Recorder) -> None:
    services = app.load("shop.services")
    function = services.get
    one, other = watch(scope="one"), watch(scope="other")
    one()
    services.get("u1")
    assert [event.scope for event in journal.events] == ["other"]
    other()
    assert services.get is function


def test_uninstalling_one_name_of_a_function_leaves_the_other(watch: Any, app: Application, journal: Recorder) -> None:
    views = app.load("shop.views", "from shop.services import get")
    services = app.load("shop.services")
    forget = watch("shop.services:get")
    watch("shop.views:get")
    services.get("u1")
    forget()
    views.get("u2")
    assert [event.user for event in journal.events] == ["u1", "u2"]


def test_a_mapping_that_is_told_twice_is_reported_once(watch: Any, app: Application, journal: Recorder) -> None:
    services = app.load("shop.services")
    first, second = watch(), watch()
    services.get("u1")
    assert users(journal) == ["u1"]
    second()
    services.get("u2")
    assert users(journal) == ["u2"]
    first()
    services.get("u3")
    assert users(journal) == []


def test_a_function_that_is_known_by_two_names_is_reported_once(
    watch: Any, app: Application, journal: Recorder
) -> None:
    app.write("shop.__init__", "from shop.services import get\n")
    shop = app.load("shop")
    watch()
    watch("shop:get")
    shop.get("u1")
    assert users(journal) == ["u1"]


def test_a_module_that_is_loaded_anew_is_wrapped_anew(watch: Any, app: Application, journal: Recorder) -> None:
    undo = [watch(), watch("shop.services:Service.get")]
    services = app.load("shop.services")
    early = app.load("early", "from shop.services import get\n")
    for turn in range(3):
        importlib.reload(services)
        services.get(f"u{turn}")
        services.Service().get(f"m{turn}")
        assert users(journal) == [f"u{turn}", f"m{turn}"]
    early.get("old")
    assert users(journal) == ["old"]
    del sys.modules["shop.services"]
    anew = app.load("shop.services")
    anew.get("anew")
    assert users(journal) == ["anew"]
    for each in undo:
        each()
    for get in (anew.get, early.get, anew.Service().get):
        assert get("u1") == "of u1"
        assert "Wrapped" not in type(get).__name__
    assert journal.events == []
    importlib.reload(anew).get("u1")
    assert journal.events == []


def test_an_import_that_fails_first_is_awaited_further(watch: Any, app: Application, journal: Recorder) -> None:
    watch("broken:get")
    with pytest.raises(ZeroDivisionError):
        app.load("broken", "1 / 0\n")
    app.load("broken", "def get(user_id): return user_id\n").get("u1")
    assert users(journal) == ["u1"]


def test_nothing_is_imported_for_the_hook(watch: Any, app: Application) -> None:
    app.write("lazy.__init__", "def __getattr__(name):\n    import lazy.heavy\n    return lazy.heavy.get\n")
    app.write("lazy.heavy", "def get(user_id): return user_id\n")
    app.load("lazy")
    watch("lazy:get")
    assert "lazy.heavy" not in sys.modules


@pytest.mark.parametrize(
    ("call", "more", "said"),
    [
        ("shop.services:fetch", {}, "the module has no fetch"),
        ("shop.services:Service.fetch", {}, "the module has no Service.fetch"),
        ("shop.services:Missing.get", {}, "the module has no Missing.get"),
        ("shop.services:Service", {}, "it is a class"),
        ("shop.services:number", {}, "it is no function"),
        ("shop.services:get", {"user": "usr"}, "user: 'usr'"),
        ("shop.services:slotted.get", {}, "AttributeError"),
    ],
)
def test_what_cannot_be_watched_is_told_counted_and_shown(  # noqa: PLR0917 - fixtures
    watch: Any, app: Application, journal: Recorder, caplog: pytest.LogCaptureFixture, call: str, more: Any, said: str
) -> None:
    watch(call, **more)
    with caplog.at_level(logging.WARNING, "session_exporter"):
        services = app.load("shop.services")
    assert services.get("u1") == "of u1"
    (line,) = caplog.messages
    assert call in line
    assert said in line
    assert journal.hooks == {"calls": False}
    assert journal.errors == {"calls": 1}


def test_a_hook_of_which_a_part_works_is_active(watch: Any, app: Application, journal: Recorder) -> None:
    app.load("shop.services")
    watch("shop.services:fetch")
    watch()
    assert journal.hooks == {"calls": True}


def test_a_function_that_comes_with_a_reload_is_watched_then(watch: Any, app: Application, journal: Recorder) -> None:
    services = app.load("shop.services")
    watch("shop.services:fetch")
    assert journal.hooks == {"calls": False}
    app.write("shop.services", "def fetch(user_id): return user_id\n")
    importlib.reload(services).fetch("u1")
    assert users(journal) == ["u1"]
    assert journal.hooks == {"calls": True}


def test_a_module_that_is_being_imported_is_taken_as_it_is(app: Application, tracker: SessionTracker) -> None:
    sys.modules["told"] = told = ModuleType("told")
    told.tracker = tracker  # type: ignore[attr-defined]  # for the module below
    try:
        module = app.load(
            "halfway",
            """
            import told
            from session_exporter.hooks.calls import instrument
            def get(user_id): return user_id
            undo = instrument("halfway:get", kind="get", user="user_id", tracker=told.tracker)
            wrapped = get
            """,
        )
        assert type(module.get).__name__ == "_Wrapped"
        module.undo()
        assert type(module.get).__name__ == "function"
    finally:
        del sys.modules["told"]


def test_a_tracker_that_is_switched_off_wraps_nothing(
    app: Application, watch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSION_EXPORTER_DISABLED", "1")
    services = app.load("shop.services")
    function = services.get
    watch(tracker=SessionTracker(journal=Recorder()))
    assert services.get is function


def test_calls_without_a_tracker_share_one(app: Application, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSION_EXPORTER_DIR", str(tmp_path / "journal"))
    monkeypatch.setattr("session_exporter.hooks.calls._own_tracker", None)
    services = app.load("shop.services")
    undo = [instrument("shop.services:get", kind="get"), instrument("shop.services:Service.get", kind="get")]
    from session_exporter.hooks import calls

    assert services.get("u1") == "of u1"
    assert list((tmp_path / "journal").iterdir())
    assert len({id(wrapping.tracker) for wrapping in calls._wrappings.values()}) == 1
    for each in undo:
        each()
    assert calls._own_tracker is not None
    calls._own_tracker.close()


def test_a_forked_child_reports_its_own_calls(watch: Any, app: Application, tmp_path: Path, journal: Recorder) -> None:
    watch()
    services = app.load("shop.services")
    child = os.fork()
    if not child:
        try:
            services.get("of the child")
            undone = instrument("shop.services:Service.get", kind="get", tracker=SessionTracker(journal=journal))
            undone()
            (tmp_path / "users").write_text(" ".join(event.user for event in journal.events), "utf-8")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / "users").read_text("utf-8") == "of the child"
    assert users(journal) == []


def test_importing_the_hook_does_not_import_wrapt() -> None:
    code = "import sys, session_exporter.hooks.calls; assert 'wrapt' not in sys.modules, 'wrapt'"
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
