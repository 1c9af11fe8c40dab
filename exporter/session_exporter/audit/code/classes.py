"""What the text of a class tells about how long its objects live."""

import ast
import re
from typing import Final

from session_exporter.audit.code.naming import dotted, tail
from session_exporter.audit.code.parsed import OwnedFunction, ParsedModule, assigned

_MANAGED: Final = frozenset({"__enter__", "__aenter__", "__exit__", "__aexit__", "__del__"})
_UNIT_OF_WORK: Final = re.compile(r"UnitOfWork|UoW|Uow|ContextManager")
_CLOSING: Final = re.compile(r"(close|aclose|remove|close_all|__exit__|__aexit__)")
_ONLY: Final = frozenset({"instance", "singleton"})


def is_managed(cls: ast.ClassDef, methods: list[OwnedFunction]) -> bool:
    """Whether objects of a class are closed by a `with` statement, by its methods or by what its bases are called."""
    names = [cls.name, *map(tail, cls.bases)]
    return any(method.node.name in _MANAGED for method in methods) or any(map(_UNIT_OF_WORK.search, names))


def is_singleton(module: ParsedModule, cls: ast.ClassDef) -> bool:
    """Whether a class keeps its only object: `_instance = None` in its body, and an assignment to it in a method."""
    kept = {dotted(target) for statement in cls.body for target in assigned(statement)[1]}
    names = {name for name in kept if name.strip("_") in _ONLY}
    return any(
        dotted(target).rpartition(".")[2] in names
        for method in (module.methods_of(cls) if names else ())
        for statement in method.assignments
        for target in assigned(statement)[1]
    )


def closes(cls: ast.ClassDef, name: str) -> bool:
    """Whether a class closes what it keeps as `self.name`."""
    kept = f"self.{name}"
    for node in ast.walk(cls):
        if isinstance(node, ast.Attribute) and _CLOSING.fullmatch(node.attr) and dotted(node.value) == kept:
            return True
        if isinstance(node, ast.withitem) and dotted(node.context_expr) == kept:
            return True
    return False
