"""What keeps two callers from doing the same at once: locks, unique indexes whose conflict is handled, upserts."""

import ast
import re
from collections.abc import Iterable
from typing import Final

from session_exporter.audit.code.flow import Occurrence
from session_exporter.audit.code.naming import words

_WORDS: Final = frozenset(
    {
        "lock", "locks", "locked", "locking", "rlock", "mutex", "semaphore", "advisory", "integrity", "unique",
        "conflict", "conflicts", "duplicate", "already", "upsert", "serializable", "merge", "setnx", "nx",
    }
)  # fmt: skip
_NAMES: Final = re.compile(r"for_update|get_or_create|update_or_create|acquire|synchronized|on_duplicate|replace_one")
_SQL: Final = re.compile(
    r"\b(ON\s+CONFLICT|ON\s+DUPLICATE|FOR\s+(NO\s+KEY\s+)?UPDATE|FOR\s+SHARE|INSERT\s+OR|REPLACE\s+INTO|MERGE\s+INTO"
    r"|LOCK\s+TABLE|pg_\w*advisory\w*|GET_LOCK|SERIALIZABLE|WHERE\s+NOT\s+EXISTS|BEGIN\s+(IMMEDIATE|EXCLUSIVE))",
    re.IGNORECASE,
)


def is_guarded(function: ast.FunctionDef | ast.AsyncFunctionDef, found: Iterable[Occurrence]) -> bool:
    """Whether a function says anywhere that it knows of others doing the same."""
    decorators = (node for each in function.decorator_list for node in ast.walk(each))
    return any(map(_guards, decorators)) or any(_guards(each.node) for each in found)


def _guards(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and _SQL.search(node.value) is not None
    name = ""
    if isinstance(node, ast.Name):
        name = node.id
    elif isinstance(node, ast.Attribute):
        name = node.attr
    elif isinstance(node, ast.keyword):
        name = node.arg or ""
    return bool(name) and (not _WORDS.isdisjoint(words(name)) or _NAMES.search(name) is not None)
