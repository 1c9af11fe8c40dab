"""Doing something to a module once it is there: at once, or when the application imports it.

`wrapt` could tell as well, but importing it imports asyncio and ssl: tens of milliseconds in every process, and too
early for programs that replace parts of these first.
"""

import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Final

OnImport = Callable[[ModuleType], None]

_waiting: Final[dict[str, list[OnImport]]] = {}
_arriving: Final[set[str]] = set()
_lock: Final = threading.RLock()


def when_imported(name: str, act: OnImport) -> Callable[[], None]:
    """Call `act` with the module `name`: now when it has been imported, else right after the application imports it.

    Nothing is imported for it. A module that is just being imported, further up on the stack, counts as imported. `act`
    must not raise.

    Returns:
        What forgets about it, when it has not happened yet.
    """
    module = sys.modules.get(name)
    if module is not None and (name in _arriving or not _is_being_imported(module)):
        act(module)
        return lambda: None
    with _lock:
        _waiting.setdefault(name, []).append(act)
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)
    return lambda: _forget(name, act)


def _forget(name: str, act: OnImport) -> None:
    with _lock:
        if act in _waiting.get(name, ()):
            _waiting[name].remove(act)
