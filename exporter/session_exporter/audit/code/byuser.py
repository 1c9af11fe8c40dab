"""SE107: a function that was given a session's id asks for the session of a user."""

import ast
import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

from session_exporter.audit.code.faults import Fault
from session_exporter.audit.code.flow import STEPS_MAX, Occurrence
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
    calls = ((each.node, _noun_looked_up(each.node)) for each in found if isinstance(each.node, ast.Call))
    for call, noun in islice(((call, noun) for call, noun in calls if noun in given), STEPS_MAX):
        for parameter in given[noun]:
            if parameter not in names_in([call]) and not _considers(parameter, found):
                message = f"{function.node.name}() is given {parameter}, and yet calls {tail(call.func)}() by user"
                yield module.fault("SE107", call, message)
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


def _considers(parameter: str, found: list[Occurrence]) -> bool:
    """Whether a function looks at the value of a parameter, or sets it anew."""
    for each in found:
        node = each.node
        if isinstance(node, ast.If | ast.IfExp | ast.While) and parameter in names_in([node.test]):
            return True
        if isinstance(node, ast.BoolOp | ast.Match | ast.Compare) and parameter in names_in([node]):
            return True
        if isinstance(node, ast.Name) and node.id == parameter and isinstance(node.ctx, ast.Store | ast.Del):
            return True
    return False
