"""Modules written for a test, as an application's would stand on disk."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from types import ModuleType


class Application:
    """Writes and imports modules below one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, name: str, source: str) -> None:
        path = self.directory.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(source), "utf-8")
        importlib.invalidate_caches()

    def load(self, name: str, source: str = "") -> ModuleType:
        if source:
            self.write(name, source)
        return importlib.import_module(name)


@contextmanager
def application(directory: Path) -> Iterator[Application]:
    before, writes_bytecode = set(sys.modules), sys.dont_write_bytecode
    sys.path.insert(0, str(directory))
    sys.dont_write_bytecode = True  # a module that is written twice in one second would be taken from there
    try:
        yield Application(directory)
    finally:
        sys.dont_write_bytecode = writes_bytecode
        sys.path.remove(str(directory))
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(directory)):
                del sys.modules[name]
