"""Whether something is done because a lookup found nothing."""

import ast
import re
from typing import Final

from session_exporter.audit.code.flow import Occurrence
from session_exporter.audit.code.naming import tail
from session_exporter.audit.code.parsed import assigned

_NOT_FOUND: Final = re.compile(r".*(NotFound|DoesNotExist|NoResultFound|KeyError|LookupError|Missing|NotExist)\w*")


class Absence:
    """Follows the result of one lookup through a function: the names it is given, and the tests of them."""

    def __init__(self, found: list[Occurrence], lookup: Occurrence) -> None:
        self._lookup = lookup
        self._names = self._followed(found)
        self._ifs = [each for each in found if isinstance(each.node, ast.If)]
        self._ors = [
            each.node for each in found if isinstance(each.node, ast.BoolOp) and isinstance(each.node.op, ast.Or)
        ]

    def leads_to(self, creation: Occurrence) -> bool:
        """Whether `creation` is reached because the lookup found nothing."""
        if creation.node is self._lookup.node or not creation.may_follow(self._lookup):
            return False
        return self._in_absent_arm(creation) or self._after_present_return(creation) or self._in_handler(creation)

    def _followed(self, found: list[Occurrence]) -> frozenset[str]:
        names: set[str] = set()
        for each in found:
            if each.order > self._lookup.order or _holds(each.node, self._lookup.node):
                value, targets = assigned(each.node)
                if isinstance(each.node, ast.NamedExpr):
                    value, targets = each.node.value, [each.node.target]
                if value is not None and self._mentions(value, names):
                    names.update(target.id for target in targets if isinstance(target, ast.Name))
        return frozenset(names)

    def _mentions(self, node: ast.AST, names: set[str] | frozenset[str]) -> bool:
        return any(
            child is self._lookup.node or (isinstance(child, ast.Name) and child.id in names)
            for child in ast.walk(node)
        )

    def _in_absent_arm(self, creation: Occurrence) -> bool:
        for arm in creation.path:
            test = arm.node.test if isinstance(arm.node, ast.If | ast.IfExp) else None
            if test is not None and self._absent_arm(test) == arm.number:
                return True
        return any(
            self._absent_arm(node.values[0]) == 1
            and any(child is creation.node for value in node.values[1:] for child in ast.walk(value))
            for node in self._ors
        )

    def _after_present_return(self, creation: Occurrence) -> bool:
        around = {id(arm.node) for arm in creation.path}
        return any(
            isinstance(each.node, ast.If)
            and each.order < creation.order
            and id(each.node) not in around
            and _returns(each.node.body)
            and self._absent_arm(each.node.test) == 1
            and creation.may_follow(each)
            for each in self._ifs
        )

    def _in_handler(self, creation: Occurrence) -> bool:
        tried = {id(arm.node) for arm in self._lookup.path if isinstance(arm.node, ast.Try) and arm.number == 0}
        return any(
            isinstance(arm.node, ast.Try)
            and arm.number > 0
            and id(arm.node) in tried
            and _is_not_found(arm.node.handlers[arm.number - 1])
            for arm in creation.path
        )

    def _absent_arm(self, test: ast.expr) -> int | None:
        """Which arm of a test is taken without a result: 0 for the body, 1 for the other; None if it does not tell."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            inner = self._absent_arm(test.operand)
            return None if inner is None else 1 - inner
        if isinstance(test, ast.BoolOp):
            return next((arm for arm in map(self._absent_arm, test.values) if arm is not None), None)
        if not self._mentions(test, self._names):
            return None
        if isinstance(test, ast.Compare):
            if (
                len(test.ops) == 1
                and isinstance(test.comparators[0], ast.Constant)
                and test.comparators[0].value is None
            ):
                return 0 if isinstance(test.ops[0], ast.Is | ast.Eq) else 1
            return None
        return 1


def _holds(node: ast.AST, inner: ast.AST) -> bool:
    return isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and any(
        child is inner for child in ast.walk(node)
    )


def _returns(body: list[ast.stmt]) -> bool:
    return bool(body) and isinstance(body[-1], ast.Return | ast.Raise)


def _is_not_found(handler: ast.ExceptHandler) -> bool:
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(_NOT_FOUND.fullmatch(tail(each)) for each in types)
