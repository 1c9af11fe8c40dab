"""SE104, SE106: a dictionary of sessions is asked, then awaited for, then filled, and no lock is held.

Between the question and the answer other tasks run: they find nothing as well.
"""

import ast
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from session_exporter.audit.code.faults import Fault
from session_exporter.audit.code.flow import STEPS_MAX, Occurrence
from session_exporter.audit.code.guards import is_guarded
from session_exporter.audit.code.naming import NOUNS, dotted, tail, words
from session_exporter.audit.code.parsed import OwnedFunction, ParsedModule, assigned

# What is many by its kind. A `session_cache` is none: it may hold anything for as long as one session lasts.
_KINDS: Final = frozenset({"map", "dict", "by", "registry", "table"})


class CacheUse(NamedTuple):
    """A question to a dictionary, or a value put into it."""

    cache: str
    key: str
    at: Occurrence


def find_unlocked_caches(module: ParsedModule, function: OwnedFunction, found: list[Occurrence]) -> Iterator[Fault]:
    """Find dictionaries of sessions that are filled after an await, in a coroutine function without a lock."""
    if not function.is_async or is_guarded(function.node, found):
        return
    asked = list(islice(_questions(found), STEPS_MAX))
    awaits = [each for each in found if isinstance(each.node, ast.Await | ast.AsyncWith | ast.AsyncFor)]
    for stored in islice(_stores(found), STEPS_MAX):
        for question in asked:
            if question[:2] == stored[:2] and stored.at.may_follow(question.at) and _between(awaits, question, stored):
                shared = stored.cache.partition(".")[0] in _globals(module)
                message = f"{function.node.name}() looks into {stored.cache}, awaits, and then puts a session there"
                rule = "SE104" if shared else "SE106"
                yield module.fault(rule, question.at.node, message, stored.at.node)
                return


def _questions(found: list[Occurrence]) -> Iterator[CacheUse]:
    for each in found:
        node = each.node
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.In | ast.NotIn):
            yield from _use(node.comparators[0], node.left, each)
        elif (
            isinstance(node, ast.Call)
            and tail(node.func) == "get"
            and node.args
            and isinstance(node.func, ast.Attribute)
        ):
            yield from _use(node.func.value, node.args[0], each)


def _stores(found: list[Occurrence]) -> Iterator[CacheUse]:
    for each in found:
        for target in assigned(each.node)[1]:
            if isinstance(target, ast.Subscript):
                yield from _use(target.value, target.slice, each)


def _use(cache: ast.expr, key: ast.expr, at: Occurrence) -> Iterator[CacheUse]:
    name = dotted(cache)
    if not isinstance(key, ast.Constant) and _holds_sessions(words(name.rpartition(".")[2])):
        yield CacheUse(name, ast.dump(key), at)


def _holds_sessions(parts: tuple[str, ...]) -> bool:
    """Whether a name means many: `sessions`, `session_by_user`; a `thread` is one, and has fields of its own."""
    if _KINDS.intersection(parts):
        return any(part.removesuffix("s") in NOUNS for part in parts)
    return any(part.endswith("s") and part[:-1] in NOUNS for part in parts)


def _between(awaits: list[Occurrence], question: CacheUse, stored: CacheUse) -> bool:
    for each in awaits:
        inside = any(child is each.node for child in ast.walk(stored.at.node))
        follows = each.may_follow(question.at) and stored.at.may_follow(each)
        if (follows or inside) and not any(child is question.at.node for child in ast.walk(each.node)):
            return True
    return False


def _globals(module: ParsedModule) -> set[str]:
    return {dotted(target) for statement in module.top for target in assigned(statement)[1]}
