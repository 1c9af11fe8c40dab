"""A source file as the rules see it: its tree, its imports, its classes and functions."""

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final, NamedTuple, TypeAlias

from session_exporter.audit.code.faults import Fault, Spot
from session_exporter.audit.code.naming import dotted

AnyFunction: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
_IGNORED: Final = re.compile(rb"#\s*session-exporter:\s*ignore(?:\[([A-Z0-9, ]*)\])?")
_TEST_FOLDERS: Final = frozenset({"test", "tests", "testing"})
_RUN_ONCE: Final = frozenset({"migrations", "alembic", "versions"})


class NotParsed(Exception):
    """A file is no Python source that this version of Python can read; the message says why."""


@dataclass(frozen=True, slots=True)
class ImportedName:
    """One name that a module imports: `from module import name`; no name for `import module`.

    Attributes:
        module: Its full name; relative imports begin with a dot.
        certain: No `if` decides about it (such as TYPE_CHECKING), and nothing else is imported where it is missing.
    """

    module: str
    name: str
    local: str
    line: int
    column: int
    certain: bool


@dataclass(slots=True)
class OwnedFunction:
    """A function, and the class whose method it is.

    Attributes:
        assignments: The statements in it that assign, those of functions inside it left out.
        returns: The statements in it that return, likewise.
        declared: The names that it declares to be global.
    """

    node: AnyFunction
    owner: ast.ClassDef | None
    assignments: list[ast.Assign | ast.AnnAssign] = field(default_factory=list)
    returns: list[ast.Return] = field(default_factory=list)
    declared: set[str] = field(default_factory=set)

    @property
    def is_async(self) -> bool:
        """Whether it is a coroutine function."""
        return isinstance(self.node, ast.AsyncFunctionDef)


@dataclass(slots=True)
class ParsedModule:
    """One source file.

    Attributes:
        path: As it is shown.
        inside: Its path below what was asked to be read, with `/`.
        origins: What each imported name stands for: `Session` for `sqlalchemy.orm.Session`.
        top: The statements that run when it is imported, those under `if`, `try` and `with` included.
        classes: All classes; those at the top level alone are in `top`.
        assignments: The statements outside of functions that assign, those in the bodies of classes among them.
        lowered: The source in lower case, in which words are looked for before anything is understood.
        ignored: For each line with a comment, the rules not to report there; an empty set is all of them.
    """

    path: str
    inside: str
    source: bytes
    tree: ast.Module
    lowered: bytes
    imports: list[ImportedName] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)
    top: list[ast.stmt] = field(default_factory=list)
    classes: list[ast.ClassDef] = field(default_factory=list)
    functions: list[OwnedFunction] = field(default_factory=list)
    assignments: list[ast.Assign | ast.AnnAssign] = field(default_factory=list)
    ignored: dict[int, frozenset[str]] = field(default_factory=dict)

    def methods_of(self, cls: ast.ClassDef) -> list[OwnedFunction]:
        """Return the methods of a class."""
        return [function for function in self.functions if function.owner is cls]

    @property
    def is_test(self) -> bool:
        """Whether it is a test: what happens there happens once, and to nobody."""
        *folders, name = PurePosixPath(self.inside).parts
        named = name.startswith("test_") or name in {"conftest.py", "tests.py"} or name.endswith("_test.py")
        return named or not _TEST_FOLDERS.isdisjoint(folders)

    @property
    def runs_once(self) -> bool:
        """Whether it is a migration of a database."""
        return not _RUN_ONCE.isdisjoint(PurePosixPath(self.inside).parts)

    def resolve(self, node: ast.AST | None) -> str:
        """Write a name in full: `orm.Session` is `sqlalchemy.orm.Session` after `from sqlalchemy import orm`."""
        first, dot, rest = dotted(node).partition(".")
        return f"{self.origins.get(first, first)}{dot}{rest}"

    def spot(self, node: ast.AST) -> Spot:
        """Where a node is."""
        return Spot(self.path, getattr(node, "lineno", 1), getattr(node, "col_offset", 0) + 1)

    def fault(self, rule: str, node: ast.AST, message: str, *related: ast.AST) -> Fault:
        """Report a node."""
        return Fault(self.spot(node), rule, message, tuple(map(self.spot, related)))


def assigned(node: ast.AST) -> tuple[ast.expr | None, list[ast.expr]]:
    """Return the value that a statement assigns, and to what; no targets when it does not assign."""
    if isinstance(node, ast.Assign):
        return node.value, node.targets
    if isinstance(node, ast.AnnAssign):
        return node.value, [node.target]
    return None, []


def parse_module(source: bytes, path: str, inside: str) -> ParsedModule:
    """Read a source file; its bytes are decoded as Python itself does.

    Raises:
        NotParsed: It is no Python source.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the source: that is between it and its author
            tree = ast.parse(source)
    except SyntaxError as error:
        raise NotParsed(f"line {error.lineno}: {error.msg}" if error.lineno else str(error.msg)) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise NotParsed(str(error) or type(error).__name__) from error
    module = ParsedModule(path, inside, source, tree, source.lower(), ignored=_ignored_lines(source))
    _Indexing(module).run()
    return module


def _ignored_lines(source: bytes) -> dict[int, frozenset[str]]:
    if b"session-exporter:" not in source:
        return {}
    found = {}
    for number, line in enumerate(source.splitlines(), start=1):
        if comment := _IGNORED.search(line):
            ids = (comment[1] or b"").decode("ascii").replace(",", " ").split()
            found[number] = frozenset(ids)
    return found


class _Place(NamedTuple):
    """Where a statement stands: in the body of which class, in which function."""

    cls: ast.ClassDef | None
    function: OwnedFunction | None
    is_top: bool
    certain: bool


_AT_TOP: Final = _Place(None, None, is_top=True, certain=True)


class _Indexing:
    """Goes through all statements, expressions left out; without recursion, for trees of any depth."""

    def __init__(self, module: ParsedModule) -> None:
        self._module = module

    def run(self) -> None:
        stack: list[tuple[ast.AST, _Place]] = [(node, _AT_TOP) for node in reversed(self._module.tree.body)]
        while stack:
            node, place = stack.pop()
            if place.is_top and isinstance(node, ast.stmt):
                self._module.top.append(node)
            inner = self._take(node, place)
            stack += [(child, inner) for child in _statements_below(node)]

    def _take(self, node: ast.AST, place: _Place) -> _Place:
        """Take a statement, and return where the statements in it stand."""
        module = self._module
        if isinstance(node, ast.Assign | ast.AnnAssign):
            (place.function or module).assignments.append(node)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            self._take_import(node, certain=place.certain)
        elif isinstance(node, ast.ClassDef):
            module.classes.append(node)
            return _Place(node, None, is_top=False, certain=place.certain)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            module.functions.append(OwnedFunction(node, place.cls))
            return _Place(None, module.functions[-1], is_top=False, certain=place.certain)
        elif isinstance(node, ast.Return | ast.Global):
            _take_into(place.function, node)
        elif isinstance(node, ast.If) or (isinstance(node, ast.Try) and _has_another(node)):
            return place._replace(certain=False)
        return place

    def _take_import(self, node: ast.Import | ast.ImportFrom, *, certain: bool) -> None:
        module = self._module
        for alias in node.names:
            if isinstance(node, ast.Import):
                local = alias.asname or alias.name.partition(".")[0]
                found = ImportedName(alias.name, "", local, node.lineno, node.col_offset + 1, certain)
                origin = alias.name if alias.asname else local
            else:
                name = "." * node.level + (node.module or "")
                local = alias.asname or alias.name
                found = ImportedName(name, alias.name, local, node.lineno, node.col_offset + 1, certain)
                origin = f"{name}.{alias.name}"
            module.imports.append(found)
            module.origins[local] = origin


def _take_into(function: OwnedFunction | None, node: ast.Return | ast.Global) -> None:
    if function is None:
        return  # a `return` outside of functions is found by the compiler, not by the parser
    if isinstance(node, ast.Return):
        function.returns.append(node)
    else:
        function.declared.update(node.names)


def _statements_below(node: ast.AST) -> Iterator[ast.AST]:
    """Its statements, the last one first."""
    for name in ("finalbody", "orelse", "handlers", "cases", "body"):
        below = getattr(node, name, None)
        if isinstance(below, list):
            yield from reversed(below)


def _has_another(node: ast.Try) -> bool:
    """Whether it imports something else where the first is missing."""
    caught = {name for handler in node.handlers for name in _caught(handler)}
    return not caught.isdisjoint({"ImportError", "ModuleNotFoundError", "Exception", ""})


def _caught(handler: ast.ExceptHandler) -> list[str]:
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return [dotted(each) for each in types]
