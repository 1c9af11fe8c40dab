"""Methods of the application's classes that are replaced until they are put back."""

import functools
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

from session_exporter.postimport import when_imported

Method = Callable[..., Any]
OnFailure = Callable[[Exception], None]
# The class, the method's name, and what makes the one that takes its place.
Replacements = list[tuple[type, str, Callable[[Method], Method]]]


class Patch:
    """A method that is replaced, for objects that exist already as well.

    Args:
        owner: The class that defines it.
        name: The method's name.
        make: Given the method, makes the one that takes its place; that one has to do no more than the original when
            it is called after `undo`, since others may have replaced it in turn and still call it.

    Raises:
        AttributeError: The class has no such method of its own.
    """

    def __init__(self, owner: type, name: str, make: Callable[[Method], Method]) -> None:
        if name not in owner.__dict__:
            raise AttributeError(f"{owner.__module__}.{owner.__qualname__} has no method {name}")
        original = owner.__dict__[name]
        self._owner = owner
        self._name = name
        self._original: Method = original
        self._replacement = functools.wraps(original)(make(original))
        setattr(owner, name, self._replacement)

    def undo(self) -> None:
        """Put the method back, unless somebody else has replaced it since."""
        if self._owner.__dict__.get(self._name) is self._replacement:
            setattr(self._owner, self._name, self._original)


class Patches:
    """Methods of one module's classes that are replaced, once that is imported, as long as somebody needs it.

    Args:
        module: The module's name.
        make: Given the module, and what is to be told what goes wrong, says what to replace.
    """

    def __init__(self, module: str, make: Callable[[ModuleType, OnFailure], Replacements]) -> None:
        self._module = module
        self._make = make
        self._lock = threading.RLock()  # what is wanted may be done at once, and import something
        self._needed = 0
        self._done: list[Patch] = []
        self._forget: Callable[[], None] = _nothing
        self._on_failure: OnFailure = _ignored

    def need(self, on_failure: OnFailure) -> Callable[[], None]:
        """Replace them, unless they are; `on_failure` is told when they cannot be.

        Returns:
            What says that they are needed no more.
        """
        with self._lock:
            self._needed += 1
            if self._needed == 1:
                self._on_failure = on_failure
                self._forget = when_imported(self._module, self._replace)
        return once(self._release)

    def _release(self) -> None:
        with self._lock:
            self._needed -= 1
            if not self._needed:
                self._forget()
                self._undo()

    def _replace(self, module: ModuleType) -> None:
        try:
            for owner, name, make in self._make(module, self._on_failure):
                self._done.append(Patch(owner, name, make))
        except Exception as error:  # noqa: BLE001 - counted; half of it would be worse than nothing
            self._undo()
            self._on_failure(error)

    def _undo(self) -> None:
        while self._done:
            self._done.pop().undo()


def once(act: Callable[[], None]) -> Callable[[], None]:
    """What does something when it is called for the first time."""
    waiting = [act]

    def act_once() -> None:
        if waiting:
            waiting.pop()()

    return act_once


def _nothing() -> None:
    """Nothing is waited for."""


def _ignored(_error: Exception) -> None:
    """Nobody needs anything."""
