"""Doing something to a module once it is there: at once, or when the application imports it."""

import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Final

OnImport = Callable[[ModuleType], None]

# A module whose import failed half way is registered all the same, until its import ends.
_registered: Final[set[str]] = set()
_waiting: Final[dict[str, list[OnImport]]] = {}
_lock: Final = threading.RLock()


def when_imported(name: str, act: OnImport) -> Callable[[], None]:
    """Call `act` with the module `name`: now when it has been imported, else right after the application imports it.

    Nothing is imported for it. `act` must not raise.

    Returns:
        What forgets about it, when it has not happened yet.
    """
    module = sys.modules.get(name)
    if module is not None and not _is_being_imported(module):
        act(module)
        return lambda: None
    with _lock:
        _waiting.setdefault(name, []).append(act)
        if name not in _registered:
            _registered.add(name)
            from wrapt import register_post_import_hook  # noqa: PLC0415 - tens of milliseconds, and few need it

            register_post_import_hook(_arrived, name)
    return lambda: _forget(name, act)


def _arrived(module: ModuleType) -> None:
    name = module.__name__
    with _lock:
        acts = _waiting.pop(name, [])
        _registered.discard(name)
    for act in acts:
        act(module)


def _forget(name: str, act: OnImport) -> None:
    with _lock:
        if act in _waiting.get(name, ()):
            _waiting[name].remove(act)


def _is_being_imported(module: ModuleType) -> bool:
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))
