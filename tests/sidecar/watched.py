"""A sidecar's engine that reads tables of a real PostgreSQL, by the real clock, and hurries."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from ledgers import START
from postgres_server import Postgres
from sidecars import Sidecar

from session_exporter.config import Config
from session_exporter.core.scopes import ScopeRules
from session_exporter.core.totals import ScopeTotals
from session_exporter.mappings import TableMapping, value_texts
from session_exporter.sidecar.snapshot import WatchedTables
from session_exporter.watch.findings import TablePosition, WatchFigures
from session_exporter.watchsettings import WatchSettings

DEADLINE_S = 30.0
TICK_S = 0.01
HASTE = {"interval_us": 20_000, "grace_us": 50_000, "census_every_us": 50_000, "longest_transaction_us": 1_000_000}
SCHEMA = (
    "CREATE TABLE {name} (id text PRIMARY KEY, user_id text, status text NOT NULL DEFAULT 'active', "
    "created_at timestamptz NOT NULL DEFAULT clock_timestamp()); CREATE INDEX ON {name} (created_at)"
)


def mapping(name: str = "sessions", scope: str = "chat") -> TableMapping:
    return TableMapping(
        name, scope=scope, user="user_id", active={"status": value_texts(["active"])}, created_at="created_at"
    )


def configured(url: str, *tables: TableMapping, **more: Any) -> Config:
    """A configuration that watches these tables of one database."""
    chosen = tables or (mapping(),)
    scopes = {each.scope: ScopeRules(each.scope) for each in chosen}
    watch = (WatchSettings(url=url, **HASTE),)
    return Config(**{"scopes": scopes, "tables": chosen, "watch": watch, "lateness_us": 20_000, **more})


class Table:
    """A table of sessions in a database of its own, and who writes to it.

    Args:
        server: Where it is.
        name: Of the table.
        database: Where it is; None for a new one.
    """

    def __init__(self, server: Postgres, name: str = "sessions", database: str | None = None) -> None:
        self.server = server
        self.name = name
        self.database = database or server.database()
        self.create()

    def url(self, user: str = "postgres") -> str:
        return self.server.url("psycopg", self.database, user)

    def execute(self, sql: str, *values: Any) -> None:
        with psycopg.connect(self.server.dsn(self.database), autocommit=True) as connection:
            connection.execute(sql, values or None)

    def create(self) -> None:
        for statement in SCHEMA.format(name=self.name).split(";"):
            self.execute(statement)

    def insert(self, *ids: str, user: str = "") -> None:
        """Make sessions, each of a user of its own unless told otherwise."""
        rows = ", ".join(f"('{each}', '{user or f'user of {each}'}')" for each in ids)
        self.execute(f"INSERT INTO {self.name} (id, user_id) VALUES {rows}")


class WatchedSidecar(Sidecar):
    """As `Sidecar`, but for the clock, which is the real one."""

    @property
    def now_us(self) -> int:
        return time.time_ns() // 1000

    @now_us.setter
    def now_us(self, value: int) -> None:
        assert value == START

    def kill(self) -> None:
        """As `Sidecar.kill`; a killed process has no threads."""
        if self._engine is not None:
            self._engine._watching.close()
        super().kill()

    def tell_now(self, kind: type[Any], session: str, user: str, **more: Any) -> None:
        """Let a worker record an event of this moment."""
        self.tell(kind, (self.now_us - START) / 1e6, session, user, **more)

    def watched(self) -> WatchedTables:
        """What is shown of databases after a cycle."""
        return self.cycle().watched

    def figures(self, name: str = "main") -> WatchFigures:
        return self.watched().watches[name]

    def positions(self) -> dict[str, TablePosition]:
        """How far tables were read, as of a cycle."""
        self.cycle()
        return self.engine._progress.exporter.watches

    @staticmethod
    def threads() -> list[str]:
        return [each.name for each in threading.enumerate()]

    def until_up(self, name: str = "main") -> None:
        until(lambda: self.figures(name).up, f"{name} is up")

    def until_down(self, name: str = "main") -> None:
        until(lambda: not self.figures(name).up, f"{name} is down")

    def until_created(self, count: int, scope: str = "chat") -> ScopeTotals:
        """Cycle until at least so many creates have been counted, and all is judged; returns the counts."""
        found = [ScopeTotals()]

        def is_counted() -> bool:
            found[0] = self.cycle().ledger.scopes[scope]
            return found[0].creates >= count

        until(is_counted, f"{count} creates are counted")
        return found[0]


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"not after {DEADLINE_S:g} s: {what}"
        time.sleep(TICK_S)


@contextmanager
def running(place: Path, config: Config) -> Iterator[WatchedSidecar]:
    """A sidecar that is stopped in the end."""
    sidecar = WatchedSidecar(place, config)
    try:
        yield sidecar
    finally:
        sidecar.close()
