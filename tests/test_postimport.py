"""Acting on a module once it is there, without importing it."""

import importlib
import importlib.util
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from session_exporter.postimport import at_each_import, when_imported


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes an importable module of a text; gives its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(text: str) -> str:
        name = f"postimported_{uuid4().hex}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return make


def test_a_module_that_is_there_is_acted_on_at_once() -> None:
    seen: list[object] = []
    when_imported("json", seen.append)
    assert seen == [sys.modules["json"]]


def test_a_module_that_is_not_is_acted_on_when_the_application_imports_it(module: Callable[[str], str]) -> None:
    name, seen = module("value = 7"), []
    when_imported(name, lambda found: seen.append(found.value))
    when_imported(name, lambda found: seen.append(found.value + 1))
    assert (name in sys.modules, seen) == (False, [])
    importlib.import_module(name)
    assert seen == [7, 8]


def test_what_is_forgotten_before_does_not_happen(module: Callable[[str], str]) -> None:
    name, seen = module(""), []
    forget = when_imported(name, seen.append)
    forget()
    forget()
    importlib.import_module(name)
    assert seen == []


def test_a_module_is_acted_on_each_time_it_is_executed(module: Callable[[str], str]) -> None:
    name, seen = module("value = 7"), []
    forget = at_each_import(name, seen.append)
    found = importlib.import_module(name)
    at_each_import("json", seen.append)()
    importlib.reload(found)
    del sys.modules[name]
    anew = importlib.import_module(name)
    assert seen == [found, sys.modules["json"], found, anew]
    forget()
    importlib.reload(anew)
    assert len(seen) == 4


def test_an_import_that_fails_is_followed_by_one_that_does_not(module: Callable[[str], str]) -> None:
    name, seen = module("import sys\nif not getattr(sys, 'mended', False): raise ValueError"), []
    when_imported(name, seen.append)
    with pytest.raises(ValueError):  # noqa: PT011 - it has no text
        importlib.import_module(name)
    sys.mended = True
    try:
        importlib.import_module(name)
    finally:
        del sys.mended
    assert seen == [sys.modules[name]]


def test_a_module_that_asks_for_itself_is_acted_on_as_far_as_it_is_there(module: Callable[[str], str]) -> None:
    name = module(
        "from session_exporter.postimport import at_each_import, when_imported\n"
        "first, seen = 1, []\n"
        "when_imported(__name__, lambda found: seen.append(found.first))\n"
    )
    assert importlib.import_module(name).seen == [1]


def test_one_who_comes_while_an_awaited_module_is_imported_waits_for_its_end(module: Callable[[str], str]) -> None:
    name = module(
        "from session_exporter.postimport import at_each_import, when_imported\n"
        "seen = []\n"
        "when_imported(__name__, lambda found: seen.append(found.last))\n"
        "last = 'whole'\n"
    )
    when_imported(name, lambda _: None)
    assert importlib.import_module(name).seen == ["whole"]


def test_one_who_comes_while_the_others_are_told_is_told_too(module: Callable[[str], str]) -> None:
    name, seen = module(""), []
    when_imported(name, lambda _: when_imported(name, seen.append))
    assert importlib.import_module(name) in seen


def test_a_module_inside_of_a_package_is_acted_on_before_its_importer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, name = tmp_path / f"package_{uuid4().hex}", "later"
    package.mkdir()
    (package / f"{name}.py").write_text("value = 1\n")
    (package / "user.py").write_text("from .later import value\n")
    monkeypatch.syspath_prepend(tmp_path)
    when_imported(f"{package.name}.{name}", lambda found: setattr(found, "value", 2))
    assert importlib.import_module(f"{package.name}.user").value == 2


def test_the_module_and_who_looks_for_it_find_the_loader_they_would_have_found(module: Callable[[str], str]) -> None:
    name = module("loaders = __loader__, __spec__.loader\n")
    when_imported(name, lambda _: None)
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.loader.get_source(name) == "loaders = __loader__, __spec__.loader\n"
    imported = importlib.import_module(name)
    assert {type(each).__name__ for each in (*imported.loaders, imported.__loader__)} == {"SourceFileLoader"}


def test_a_module_in_an_archive_is_acted_on_and_its_neighbour_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, other = f"zipped_{uuid4().hex}", f"neighbour_{uuid4().hex}"
    with zipfile.ZipFile(tmp_path / "modules.zip", "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{other}.py", "")
    monkeypatch.syspath_prepend(tmp_path / "modules.zip")
    seen: list[object] = []
    when_imported(name, seen.append)
    importlib.import_module(other)
    assert seen == []
    assert importlib.import_module(name) in seen


def test_a_module_that_puts_something_in_its_place_is_acted_on_as_that(module: Callable[[str], str]) -> None:
    name, seen = module("import sys, types\nsys.modules[__name__] = types.SimpleNamespace()\n"), []
    when_imported(name, seen.append)
    assert importlib.import_module(name) in seen


def test_a_module_that_does_not_exist_is_missing_as_ever() -> None:
    name = f"missing_{uuid4().hex}"
    when_imported(name, lambda _: None)
    with pytest.raises(ModuleNotFoundError, match=name):
        importlib.import_module(name)


def test_waiting_for_a_module_imports_nothing_that_a_program_may_want_to_replace_first() -> None:
    program = (
        "import sys; from session_exporter.postimport import when_imported; when_imported('app', print);"
        "print([name for name in ('wrapt', 'asyncio', 'ssl', 'socket', 'selectors') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
