"""Which libraries the hooks and watches of a configuration need, and which of them this Python has."""

import re
from collections.abc import Iterator
from importlib import metadata
from typing import Final, NamedTuple

from session_exporter.config import Config
from session_exporter.watchsettings import WatchSettings

SQLALCHEMY: Final = "SQLAlchemy"
SQLALCHEMY_OLDEST: Final = "1.4"
# Of PostgreSQL, for reading: the first that is installed will do, of none the first is missing.
_DRIVERS: Final = ("psycopg", "psycopg2", "psycopg2-binary")
INSTRUMENTOR: Final = "opentelemetry-instrumentation-sqlalchemy"
# By framework, the distribution whose version says what the middleware meets.
_FRAMEWORKS: Final = {"starlette": "starlette", "flask": "Flask", "django": "Django", "aiohttp": "aiohttp"}


class Need(NamedTuple):
    """A library, and the parts of the configuration that need it."""

    distribution: str
    parts: tuple[str, ...]


def library_lines(config: Config) -> Iterator[str]:
    """Say of every library that a hook or watch needs whether it is installed, and what stands in its way."""
    for need in needs(config):
        yield f"{need.distribution} (for {', '.join(need.parts)}): {_state(need.distribution)}"
    if config.hooked_tables or config.db_sessions:
        yield f"{INSTRUMENTOR} (optional, for traces): {_instrumentor()}"


def needs(config: Config) -> list[Need]:
    """The libraries that the hooks and watches of a configuration need beside our own dependencies."""
    statements = {"tables": config.hooked_tables, "db_sessions": config.db_sessions, "watch": config.watch}
    parts = tuple(part for part, given in statements.items() if given)
    found = [Need(SQLALCHEMY, parts)] if parts else []
    servers = tuple(_server(number, watch) for number, watch in enumerate(config.watch) if not _is_file(watch))
    found += [Need(_driver(), servers)] if servers else []
    found += [Need("redis", ("stores",))] if config.stores else []
    found += [
        Need(_FRAMEWORKS[each.framework], (f"middleware[{number}]",)) for number, each in enumerate(config.middleware)
    ]
    return found


def _is_file(watch: WatchSettings) -> bool:
    return watch.url.startswith("sqlite")


def _server(number: int, watch: WatchSettings) -> str:
    return f"watch[{number}]" if watch.url.startswith("postgres") else f"watch[{number}] if that is a PostgreSQL"


def _driver() -> str:
    return next(filter(version_of, _DRIVERS), _DRIVERS[0])


def version_of(distribution: str) -> str:
    """The version of a library as its metadata say, without an import of it; `""` when it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _state(distribution: str) -> str:
    found = version_of(distribution)
    if found and distribution == SQLALCHEMY and _numbers(found) < _numbers(SQLALCHEMY_OLDEST):
        return f"{found}; too old: expected {SQLALCHEMY_OLDEST} or newer"
    return found or "not installed"


def _instrumentor() -> str:
    ours, theirs = version_of(INSTRUMENTOR), version_of(SQLALCHEMY)
    if not ours:
        return "not installed"
    limit = _limit()
    if limit and theirs and _numbers(theirs) >= _numbers(limit):
        return f"{ours}; it refuses SQLAlchemy {theirs} (it takes versions below {limit}), so queries have no spans"
    return ours


def _limit() -> str:
    """The first version of SQLAlchemy that the instrumentor refuses; `""` when it says none."""
    for requirement in metadata.requires(INSTRUMENTOR) or ():
        named = re.match(r"sqlalchemy\b[^;]*?<\s*([0-9][0-9.]*)", requirement, re.IGNORECASE)
        if named:
            return named[1]
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall("[0-9]+", version)[:2])
