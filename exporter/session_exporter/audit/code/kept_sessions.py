"""SE103: a database session in a class attribute, or opened by an object that never closes it."""

import ast
import re
from collections.abc import Iterator
from typing import Final

from session_exporter.audit.code.classes import closes, is_managed, is_singleton
from session_exporter.audit.code.faults import Fault
from session_exporter.audit.code.naming import dotted
from session_exporter.audit.code.opening import SessionOpenings
from session_exporter.audit.code.parsed import OwnedFunction, ParsedModule, assigned

_BEGINNING: Final = re.compile(r"setUp|asyncSetUp|setup_")


def find_kept_sessions(module: ParsedModule, sessions: SessionOpenings) -> Iterator[Fault]:
    """Find database sessions that classes keep, all but those of context managers and of tests."""
    for cls in module.classes:
        if not cls.name.startswith("Test") and not cls.name.endswith("TestCase"):
            methods = module.methods_of(cls)
            yield from _on_the_class(module, sessions, cls, methods)
            if not is_managed(cls, methods) and not is_singleton(module, cls):
                yield from _on_self(module, sessions, cls, methods)


def _on_the_class(
    module: ParsedModule, sessions: SessionOpenings, cls: ast.ClassDef, methods: list[OwnedFunction]
) -> Iterator[Fault]:
    places = [(statement, f"{cls.name}.") for statement in cls.body]
    places += [(statement, "") for method in methods for statement in method.assignments]
    for statement, prefix in places:
        value, targets = assigned(statement)
        owner, _, name = f"{prefix}{dotted(targets[0])}".rpartition(".") if targets else ("", "", "")
        if owner in {"cls", cls.name} and sessions.opened_by(value):
            message = f"{cls.name}.{name} is one database session for all objects of the class"
            yield module.fault("SE103", statement, message)


def _on_self(
    module: ParsedModule, sessions: SessionOpenings, cls: ast.ClassDef, methods: list[OwnedFunction]
) -> Iterator[Fault]:
    for statement in (statement for method in methods for statement in method.assignments if not _prepares(method)):
        value, targets = assigned(statement)
        owner, _, name = dotted(targets[0]).rpartition(".")
        # A connection of Django's is closed by Django, after each request.
        if owner == "self" and sessions.opened_by(value, django=False) and not closes(cls, name):
            message = f"{cls.name} opens a database session, keeps it as self.{name}, and never closes it"
            yield module.fault("SE103", statement, message)


def _prepares(method: OwnedFunction) -> bool:
    """Whether it prepares a test."""
    return _BEGINNING.match(method.node.name) is not None
