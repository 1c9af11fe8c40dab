"""Which expressions open a database session: SQLAlchemy's and SQLModel's, and Django's connections."""

import ast
import re
from collections.abc import Iterator
from typing import Final

from session_exporter.audit.code.naming import dotted, tail
from session_exporter.audit.code.parsed import OwnedFunction, ParsedModule, assigned

_CLASSES: Final = re.compile(r"(sqlalchemy|sqlmodel)\.(?:\w+\.)*(Session|AsyncSession)")
_MAKERS: Final = re.compile(r"sqlalchemy\.(?:\w+\.)*(sessionmaker|async_sessionmaker)")
# Names that nothing else has; `sessionmaker` itself makes no session but a maker.
_SESSION_LOCAL: Final = re.compile(r"_?(async_?)?session_?(local|maker)(_?async)?", re.IGNORECASE)
_NO_SESSION: Final = frozenset({"sessionmaker", "async_sessionmaker", "SessionMaker"})
_FACTORY: Final = re.compile(r"_?(db_|async_)?session_?factory", re.IGNORECASE)
# FastAPI's documentation gives such names to an annotated dependency.
_ALIAS: Final = re.compile(r"(Async|Db|DB)*Session(Dep|Depends|Dependency)")
_DEPENDENCIES: Final = frozenset({"get_db", "get_session", "get_db_session", "get_async_session"})


class SessionOpenings:
    """Tells what a module's expressions open; makers are known that the module itself makes."""

    def __init__(self, module: ParsedModule) -> None:
        self._module = module
        self._with_sqlalchemy = any(each.module.startswith(("sqlalchemy", "sqlmodel")) for each in module.imports)
        self._makers = set(self._made()) if self._with_sqlalchemy else set()

    def opened_by(self, node: ast.AST | None, *, django: bool = True) -> bool:
        """Whether an expression is a new database session, or (with `django`) one of Django's connections."""
        if isinstance(node, ast.Await):
            return self.opened_by(node.value, django=django)
        if isinstance(node, ast.BoolOp):
            return any(self.opened_by(value, django=django) for value in node.values)
        if isinstance(node, ast.IfExp):
            return any(self.opened_by(value, django=django) for value in (node.body, node.orelse))
        if isinstance(node, ast.Subscript):
            return django and self._module.resolve(node.value) == "django.db.connections"
        return isinstance(node, ast.Call) and self._is_opening(node)

    def annotated_by(self, node: ast.AST | None) -> bool:
        """Whether an annotation names a database session: `Session`, `Session | None`, `Annotated[Session, ...]`."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return _CLASSES.fullmatch(self._module.origins.get(node.value, "")) is not None
        if isinstance(node, ast.BinOp):
            return self.annotated_by(node.left) or self.annotated_by(node.right)
        if isinstance(node, ast.Subscript) and tail(node.value) in {"Annotated", "Optional"}:
            inner = node.slice
            return self.annotated_by(inner.elts[0] if isinstance(inner, ast.Tuple) and inner.elts else inner)
        if _ALIAS.fullmatch(tail(node)):
            return True
        return _CLASSES.fullmatch(self._module.resolve(node)) is not None

    def given_to(self, function: OwnedFunction) -> set[str]:
        """The parameters that are database sessions, by their annotations or because they are injected."""
        arguments = function.node.args
        named = [*arguments.posonlyargs, *arguments.args]
        defaults = [None] * (len(named) - len(arguments.defaults)) + [*arguments.defaults]
        pairs = [*zip(named, defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
        return {each.arg for each, default in pairs if self.annotated_by(each.annotation) or _is_injected(default)}

    def _is_opening(self, call: ast.Call) -> bool:
        function = call.func
        if isinstance(function, ast.Call):
            return _MAKERS.fullmatch(self._module.resolve(function.func)) is not None
        name = tail(function)
        if name == "next" and len(call.args) == 1 and isinstance(call.args[0], ast.Call):
            return tail(call.args[0].func) in _DEPENDENCIES
        if _CLASSES.fullmatch(self._module.resolve(function)) or dotted(function) in self._makers:
            return True
        if name in _NO_SESSION:
            return False
        if call.args or (call.keywords and "maker" in name.lower()):
            return False  # `session_maker(engine)` makes a maker
        return bool(_SESSION_LOCAL.fullmatch(name) or (self._with_sqlalchemy and _FACTORY.fullmatch(name)))

    def _made(self) -> Iterator[str]:
        inner = (statement for function in self._module.functions for statement in function.assignments)
        for statement in (*self._module.assignments, *inner):
            value, targets = assigned(statement)
            if isinstance(value, ast.Call) and _MAKERS.fullmatch(self._module.resolve(value.func)):
                yield from filter(None, map(dotted, targets))


def _is_injected(default: ast.expr | None) -> bool:
    """Whether a default is FastAPI's `Depends(get_db)`."""
    return (
        isinstance(default, ast.Call)
        and tail(default.func) == "Depends"
        and len(default.args) == 1
        and tail(default.args[0]) in _DEPENDENCIES
    )
