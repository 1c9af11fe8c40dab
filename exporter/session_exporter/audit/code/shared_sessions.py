"""SE104: sessions in module globals, singletons, cached functions, and in the state of an application.

A global counts when a function of its module uses it or another module imports it: a script that opens a session, works
and ends, shares it with nobody. Which modules import what is known when all have been read.
"""

import ast
import re
from collections.abc import Iterator
from typing import Final

from session_exporter.audit.code.classes import is_singleton
from session_exporter.audit.code.faults import Fault
from session_exporter.audit.code.naming import dotted, noun_of, tail, text_of, words
from session_exporter.audit.code.opening import SessionOpenings
from session_exporter.audit.code.parsed import OwnedFunction, ParsedModule, assigned

_CACHES: Final = frozenset({"cache", "lru_cache", "cached"})
# A global of such a name is one user's.
_CURRENT: Final = frozenset({"current", "active", "last", "latest", "this"})
_APPLICATION: Final = re.compile(r"(?:self\.)?(?:app|application|current_app)(?:\.state)?\.\w+")


class SharedSessions:
    """Collects the globals of all modules that hold a database session, and who imports them."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, str, Fault]] = []
        self._imported: set[tuple[str, str]] = set()

    def take(self, module: ParsedModule, sessions: SessionOpenings | None) -> Iterator[Fault]:
        """Look at a module; `sessions` is None when nothing in it can be a session.

        Returns:
            What its own text proves. What other modules have to say is in `faults()`.
        """
        for each in module.imports:
            self._imported.add((each.module.rpartition(".")[2], each.name))
        if sessions is None:
            return
        for name, fault in _globals(module, sessions):
            if _used_in_functions(module, name):
                yield fault
            else:
                self._waiting.append((module.inside, name, fault))
        for function in module.functions:
            yield from _declared_global(module, sessions, function)
            yield from _cached(module, sessions, function)
        yield from _on_the_application(module, sessions)
        yield from _in_singletons(module, sessions)

    def faults(self) -> Iterator[Fault]:
        """Return those that another module imports."""
        for inside, name, fault in self._waiting:
            parts = inside.removesuffix(".py").removesuffix("/__init__").split("/")
            if (parts[-1], name) in self._imported:
                yield fault


def _globals(module: ParsedModule, sessions: SessionOpenings) -> Iterator[tuple[str, Fault]]:
    for statement in module.top:
        value, targets = assigned(statement)
        for target in targets:
            if isinstance(target, ast.Name) and sessions.opened_by(value):
                yield (
                    target.id,
                    module.fault("SE104", statement, f"the module global {target.id} is a database session"),
                )
            elif isinstance(target, ast.Name) and _holds_session(sessions, value, set()):
                message = f"the module global {target.id} holds a database session"
                yield target.id, module.fault("SE104", statement, message)


def _holds_session(sessions: SessionOpenings, value: ast.expr | None, given: set[str]) -> bool:
    """Whether an object is made with a session: `Repository(SessionLocal())`, `Repository(db)`."""
    if not isinstance(value, ast.Call) or not (tail(value.func)[:1].isupper() or tail(value.func) == "cls"):
        return False
    arguments = [*value.args, *(each.value for each in value.keywords)]
    return any(sessions.opened_by(each) or dotted(each) in given for each in arguments)


def _used_in_functions(module: ParsedModule, name: str) -> bool:
    for function in module.functions:
        if name in _parameters(function) | _bound(function):
            continue
        if any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(function.node)):
            return True
    return False


def _parameters(function: OwnedFunction) -> set[str]:
    arguments = function.node.args
    return {each.arg for each in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]}


def _bound(function: OwnedFunction) -> set[str]:
    """Names that are the function's own."""
    return {
        node.id
        for node in ast.walk(function.node)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id not in function.declared
    }


def _declared_global(module: ParsedModule, sessions: SessionOpenings, function: OwnedFunction) -> Iterator[Fault]:
    given = sessions.given_to(function) if function.declared else set()
    for statement in function.assignments if function.declared else ():
        value, targets = assigned(statement)
        for name in function.declared.intersection(map(dotted, targets)):
            if sessions.opened_by(value) or dotted(value) in given:
                yield module.fault("SE104", statement, f"the module global {name} is a database session")
            elif _holds_session(sessions, value, given):
                yield module.fault("SE104", statement, f"the module global {name} holds a database session")
            elif _is_one_users(name) and not isinstance(value, ast.Constant):
                yield module.fault("SE104", statement, f"the module global {name} is one user's session")


def _is_one_users(name: str) -> bool:
    stem = name.removesuffix("_id")
    return bool(noun_of(stem)) and not _CURRENT.isdisjoint(words(stem))


def _cached(module: ParsedModule, sessions: SessionOpenings, function: OwnedFunction) -> Iterator[Fault]:
    decorators = [each.func if isinstance(each, ast.Call) else each for each in function.node.decorator_list]
    if not _CACHES.intersection(map(tail, decorators)):
        return
    given = sessions.given_to(function)
    for statement in function.returns:
        if sessions.opened_by(statement.value) or _holds_session(sessions, statement.value, given):
            message = f"{function.node.name}() is cached: all callers are given one database session"
            yield module.fault("SE104", statement, message)


def _on_the_application(module: ParsedModule, sessions: SessionOpenings) -> Iterator[Fault]:
    """Find `app.state.db = SessionLocal()`, `app["db"] = SessionLocal()`."""
    inner = (statement for function in module.functions for statement in function.assignments)
    for statement in (*module.assignments, *inner):
        value, targets = assigned(statement)
        for name in filter(_APPLICATION.fullmatch, map(_name_of, targets)):
            if sessions.opened_by(value):
                yield module.fault("SE104", statement, f"{name} is one database session for all requests")


def _name_of(target: ast.expr) -> str:
    return f"{dotted(target.value)}.{text_of(target.slice)}" if isinstance(target, ast.Subscript) else dotted(target)


def _in_singletons(module: ParsedModule, sessions: SessionOpenings) -> Iterator[Fault]:
    for cls in module.classes:
        for method in module.methods_of(cls) if is_singleton(module, cls) else ():
            given = sessions.given_to(method)
            for statement in method.assignments:
                value, targets = assigned(statement)
                kept = [name for name in map(dotted, targets) if name.startswith("self.")]
                if kept and (sessions.opened_by(value) or dotted(value) in given):
                    message = f"the singleton {cls.name} keeps a database session as {kept[0]}"
                    yield module.fault("SE104", statement, message)
