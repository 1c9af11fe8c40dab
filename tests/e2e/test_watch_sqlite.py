"""A table of SQLite, which says neither who is at work nor when a row was changed: all that is in it is found."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from session_table import watching
from sidecar_process import Scrape, Sidecar

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.integration]

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE chats (
    id text PRIMARY KEY,
    owner text,
    status text NOT NULL DEFAULT 'active',
    created_at text NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);
CREATE INDEX by_creation ON chats (created_at);
"""
CONFIG = """\
lateness: 200ms
scopes: {chat: {idle_timeout: 1h}}
tables: [{table: chats, scope: chat, user: owner, active: {status: [active]}, created_at: created_at}]
watch: [{name: main, url: "${DATABASE_URL}", interval: 500ms, grace: 1s, longest_transaction: {longest}}]
"""
THREADS = 4


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "chats.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA)
    return path


@pytest.fixture
def sidecar(file: Path, tmp_path: Path) -> Iterator[Sidecar]:
    with watching(tmp_path, f"sqlite:///{file}", config=CONFIG) as running:
        yield running


def test_what_threads_create_and_end_is_counted_once_although_the_sidecar_is_killed(file, sidecar) -> None:
    create(file, range(100))
    sidecar.kill()
    create(file, range(100, 200))
    sidecar.start()
    create(file, range(200, 300))
    sidecar.scrape_until(lambda scrape: created(scrape) == 300, "all are counted")
    change(file, "UPDATE chats SET status = 'closed' WHERE rowid % 10 = 1")
    change(file, "DELETE FROM chats WHERE rowid % 10 = 2")
    sidecar.scrape_until(lambda scrape: scrape.total("session_ends_total", scope="chat") == 60, "all ends are counted")

    assert sidecar.stop() == 0
    scrape = sidecar.start().scrape()
    assert created(scrape) == 300
    assert scrape.value("session_ends_total", scope="chat", reason="deleted") == 30
    assert scrape.value("session_ends_total", scope="chat", reason="other") == 30
    assert scrape.value("session_active_sessions", scope="chat") == 240


def create(file: Path, numbers: range) -> None:
    """Create sessions, each of a user of its own and in a transaction of its own."""
    with ThreadPoolExecutor(THREADS) as pool:
        list(
            pool.map(lambda number: change(file, f"INSERT INTO chats (id, owner) VALUES ({number}, {number})"), numbers)
        )


def change(file: Path, sql: str) -> None:
    with closing(sqlite3.connect(file, timeout=30.0)) as connection, connection:
        connection.execute(sql)


def created(scrape: Scrape) -> float:
    return scrape.value("session_creates_total", scope="chat")
