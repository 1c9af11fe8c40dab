"""Real databases that a watch reads, and what is done to them meanwhile."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from session_exporter.core.rows import NEW, OLD, OVER, USED
from session_exporter.mappings import TableMapping
from session_exporter.watch.database import Database, database_url
from session_exporter.watch.polling import TableWatch
from session_exporter.watchsettings import WatchSettings

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
RETENTION_US = 30 * DAY_US
# A sidecar that has judged everything.
ALL_US = 10**16


class Place:
    """A database of a test's own; `execute` commits at once."""

    def __init__(self, kind: str, url: str, connect: Any) -> None:
        self.kind = kind
        self.url = url
        self.connect = connect
        self._writer = connect()
        self.database = Database(database_url(url, None, {}, "watch[0].url"))

    @property
    def is_postgresql(self) -> bool:
        return self.kind == "postgresql"

    def execute(self, sql: str, *values: Any) -> list[Any]:
        cursor = self._writer.execute(sql if self.is_postgresql else sql.replace("%s", "?"), values)
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        self.database.close()
        self._writer.close()


@contextmanager
def postgres_place(server: Any, driver: str = "postgresql") -> Iterator[Place]:
    name = server.database()
    place = Place("postgresql", server.url(driver, name), lambda: psycopg.connect(server.dsn(name), autocommit=True))
    try:
        yield place
    finally:
        place.close()
        server.drop(name)


@contextmanager
def sqlite_place(directory: Any) -> Iterator[Place]:
    path = directory / "sessions.db"
    place = Place("sqlite", f"sqlite:///{path}", lambda: sqlite3.connect(path, isolation_level=None, timeout=5))
    place.execute("PRAGMA journal_mode = WAL")
    try:
        yield place
    finally:
        place.close()


def settings(**more: Any) -> WatchSettings:
    return WatchSettings(url="sqlite:///x", **more)


def watch(mapping: TableMapping, position: Any = None, **more: Any) -> TableWatch:
    given = {name: more.pop(name) for name in ("settings",) if name in more}
    more.setdefault("retention_us", RETENTION_US)
    return TableWatch("main", mapping, given.get("settings", settings()), position, **more)


def look(place: Place, table: TableWatch, *, judged_us: int = ALL_US) -> list[Any]:
    """All findings of one look, each of a transaction of its own."""
    found = []
    while True:
        with place.database.reading() as connection:
            findings = table.look(connection, seen_us=time.time_ns() // 1000, judged_us=judged_us)
        if findings is None:
            return found
        found.append(findings)


def rows_of(found: list[Any], *whats: str) -> list[Any]:
    return [row for findings in found for row in findings.rows if row.what in (whats or (NEW, USED, OVER, OLD))]


def sessions_of(found: list[Any], *whats: str) -> list[str]:
    return sorted(row.session for row in rows_of(found, *whats))
