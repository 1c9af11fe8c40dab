"""What names tell: of sessions, of users, of locks. Rules go by them where a type would be another file's."""

import ast
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

# What holds a user's work, by the names that applications give it.
NOUNS: Final = frozenset({"session", "conversation", "thread", "chat"})
# Sessions of something else.
_NOT_OF_USERS: Final = frozenset(
    {
        "aio", "aiohttp", "async", "auth", "aws", "boto", "boto3", "browser", "client", "connection", "database", "db",
        "debug", "engine", "factory", "http", "local", "maker", "mcp", "orm", "pool", "read", "requests", "shell",
        "sql", "sqlalchemy", "ssh", "sync", "tf", "tls", "transport", "worker", "write",
    }
)  # fmt: skip
_USERS: Final = frozenset(
    {
        "account", "actor", "author", "chat", "customer", "email", "member", "owner", "patient", "phone", "player",
        "principal", "sender", "student", "tenant", "uid", "user", "userid", "username", "visitor",
    }
)  # fmt: skip
_PARTS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@lru_cache(maxsize=20_000)
def words(identifier: str) -> tuple[str, ...]:
    """Split an identifier: `getUserSession`, `get_user_session` and `GetUserSession` are get, user, session."""
    return tuple(part.lower() for part in _PARTS.findall(identifier[:200]))


def noun_of(identifier: str) -> str:
    """Which noun a name ends in when it means a user's session (`ChatSession`, `user_sessions`), or nothing."""
    parts = words(identifier)
    if not parts or _NOT_OF_USERS.intersection(parts):
        return ""
    last = parts[-1].removesuffix("s")
    return last if last in NOUNS else ""


def is_user(identifier: str) -> bool:
    """Whether a name means a user, or the id of one."""
    return not _USERS.isdisjoint(words(identifier))


def dotted(node: ast.AST | None) -> str:
    """Write a name with its attributes, `self.db.session`; nothing when it is more than that."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([node.id, *reversed(parts)])


def tail(node: ast.AST | None) -> str:
    """The last name of an expression: `delete` of `session.query(X).delete`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def names_in(nodes: Iterable[ast.AST | None]) -> set[str]:
    """All names, attributes, and names of arguments in expressions."""
    found = set()
    for root in nodes:
        for node in ast.walk(root) if root is not None else ():
            if isinstance(node, ast.Name):
                found.add(node.id)
            elif isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.keyword) and node.arg:
                found.add(node.arg)
    return found


def text_of(node: ast.AST | None) -> str:
    """The constant text in an expression, that of f-strings and of joined texts included."""
    if node is None:
        return ""
    return " ".join(
        child.value for child in ast.walk(node) if isinstance(child, ast.Constant) and isinstance(child.value, str)
    )
