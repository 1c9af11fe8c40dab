"""The audit of a database, as it is typed, over a million sessions: how long somebody waits for the report."""

import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

from figures import Figure
from places import disk_place, environment
from rounds import ratio
from watches import postgres_to_watch

FOUND: Final = 1
TABLE: Final = "CREATE TABLE chats (id {id}, user_id {id}, status varchar(20), created_at timestamp, reason text);"
# Two months in which a user came back now and then; one in fifty was created twice within seconds.
ON_POSTGRESQL: Final = """
INSERT INTO chats SELECT gen_random_uuid(), md5((random() * {rows} / 10)::int::text)::uuid,
    CASE WHEN random() < 0.05 THEN 'active' ELSE 'ended' END, now() - random() * interval '60 days', 'completed'
FROM generate_series(1, {rows} - {rows} / 50);
INSERT INTO chats SELECT gen_random_uuid(), user_id, status, created_at + random() * interval '8 s', reason
FROM chats LIMIT {rows} / 50;
"""
ON_SQLITE: Final = """
CREATE TEMP TABLE n AS
WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {rows}) SELECT n FROM c;
INSERT INTO chats SELECT lower(hex(randomblob(16))), 'user-' || abs(random() % ({rows} / 10)),
    CASE WHEN abs(random() % 20) = 0 THEN 'active' ELSE 'ended' END,
    strftime('%Y-%m-%d %H:%M:%f', 1790000000 + abs(random() % 5184000000) / 1000.0, 'unixepoch'), 'completed'
FROM n LIMIT {rows} - {rows} / 50;
INSERT INTO chats
SELECT lower(hex(randomblob(16))), user_id, status, strftime('%Y-%m-%d %H:%M:%f', created_at, '+3 seconds'), reason
FROM chats LIMIT {rows} / 50;
"""
# What somebody who knows what to look for would type: one number of all those that the report has.
BY_HAND: Final = """
SELECT count(*) FROM (
    SELECT created_at - lag(created_at) OVER (PARTITION BY user_id ORDER BY created_at, id) AS gap FROM chats
) AS gaps WHERE gap < interval '10 s'
"""
MAPPED: Final = (
    *("--table", "chats", "--user", "user_id", "--created-at", "created_at"),
    *("--active", "status=active", "--end-reason", "reason", "--timeout", "5m"),
)


def measure(*, quick: bool) -> Iterator[Figure]:
    """The whole command in PostgreSQL, beside one query by hand; then in SQLite."""
    rows, rounds = (10_000, 2) if quick else (1_000_000, 5)
    yield _on_postgresql(rows, rounds)
    yield _on_sqlite(rows, rounds)


def _on_postgresql(rows: int, rounds: int) -> Figure:
    with postgres_to_watch() as server:
        database = server.database()
        server.psql(TABLE.format(id="uuid") + ON_POSTGRESQL.format(rows=rows) + "ANALYZE chats;", database)
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(_taken_s(lambda: _audit(server.dsn(database))))
            theirs.append(_taken_s(lambda: server.psql(BY_HAND, database)))
    peer = f"the count of duplicates alone, by psql: {statistics.median(theirs):.2f} s"
    what = f"audit db, {rows:,} rows, PostgreSQL"
    return Figure(what, statistics.median(ours), "s", peer, ratio(ours, theirs), at_most=15)


def _on_sqlite(rows: int, rounds: int) -> Figure:
    with disk_place() as place:
        with sqlite3.connect(place / "app.db") as connection:
            connection.executescript(TABLE.format(id="text") + ON_SQLITE.format(rows=rows))
        connection.close()
        ours = [_taken_s(lambda: _audit(f"sqlite:///{place / 'app.db'}")) for _ in range(rounds)]
    return Figure(f"· {rows:,} rows, SQLite", statistics.median(ours), "s")


def _audit(url: str) -> None:
    command = [sys.executable, "-m", "session_exporter", "audit", "db", "--url", url, *MAPPED]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode != FOUND:
        raise RuntimeError(f"audit db, status {done.returncode}: {done.stdout}{done.stderr}")


def _taken_s(work: Callable[[], object]) -> float:
    begun_s = time.perf_counter()
    work()
    return time.perf_counter() - begun_s
