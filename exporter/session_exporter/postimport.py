"""Doing something to a module once it is there: at once, or when the application imports it.

`wrapt` could tell as well, but importing it imports asyncio and ssl: tens of milliseconds in every process, and too
early for programs that replace parts of these first.
"""

import sys
import threading
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Final

OnImport = Callable[[ModuleType], None]

_waiting: Final[dict[str, list[OnImport]]] = {}
_lasting: Final[dict[str, list[OnImport]]] = {}
# Modules whose import somebody waits for, and is to be told the end of.
_under_way: Final[set[str]] = set()
_lock: Final = threading.RLock()


def when_imported(name: str, act: OnImport) -> Callable[[], None]:
    """Call `act` with the module `name`: now when it has been imported, else right after the application imports it.

    Nothing is imported for it. A module that is just being imported, further up on the stack, counts as imported,
    unless somebody waited for it when its import began. `act` must not raise.

    Returns:
        What forgets about it, when it has not happened yet.
    """
    module = sys.modules.get(name)
    if module is not None and name not in _under_way:
        act(module)
        return lambda: None
    return _await(_waiting, name, act)


def at_each_import(name: str, act: OnImport) -> Callable[[], None]:
    """Do what `when_imported` does, and again whenever the module is executed anew, as `importlib.reload` does.

    Returns:
        What forgets about it.
    """
    forget = _await(_lasting, name, act)
    module = sys.modules.get(name)
    if module is not None and name not in _under_way:
        act(module)
    return forget


def _await(awaited: dict[str, list[OnImport]], name: str, act: OnImport) -> Callable[[], None]:
    with _lock:
        awaited.setdefault(name, []).append(act)
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)
    return lambda: _forget(awaited, name, act)


def _forget(awaited: dict[str, list[OnImport]], name: str, act: OnImport) -> None:
    with _lock:
        if act in awaited.get(name, ()):
            awaited[name].remove(act)


class _Finder:
    """Finds the modules that somebody waits for, where the other finders find them."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if not (_waiting.get(fullname) or _lasting.get(fullname)):
            return None
        for finder in list(sys.meta_path):
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: Any = None if find is None else find(fullname, path, target)
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _TellingLoader(fullname, spec.loader)
                return spec
        return None


_finder: Final = _Finder()


class _TellingLoader:
    """Loads as another loader does, then tells those who wait; the module knows only the other one."""

    def __init__(self, name: str, loader: Any) -> None:
        self._name = name
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        _under_way.add(self._name)
        try:
            self._loader.exec_module(module)
        finally:
            _under_way.discard(self._name)
        _arrived(self._name, module)


def _arrived(name: str, module: ModuleType) -> None:
    with _lock:
        acts = [*_waiting.pop(name, []), *_lasting.get(name, [])]
    for act in acts:
        # A module may put another object in its place while it is executed.
        act(sys.modules.get(name, module))
