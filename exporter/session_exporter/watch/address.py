"""Where a database is: its URL, with what the environment or a file keeps secret."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from session_exporter.errors import ConfigError
from session_exporter.secreturls import read_url

_INSTALL: Final = "install it with: pip install 'session-exporter[sqlalchemy,postgres]'"

try:
    import sqlalchemy
    from sqlalchemy.engine import URL, make_url
    from sqlalchemy.exc import SQLAlchemyError
except ImportError as missing:
    raise ConfigError(f"a database is to be read: SQLAlchemy is not installed; {_INSTALL}") from missing

# SQLAlchemy's version of these numbers has a dialect for psycopg 3.
_FIRST_WITH_PSYCOPG: Final = (2, 0)
_POSTGRESQL: Final = "postgresql"
# What an application connects with from asyncio, and what reads the same database from a thread.
_ASYNC_DRIVERS: Final = ("asyncpg", "psycopg_async", "psycopgasync", "aiosqlite")


def database_url(url: str, url_file: Path | None, environ: Mapping[str, str], key: str) -> URL:
    """The URL to connect to.

    A driver for asyncio, or none, becomes one that is installed: the application's own URL will do.

    Args:
        url: With `${VARIABLE}` where the environment is to be put in and `$$` for a dollar; `""` for none.
        url_file: A file that holds the URL instead; None for none.
        environ: The environment.
        key: What the configuration calls it, such as `watch[0].url`; for messages.

    Raises:
        ConfigError: There is none, its file cannot be read, a variable is not set, it is no URL of a PostgreSQL or
            SQLite, or its driver is not installed. No message shows it.
    """
    return _with_driver(_parsed(read_url(url, url_file, environ, key), key), key)


def shown_address(url: URL) -> str:
    """What messages show of a URL: no password, and no user."""
    if url.get_backend_name() == "sqlite":
        return f"SQLite {url.database}"
    host = url.host or url.query.get("host") or "localhost"
    return f"PostgreSQL {host}:{url.port or 5432}/{url.database or ''}"


def _parsed(text: str, key: str) -> URL:
    # Some hosts of databases still write it so; SQLAlchemy no longer reads it.
    scheme, colon, rest = text.partition("://")
    if scheme == "postgres":
        text = f"{_POSTGRESQL}{colon}{rest}"
    try:
        found = make_url(text)
        backend = found.get_backend_name()
    except (SQLAlchemyError, ValueError):
        raise ConfigError(f"{key}: expected a URL as SQLAlchemy has it: postgresql://… or sqlite:///…") from None
    if backend == _POSTGRESQL and text.count("@") > 1:
        # What may be a part of a password is not shown, and nobody is asked which host that is.
        raise ConfigError(f"{key}: not a URL; expected %40 for an @ in user or password, or ${{VARIABLE}} there")
    if backend not in {_POSTGRESQL, "sqlite"}:
        raise ConfigError(f"{key}: expected a URL that begins with postgresql or sqlite, not {backend}")
    if backend == "sqlite" and (found.database or ":memory:") == ":memory:":
        raise ConfigError(f"{key}: expected the path of a file: sqlite:////directory/file")
    return found


def _with_driver(url: URL, key: str) -> URL:
    name = url.get_backend_name()
    driver = url.drivername.partition("+")[2]
    if driver in _ASYNC_DRIVERS or not driver:
        url = url.set(drivername=_chosen(key) if name == _POSTGRESQL else "sqlite")
    try:
        _imported(url)
    except (ImportError, SQLAlchemyError):
        raise ConfigError(f"{key}: the driver of {url.drivername} is not installed; {_INSTALL}") from None
    return url


def _imported(url: URL) -> None:
    dialect: Any = url.get_dialect()
    # SQLAlchemy 2.0 has renamed it.
    (dialect.import_dbapi if hasattr(dialect, "import_dbapi") else dialect.dbapi)()


def _chosen(key: str) -> str:
    """The driver that is installed; psycopg before its predecessor."""
    version = tuple(int(part) for part in sqlalchemy.__version__.split(".")[:2])
    if version >= _FIRST_WITH_PSYCOPG and find_spec("psycopg"):
        return f"{_POSTGRESQL}+psycopg"
    if find_spec("psycopg2"):
        return f"{_POSTGRESQL}+psycopg2"
    if version < _FIRST_WITH_PSYCOPG:
        raise ConfigError(f"{key}: SQLAlchemy {sqlalchemy.__version__} needs psycopg2, which is not installed")
    raise ConfigError(f"{key}: no driver for PostgreSQL is installed; {_INSTALL}")
