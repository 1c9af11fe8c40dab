"""SE107: a function that was given a session's id asks for the session of a user."""

import ast
import re
from collections.abc import Iterator
from typing import Final

from session_exporter.audit.code.faults import Fault
from session_exporter.audit.code.flow import Occurrence
from session_exporter.audit.code.naming import is_user, names_in, noun_of, tail, words
from session_exporter.audit.code.parsed import OwnedFunction, ParsedModule

_BY_USER: Final = re.compile(
    r"_*a?(?:(?:get|find|fetch|load)_or_(?:create|make|new|start)|ensure"
    r"|(?:get|find|fetch|load)_(?:active|current|latest|last|newest|open))_(\w+)"
)
_RELATION: Final = re.compile(r"_(by|for|of|from|with)_\w+$")


def find_lookups_by_user(module: ParsedModule, function: OwnedFunction, found: list[Occurrence]) -> Iterator[Fault]:
    """Find calls such as `get_or_create_session(user_id)` where a `session_id` was given and is not asked for."""
    given = _given(function)
    if not given or _BY_USER.fullmatch(function.node.name):
        return
    for each in found:
        if not isinstance(each.node, ast.Call) or not (noun := _noun_looked_up(each.node)):
            continue
        for parameter in given.get(noun, ()):
            if not _considers(parameter, each, found):
                message = f"{function.node.name}() is given {parameter}, and yet calls {tail(each.node.func)}() by user"
                yield module.fault("SE107", each.node, message)
                break


def _given(function: OwnedFunction) -> dict[str, list[str]]:
    """Of each noun, the parameters that are ids of it."""
    arguments = function.node.args
    given: dict[str, list[str]] = {}
    for each in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
        stem = each.arg.removesuffix("_id").removesuffix("_uuid").removesuffix("_key")
        if stem != each.arg and (noun := noun_of(stem)) and words(stem)[:1] != ("parent",):
            given.setdefault(noun, []).append(each.arg)
    return given


def _noun_looked_up(call: ast.Call) -> str:
    named = _BY_USER.fullmatch(tail(call.func))
    arguments = [*call.args, *call.keywords]
    return noun_of(_RELATION.sub("", named[1])) if named and any(map(is_user, names_in(arguments))) else ""


def _considers(parameter: str, call: Occurrence, found: list[Occurrence]) -> bool:
    """Whether the call is given the parameter, or is made because of its value, or it is set anew."""
    if parameter in names_in([call.node]):
        return True
    for each in found:
        node = each.node
        if isinstance(node, ast.If | ast.IfExp | ast.While) and parameter in names_in([node.test]):
            return True
        if isinstance(node, ast.BoolOp | ast.Match | ast.Compare) and parameter in names_in([node]):
            return True
        if isinstance(node, ast.Name) and node.id == parameter and isinstance(node.ctx, ast.Store | ast.Del):
            return True
    return False
