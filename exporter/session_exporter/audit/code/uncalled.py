"""SE108: functions that were written to count losses and duplicates of sessions, and that nobody calls."""

import ast
import re
from collections.abc import Iterator
from typing import Final

from session_exporter.audit.code.faults import Fault
from session_exporter.audit.code.naming import dotted, tail, words
from session_exporter.audit.code.parsed import OwnedFunction, ParsedModule

_VERBS: Final = r"track|record|report|count|log|note|mark|emit|observe|increment|inc|detect"
_NAMED: Final = re.compile(rb"\b_*(?:" + _VERBS.encode() + rb")_\w+")
_EVENTS: Final = frozenset({"loss", "lost", "losses", "reuse", "reused", "duplicate", "duplicates", "created", "race"})
_THINGS: Final = frozenset({"session", "sessions", "context", "contexts", "conversation", "conversations"})
_PLAIN: Final = frozenset({"staticmethod", "classmethod"})
_BASES: Final = frozenset({"", "object", "ABC"})


class UncalledFunctions:
    """Collects the tracking functions of all modules, and every other mention of their names."""

    def __init__(self) -> None:
        # Of each function's name: the class whose method it is, if any, and what to report.
        self._defined: dict[str, list[tuple[str, Fault]]] = {}
        self._imported: set[str] = set()
        self._mentioned: set[str] = set()

    def take(self, module: ParsedModule) -> None:
        """Look at a module."""
        names = {each.name for each in module.imports}
        # What `__init__.py` imports is offered to those who install the package.
        (self._mentioned if module.inside.endswith("__init__.py") else self._imported).update(names)
        if not any(_tells(name.decode()) for name in set(_NAMED.findall(module.source))):
            return
        for function in module.functions:
            name = function.node.name
            if not _tells(name):
                continue
            if _is_for_others(function) or module.is_test:
                self._mentioned.add(name)
            else:
                fault = module.fault("SE108", function.node, f"{name}() is never called")
                owner = function.owner.name if function.owner is not None else ""
                self._defined.setdefault(name, []).append((owner, fault))
        self._mentioned.update(_mentions(module.tree))

    def take_unparsed(self, source: bytes) -> None:
        """Take every name in a file that could not be parsed for a call."""
        self._mentioned.update(name.decode() for name in _NAMED.findall(source))

    def faults(self) -> Iterator[Fault]:
        """Return the functions that were defined and never mentioned.

        Methods only of classes that some module works with: others are a library's, made for those who install it.
        """
        for name, defined in self._defined.items():
            if name not in self._mentioned:
                yield from (fault for owner, fault in defined if not owner or owner in self._imported)


def _tells(name: str) -> bool:
    parts = words(name)
    return not _EVENTS.isdisjoint(parts) and not _THINGS.isdisjoint(parts) and parts[0] in _VERBS.split("|")


def _is_for_others(function: OwnedFunction) -> bool:
    """Whether somebody may call it by another way: through a decorator, or through the class it overrides."""
    if any(tail(each) not in _PLAIN for each in function.node.decorator_list):
        return True
    return function.owner is not None and any(dotted(each) not in _BASES for each in function.owner.bases)


def _mentions(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and _tells(name := tail(node)):
            yield name
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            yield node.value
