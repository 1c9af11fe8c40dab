"""The order in which a function does things, as far as its text tells it.

Two nodes of one function: does the second come after the first, in the same run? Branches of one `if` or `match`
exclude each other, and so does what follows a branch that returns. Functions inside it are functions of their own.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

# Functions inside are functions of their own.
_WITHOUT_PARTS: Final = (
    ast.Name, ast.Constant, ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef,
)  # fmt: skip
_BRANCHING: Final = (ast.If, ast.IfExp, ast.Match, ast.Try)
# They have no place of their own in the text.
_NO_PARTS: Final = (ast.expr_context, ast.operator, ast.boolop, ast.unaryop, ast.cmpop)
_LEAVING: Final = (ast.Return, ast.Raise, ast.Continue, ast.Break)
_NODES_MAX: Final = 50_000
# Of each kind of step that rules compare, the first so many of a function: what is longer was not written by hand.
STEPS_MAX: Final = 30


@dataclass(frozen=True, slots=True)
class Arm:
    """One branch of a statement or expression.

    Attributes:
        node: The `if`, `match`, `try` or conditional expression.
        number: 0 for the body, 1 for `else`; of a `match` the number of the case; of a `try` the handler's, from 1.
        leaves: What follows the statement is not reached from here.
    """

    node: ast.AST
    number: int
    leaves: bool = False


Path: TypeAlias = tuple[Arm, ...]


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A node of a function, in its order, with the branches it is in, outermost first."""

    node: ast.AST
    order: int
    path: Path

    def may_follow(self, earlier: "Occurrence") -> bool:
        """Whether one run may come to this node after `earlier`."""
        if self.order <= earlier.order:
            return False
        mine = {id(arm.node): arm for arm in self.path}
        for arm in earlier.path:
            other = mine.get(id(arm.node))
            if other is None:
                if arm.leaves:
                    return False
            elif other.number != arm.number:
                return isinstance(arm.node, ast.Try)
        return True


def occurrences(function: ast.AST) -> list[Occurrence]:
    """All nodes of a function's body, in the order of its text; at most 50,000."""
    found: list[Occurrence] = []
    stack: list[tuple[ast.AST, Path]] = [(node, ()) for node in reversed(getattr(function, "body", []))]
    while stack and len(found) < _NODES_MAX:
        node, path = stack.pop()
        found.append(Occurrence(node, len(found), path))
        if isinstance(node, ast.Attribute):
            stack.append((node.value, path))
        elif isinstance(node, _BRANCHING):
            stack += reversed(list(_below(node, path)))
        elif not isinstance(node, _WITHOUT_PARTS):
            stack += [(child, path) for child in reversed(_parts(node))]
    return found


def _below(node: ast.AST, path: Path) -> Iterator[tuple[ast.AST, Path]]:
    if isinstance(node, ast.If | ast.IfExp):
        yield node.test, path
        for number, arm in enumerate((node.body, node.orelse)):
            yield from _arm(node, number, arm, path)
    elif isinstance(node, ast.Match):
        yield node.subject, path
        for number, case in enumerate(node.cases):
            if case.guard is not None:
                yield case.guard, path
            yield from _arm(node, number, case.body, path)
    elif isinstance(node, ast.Try):
        yield from _arm(node, 0, [*node.body, *node.orelse], path)
        for number, handler in enumerate(node.handlers, start=1):
            if handler.type is not None:
                yield handler.type, path
            yield from _arm(node, number, handler.body, path)
        yield from ((each, path) for each in node.finalbody)


def _parts(node: ast.AST) -> list[ast.AST]:
    """The parts of a node in the order of their evaluation: what is assigned comes before where it goes."""
    parts = [child for child in ast.iter_child_nodes(node) if not isinstance(child, _NO_PARTS)]
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr) and node.value is not None:
        parts.remove(node.value)
        parts.insert(0, node.value)
    return parts


def _arm(node: ast.AST, number: int, arm: ast.AST | list[ast.stmt], path: Path) -> Iterator[tuple[ast.AST, Path]]:
    body = arm if isinstance(arm, list) else [arm]
    leaves = bool(body) and isinstance(body[-1], _LEAVING)
    inner = (*path, Arm(node, number, leaves))
    yield from ((each, inner) for each in body)
