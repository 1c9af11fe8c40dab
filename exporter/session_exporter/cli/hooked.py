"""What would be hooked, in a sentence for each entry of a configuration."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from session_exporter.config import Config
from session_exporter.mappings import CallMapping, MiddlewareMapping, StoreMapping, TableMapping
from session_exporter.quantities import format_duration

_WORK: Final = {
    "create": "creates",
    "get": "lookups",
    "get_or_create": "lookups and creates",
    "end": "ends",
    "bind": "users of sessions",
}
_NOBODY: Final = "users of the requests"


def hooked_lines(config: Config) -> Iterator[str]:
    """Say of every entry what would be hooked, each in one line that begins with its place: `tables[0]: ...`."""
    for number, table in enumerate(config.tables):
        if table.hook:
            yield f"tables[{number}]: {table_sentence(table)}"
    yield from _numbered("calls", map(call_sentence, config.calls))
    yield from _numbered("stores", map(store_sentence, config.stores))
    yield from _numbered("middleware", map(middleware_sentence, config.middleware))
    if config.db_sessions:
        longest = format_duration(config.limits.max_db_session_lifetime_us)
        yield f"db_sessions: uses of SQLAlchemy sessions are followed; one open for longer than {longest} has leaked"


def table_sentence(table: TableMapping) -> str:
    """Say what rows of a table mean."""
    row = "a row" if table.rows == "sessions" else "the first row of an id"
    return _sentence(
        f"{table.table}: {row} is a session of scope {table.scope}",
        f"its id is {'/'.join(table.id)}" if table.id != ("id",) else "",
        f"ids lose the prefix {table.id_prefix}" if table.id_prefix else "",
        f"ends when {_leaving(table.active)}" if table.active else "",
        "ends when it is deleted" if table.rows == "sessions" and not table.active else "",
        f"starts anew when {' or '.join(table.restart_on)} changes" if table.restart_on else "",
        _users(f"{table.user_path} in the JSON of {table.user}" if table.user_path else table.user),
        f"keys from {'/'.join(table.key)}" if table.key else "",
        f"created at {table.created_at}" if table.created_at else "",
        f"used at {table.updated_at}" if table.updated_at else "",
        f"reasons of ends from {table.end_reason}" if table.end_reason else "",
    )


def call_sentence(call: CallMapping) -> str:
    """Say what calls of a function mean."""
    return _sentence(
        f"{call.call}: {_WORK[call.kind]} of scope {call.scope}",
        f"sessions from {call.session}" if call.session else "",
        "the result is the session's id" if not call.session and call.kind != "bind" else "",
        _users(call.user),
        f"keys from {call.key}" if call.key else "",
        f"created at {call.created_at}" if call.created_at else "",
        f"for the reason {call.reason}" if call.kind == "end" else "",
    )


def store_sentence(store: StoreMapping) -> str:
    """Say what keys of a store mean."""
    ending = "ends when it is deleted or written empty" if store.empty_is_end else "ends when it is deleted"
    return _sentence(
        f"{store.pattern}: a value in {store.kind} is a session of scope {store.scope}",
        ending,
        _users(f"{store.user_path} in the JSON of the value" if store.user_path else ""),
    )


def middleware_sentence(middleware: MiddlewareMapping) -> str:
    """Say what is learnt of a framework's requests."""
    places = ", else ".join(f"{each.source} {each.name}" for each in middleware.expect)
    return _sentence(
        f"{middleware.framework}: requests are told apart",
        f"each expects the session of {places}" if places else "",
        f"users from {middleware.user}" if middleware.user else "users as the application tells them",
    )


def _leaving(active: Mapping[str, frozenset[str]]) -> str:
    return " or ".join(f"{column} leaves {{{', '.join(sorted(texts))}}}" for column, texts in active.items())


def _users(source: str) -> str:
    return f"users from {source}" if source else _NOBODY


def _sentence(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _numbered(section: str, sentences: Iterable[str]) -> Iterator[str]:
    return (f"{section}[{number}]: {sentence}" for number, sentence in enumerate(sentences))
