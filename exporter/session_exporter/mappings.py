"""What the hooks are told about an application: its tables, its functions, its stores and its framework.

The same classes stand behind the calls (`map_table`, `instrument`, ...) and behind the sections of the configuration.
Each checks itself when it is made, so that a mistake is told where it was made, by the argument's or key's name.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from session_exporter.core.scopes import DEFAULT_SCOPE, END_REASONS

CALL_KINDS: Final = ("create", "get", "get_or_create", "end", "bind")
ROWS: Final = ("sessions", "messages")
FRAMEWORKS: Final = ("starlette", "flask", "django", "aiohttp")
EXPECT_SOURCES: Final = ("cookie", "header", "path")


@dataclass(frozen=True, slots=True)
class TableMapping:
    """A table that keeps sessions.

    Attributes:
        table: Its name, or `schema.name`.
        scope: The kind of session.
        id: The columns of the session's id; several are joined by `/`.
        id_prefix: Removed from the front of the id when it is there.
        user: The column of the user's id; `""` when the table has none.
        user_path: Where the id is inside of a JSON value of that column: keys joined by dots; `""` for a plain value.
        key: The columns of the device, app or thread; several are joined by `/`.
        active: By column, the values with which a session is active; a row that leaves them has ended. Made with
            `value_texts`, asked with `is_value_among`.
        created_at: The column that says when the session was created; `""` when there is none.
        updated_at: The column that says when it was last used.
        end_reason: The column that says why it ended.
        rows: `sessions`: one row per session. `messages`: many rows, the first of which is the create.
        restart_on: Columns whose change ends the session and starts another one under the same id.
        hook: Whether the application's statements are followed; if not, only the watch and an audit read the table.

    Raises:
        ValueError: A value is none of these.
    """

    table: str
    scope: str = DEFAULT_SCOPE
    id: tuple[str, ...] = ("id",)
    id_prefix: str = ""
    user: str = ""
    user_path: str = ""
    key: tuple[str, ...] = ()
    active: Mapping[str, frozenset[str]] = field(default_factory=dict)
    created_at: str = ""
    updated_at: str = ""
    end_reason: str = ""
    rows: str = "sessions"
    restart_on: tuple[str, ...] = ()
    hook: bool = True

    def __post_init__(self) -> None:
        _text("table", self.table)
        _text("scope", self.scope)
        if not self.id or not all(self.id):
            raise ValueError("id: expected at least one column")
        _one_of("rows", self.rows, ROWS)
        if self.user_path and not self.user:
            raise ValueError("user_path: expected together with user, the column it looks into")
        if self.rows == "messages" and (self.active or self.restart_on):
            raise ValueError("active, restart_on: expected only with rows: sessions")


@dataclass(frozen=True, slots=True)
class CallMapping:
    """A function to wrap.

    Paths are words joined by dots: keys, attributes and indices. The first word of a path is a parameter of the
    function, or `self`, or `result`: what it returns, or yields first. A `session` (and `created_at`) starts at the
    result without saying so, and a `session` is read from the parameter of that name where the result has nothing of
    it; with `kind` `end` or `bind` the parameter comes first. What an object has not loaded from its database is not
    loaded for it; but for the primary key, it is nothing then.

    A function that raises has done nothing: whatever an `end` returns, it has ended the session.

    Attributes:
        call: `module:function` or `module:Class.method`.
        kind: `create`, `get`, `get_or_create`, `end` or `bind`.
        scope: The kind of session.
        session: Path of the session's id; `""` where the result itself is the id, and for `bind` where there is none.
        user: Path of the user's id; `""` for the user of the request.
        key: Path of the device, app or thread.
        created_at: Path of when the session was created.
        reason: Why it ends: one of `END_REASONS`, for `kind` `end`.

    Raises:
        ValueError: A value is none of these.
    """

    call: str
    kind: str
    scope: str = DEFAULT_SCOPE
    session: str = ""
    user: str = ""
    key: str = ""
    created_at: str = ""
    reason: str = "other"

    def __post_init__(self) -> None:
        module, colon, name = self.call.partition(":")
        words = (*module.split("."), *name.split("."))
        if not colon or not all(word.isidentifier() for word in words):
            raise ValueError(f"call: {self.call!r}: expected module:function or module:Class.method")
        _one_of("kind", self.kind, CALL_KINDS)
        _one_of("reason", self.reason, END_REASONS)
        _text("scope", self.scope)


@dataclass(frozen=True, slots=True)
class StoreMapping:
    """A key-value store that keeps sessions.

    Attributes:
        pattern: The keys, with one `*` that stands for the session's id; every other character stands for itself.
        scope: The kind of session.
        kind: `redis`.
        user_path: Where the user's id is inside of the JSON value: keys joined by dots; `""` when it is not there. Of
            a hash, the first key is a field.
        empty_is_end: Whether writing an empty value (`{}`, `[]`, `""`, `null`) ends the session.
        reads_first: Whether a process reads every session that is there before it writes it, as the session middleware
            of web frameworks does: then a write of one that it has not read is a create.

    Raises:
        ValueError: A value is none of these.
    """

    pattern: str
    scope: str = DEFAULT_SCOPE
    kind: str = "redis"
    user_path: str = ""
    empty_is_end: bool = False
    reads_first: bool = False

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, ("redis",))
        if self.pattern.count("*") != 1:
            raise ValueError(f"pattern: {self.pattern!r}: expected exactly one * where the session's id stands")
        if self.pattern == "*":
            raise ValueError("pattern: '*': expected something beside the *, else every key were a session")
        if self.user_path and not all(self.user_path.split(".")):
            raise ValueError(f"user_path: {self.user_path!r}: expected keys joined by dots")
        _text("scope", self.scope)


@dataclass(frozen=True, slots=True)
class Expectation:
    """Where a request says which session it expects.

    Attributes:
        source: `cookie`, `header` or `path` (a parameter of the route).
        name: Of the cookie, header or parameter.

    Raises:
        ValueError: The source is none of these, or the name is empty.
    """

    source: str
    name: str

    def __post_init__(self) -> None:
        _one_of("expect", self.source, EXPECT_SOURCES)
        _text("expect", self.name)


@dataclass(frozen=True, slots=True)
class MiddlewareMapping:
    """A web framework whose applications get the middleware.

    Attributes:
        framework: `starlette` (FastAPI among its users), `flask`, `django` or `aiohttp`.
        expect: Where to look for the expected session, in this order.
        user: Path of the user's id: words joined by dots, which are keys, attributes and indices. For Starlette from
            the ASGI scope on (`user.identity`, `state.user.id`), for Flask from `session`, `g`, `request` or an entry
            of the WSGI environment on, for Django and aiohttp from the request on (`user.pk`); `""` when only the
            application knows. Looked at when an event needs the user; nothing is loaded for it.

    Raises:
        ValueError: A value is none of these.
    """

    framework: str
    expect: tuple[Expectation, ...] = ()
    user: str = ""

    def __post_init__(self) -> None:
        _one_of("framework", self.framework, FRAMEWORKS)


def value_texts(values: Iterable[object]) -> frozenset[str]:
    """Give the texts that stand for values of a column.

    A text stands for itself, None (NULL) is `null`, a number is written in decimal. A boolean is `true` and `1`, or
    `false` and `0`: databases without a boolean type have numbers there. A member of an enumeration is its name and its
    value: a column may keep either.
    """
    return frozenset(text for value in values for text in _value_texts(value))


def is_value_among(value: object, texts: AbstractSet[str]) -> bool:
    """Tell whether a value, as a row or a statement's parameter has it, is one of those that `texts` were made of."""
    return not texts.isdisjoint(_value_texts(value))


def cookie(name: str) -> Expectation:
    """Expect the session that the cookie of this name says."""
    return Expectation("cookie", name)


def header(name: str) -> Expectation:
    """Expect the session that the header of this name says."""
    return Expectation("header", name)


def path(name: str) -> Expectation:
    """Expect the session that the route's parameter of this name says."""
    return Expectation("path", name)


def _value_texts(value: object) -> tuple[str, ...]:
    match value:
        case None:
            return ("null",)
        case bool():
            return (str(value).lower(), str(int(value)))
        case Enum():
            return (value.name, *_value_texts(value.value))
        case bytes():
            return (value.decode("utf-8", "backslashreplace"),)
    return (str(value),)


def _one_of(name: str, value: object, words: tuple[str, ...]) -> None:
    if value not in words:
        raise ValueError(f"{name}: {value!r}: expected one of {', '.join(words)}")


def _text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name}: expected a text that is not empty")
