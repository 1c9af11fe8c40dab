import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from greenlet import greenlet
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import create_async_engine

from session_exporter import callsites
from session_exporter.callsites import call_sites

ROOT = Path(callsites.__file__).parent


Application: TypeAlias = Callable[..., dict[str, Any]]


@pytest.fixture
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Application:
    """Runs source as if it were a file of an application whose code lies in `tmp_path`."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(source: str, path: str | Path, name: str = "app", **names: object) -> dict[str, Any]:
        namespace: dict[str, Any] = {"__name__": name, "call_sites": call_sites, **names}
        exec(compile(source, str(path), "exec"), namespace)
        return namespace

    return run


def test_the_nearest_application_frame_comes_first(application: Application, tmp_path: Path) -> None:
    source = "def inner():\n    return call_sites()\n\nclass Handler:\n    def run(self):\n        return inner()\n"
    handler = application(source, tmp_path / "app" / "handlers.py")["Handler"]()
    assert handler.run()[:2] == ("app/handlers.py:2:inner", "app/handlers.py:6:Handler.run")


def test_no_more_than_three_frames_are_named(application: Application, tmp_path: Path) -> None:
    source = "def dive(n):\n    return dive(n - 1) if n else call_sites()\n"
    assert len(application(source, tmp_path / "deep.py")["dive"](10)) == 3


def test_two_lines_of_one_function_are_two_sites(application: Application, tmp_path: Path) -> None:
    source = "def twice():\n    first = call_sites()\n    return first[0], call_sites()[0]\n"
    assert application(source, tmp_path / "a.py")["twice"]() == ("a.py:2:twice", "a.py:3:twice")


@pytest.mark.parametrize("library", ["site-packages", "dist-packages"])
def test_frames_of_installed_libraries_are_left_out(application: Application, tmp_path: Path, library: str) -> None:
    wrap = application("def wrap(f):\n    return f()\n", tmp_path / library / "lib.py")["wrap"]
    inside = application("def ask():\n    return wrap(call_sites)\n", tmp_path / "a.py", wrap=wrap)["ask"]
    assert inside()[0] == "a.py:2:ask"


def test_frames_of_the_standard_library_are_left_out(application: Application, tmp_path: Path) -> None:
    source = "import contextvars, functools, concurrent.futures as f\ndef ask():\n    return call_sites()\n"
    namespace = application(
        source + "with f.ThreadPoolExecutor(1) as pool:\n    sites = pool.submit(ask).result()\n", tmp_path / "a.py"
    )
    assert namespace["sites"] == ("a.py:3:ask",)


def test_frames_of_this_package_are_left_out_except_those_of_its_demonstration(
    application: Application, tmp_path: Path
) -> None:
    application_code = "def ask():\n    return call_sites()\n"
    ours = application("def wrap(f):\n    return f()\n", ROOT / "hooks" / "calls.py")["wrap"]
    shown = application(application_code, ROOT / "demo" / "application.py")["ask"]
    inside = application("def outer():\n    return ours(shown)\n", tmp_path / "a.py", ours=ours, shown=shown)["outer"]
    assert [site.rsplit("/", 1)[-1] for site in inside()[:2]] == ["application.py:2:ask", "a.py:2:outer"]
    assert inside()[0].endswith("session_exporter/demo/application.py:2:ask")


def test_generated_code_of_a_library_is_left_out(application: Application, tmp_path: Path) -> None:
    generated = application("def init(f):\n    return f()\n", "<string>", name="attrs")["init"]
    inside = application("def ask():\n    return init(call_sites)\n", tmp_path / "a.py", init=generated)["ask"]
    assert inside()[0] == "a.py:2:ask"


def test_code_that_somebody_typed_is_an_application(application: Application) -> None:
    ask = application("def ask():\n    return call_sites()\n", "<stdin>", name="__main__")["ask"]
    assert ask()[0] == "<stdin>:2:ask"


def test_an_application_installed_as_a_library_is_named_by_its_nearest_frame() -> None:
    code = (
        "import sys, threading; sys.path.insert(0, sys.argv[1]); from session_exporter.callsites import call_sites\n"
        "found = []; names = {'found': found, 'call_sites': call_sites}\n"
        "source = 'def ask():\\n    found.append(call_sites())\\ndef outer():\\n    ask()\\n'\n"
        "exec(compile(source, '/opt/v/lib/site-packages/app/main.py', 'exec'), names)\n"
        "thread = threading.Thread(target=names['outer']); thread.start(); thread.join(); print(found)\n"
    )
    answer = subprocess.run([sys.executable, "-c", code, ROOT.parent], capture_output=True, text=True, check=True)
    assert answer.stdout == "[('main.py:2:ask',)]\n"


def test_a_path_is_relative_to_the_deepest_root_it_lies_under(
    application: Application, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    ask = application("def ask():\n    return call_sites()\n", tmp_path / "src" / "shop" / "cart.py")["ask"]
    assert ask()[0] == "shop/cart.py:2:ask"


def test_a_path_is_relative_to_the_working_directory_when_no_entry_of_the_path_holds_it(
    application: Application, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [])
    ask = application("def ask():\n    return call_sites()\n", tmp_path / "jobs" / "nightly.py")["ask"]
    assert ask()[0] == "jobs/nightly.py:2:ask"


@pytest.mark.parametrize("path", ["/srv/secret-machine/app.py", "../elsewhere/app.py"])
def test_a_file_outside_of_every_root_is_named_without_its_directory(application: Application, path: str) -> None:
    ask = application("def ask():\n    return call_sites()\n", path)["ask"]
    assert ask()[0] == "app.py:2:ask"


def test_a_removed_working_directory_does_no_harm(
    application: Application, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    ask = application("def ask():\n    return call_sites()\n", "/srv/app.py")["ask"]
    assert ask()[0] == "app.py:2:ask"


def test_a_site_is_at_most_200_characters_and_keeps_the_end_of_its_path(
    application: Application, tmp_path: Path
) -> None:
    path = tmp_path / ("d" * 200) / ("e" * 200) / "views.py"
    ask = application("def ask():\n    return call_sites()\n", path)["ask"]
    assert len(ask()[0]) == 200
    assert ask()[0].endswith("e/views.py:2:ask")


def test_a_qualified_name_beyond_all_measure_is_cut(application: Application, tmp_path: Path) -> None:
    name = "f" * 500
    ask = application(f"def {name}():\n    return call_sites()\n", tmp_path / "a.py")[name]
    assert len(ask()[0]) == 200


def test_a_file_name_that_is_not_utf_8_makes_a_site_that_can_be_encoded(
    application: Application, tmp_path: Path
) -> None:
    ask = application("def ask():\n    return call_sites()\n", f"{tmp_path}/caf\udce9.py")["ask"]
    assert ask()[0].encode() == b"caf\\udce9.py:2:ask"


def test_no_more_than_64_frames_are_walked(application: Application, tmp_path: Path) -> None:
    library = "def dive(n, f):\n    return dive(n - 1, f) if n else f()\n"
    dive = application(library, tmp_path / "site-packages" / "lib.py")["dive"]
    inside = application("def ask(n):\n    return dive(n, call_sites)\n", tmp_path / "a.py", dive=dive)["ask"]
    assert inside(62)[0] == "a.py:2:ask"
    assert inside(63) == ("site-packages/lib.py:2:dive",)


def test_what_is_remembered_of_code_is_bounded(
    application: Application, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callsites, "CODES_REMEMBERED_MAX", 8)
    for n in range(50):
        ask = application(f"def ask{n}():\n    return call_sites()\n", tmp_path / f"m{n}.py")[f"ask{n}"]
        assert ask()[0] == f"m{n}.py:2:ask{n}"
    assert len(callsites._origins) <= 8


def test_code_that_takes_the_address_of_collected_code_is_not_mistaken_for_it(
    application: Application, tmp_path: Path
) -> None:
    for n in range(200):
        ask = application(f"def ask():\n    return call_sites()  # {n}\n", tmp_path / f"n{n}.py")["ask"]
        assert ask()[0] == f"n{n}.py:2:ask"


def test_a_statement_of_an_asynchronous_engine_is_made_where_the_coroutine_waits() -> None:
    engine, seen = create_async_engine("sqlite+aiosqlite://"), []
    event.listen(engine.sync_engine, "after_execute", lambda *_: seen.append(call_sites()))

    async def ask() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
        await engine.dispose()

    asyncio.run(ask())
    ((listener, coroutine),) = [sites[:2] for sites in seen]
    assert listener.endswith("<lambda>")
    assert coroutine.endswith(
        "test_a_statement_of_an_asynchronous_engine_is_made_where_the_coroutine_waits.<locals>.ask"
    )


def test_greenlets_below_greenlets_are_walked_to_the_application(application: Application, tmp_path: Path) -> None:
    library = "def below(f):\n    return greenlet(f).switch()\n"
    below = application(library, tmp_path / "site-packages" / "lib.py", greenlet=greenlet)["below"]
    inside = application(
        "def ask():\n    return below(lambda: below(lambda: call_sites()))\n", tmp_path / "a.py", below=below
    )["ask"]
    assert [site.rpartition(":")[2] for site in inside()] == [
        "ask.<locals>.<lambda>.<locals>.<lambda>",
        "ask.<locals>.<lambda>",
        "ask",
    ]
