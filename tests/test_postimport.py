"""Acting on a module once it is there, without importing it."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from session_exporter.postimport import when_imported


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
        "from session_exporter.postimport import when_imported\n"
        "first, seen = 1, []\n"
        "when_imported(__name__, lambda found: seen.append(found.first))\n"
    )
    assert importlib.import_module(name).seen == [1]
