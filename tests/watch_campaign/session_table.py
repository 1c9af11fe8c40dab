"""A table of sessions that a function in the database makes, and what is true of it, said in SQL."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID, uuid4

import psycopg
from sidecar_process import Scrape, Sidecar, until

from session_exporter.core.totals import LedgerTotals, ScopeTotals
from session_exporter.sidecar.records import read_meta
from session_exporter.sidecar.summary import reading

if TYPE_CHECKING:
    from postgres_server import Postgres

SCOPE: Final = "conversation"
# So short that creates of one race are within it, and those of two are not.
WINDOW_MS: Final = 500
CONNECTIONS: Final = 8

SCHEMA: Final = """
CREATE TABLE conversation_sessions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    subcontractor_id uuid NOT NULL,
    status text NOT NULL DEFAULT 'active',
    ended_reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON conversation_sessions (created_at);
CREATE INDEX ON conversation_sessions (updated_at);
CREATE INDEX ON conversation_sessions (subcontractor_id, created_at);

CREATE FUNCTION get_or_create_session(who uuid) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    made uuid;
BEGIN
    UPDATE conversation_sessions SET status = 'completed', ended_reason = 'completed', updated_at = now()
    WHERE subcontractor_id = who AND status = 'active';
    INSERT INTO conversation_sessions (subcontractor_id) VALUES (who) RETURNING id INTO made;
    RETURN made;
END $$;
"""
CONFIG: Final = f"""\
lateness: 200ms
scopes:
  {SCOPE}: {{duplicate_window: {WINDOW_MS}ms, idle_timeout: 1h}}
tables:
  - table: conversation_sessions
    scope: {SCOPE}
    user: subcontractor_id
    active: {{status: [active]}}
    created_at: created_at
    updated_at: updated_at
    end_reason: ended_reason
watch:
  - {{name: main, url: "${{DATABASE_URL}}", interval: 500ms, grace: 1s, longest_transaction: {{longest}}}}
"""
CALL: Final = "SELECT get_or_create_session(%s)"
# `now()` is when a transaction began: who began first may end what began later.
TRUTH: Final = f"""
WITH lives AS (
    SELECT id, subcontractor_id, status, created_at, greatest(updated_at, created_at) AS over_at
    FROM conversation_sessions
), pairs AS (
    SELECT status, created_at, created_at - lag(created_at) OVER timeline AS gap, lag(over_at) OVER timeline AS over_at
    FROM lives WINDOW timeline AS (PARTITION BY subcontractor_id ORDER BY created_at, id)
)
SELECT count(*) AS rows,
       count(*) FILTER (WHERE status <> 'active') AS ended,
       count(*) FILTER (WHERE gap < '{WINDOW_MS} ms') AS duplicates,
       count(*) FILTER (WHERE gap >= '{WINDOW_MS} ms' AND created_at - over_at < '{WINDOW_MS} ms') AS replaced
FROM pairs
"""
# The next create is no rapid duplicate of any that is there.
IS_CALM: Final = f"""
SELECT coalesce(clock_timestamp() - max(created_at) > '{2 * WINDOW_MS} ms', true) FROM conversation_sessions
"""


class Truth(NamedTuple):
    """What is true of the table, and what must have been counted of it.

    Attributes:
        rows: Sessions that were created.
        ended: Those that the function has ended.
        duplicates: Creates less than a window after another one of their user.
        replaced: Other creates, whose user's last session was ended less than a window before, or not at all.
    """

    rows: int
    ended: int
    duplicates: int
    replaced: int


class WatchedTable:
    """The table, in a database of its own.

    Args:
        server: Where to.
    """

    def __init__(self, server: "Postgres") -> None:
        self.database = server.database()
        self.server = server
        self.dsn = server.dsn(self.database)
        server.psql(SCHEMA, self.database)

    def url(self, user: str = "postgres") -> str:
        """Its database, for a watch and for an application."""
        return self.server.url("psycopg", self.database, user)

    def psql(self, sql: str) -> str:
        """Run SQL in its database."""
        return self.server.psql(sql, self.database)

    def truth(self) -> Truth:
        """Ask for what is true now."""
        return Truth(*map(int, self.psql(TRUTH).split("|")))

    def become_calm(self) -> None:
        """Wait until the next create is no rapid duplicate."""
        until(lambda: self.psql(IS_CALM) == "t", "a window has passed since the last create")

    def race(self, users: Iterable[UUID], *, calls: int = 3) -> None:
        """Call the function for each user so many times at once, over eight connections; everybody's calls mixed."""
        with callers(self.dsn) as call:
            done = [call(user) for user in users for _ in range(calls)]
            for each in done:
                each()


@contextmanager
def callers(dsn: str, connections: int = CONNECTIONS) -> Iterator[Callable[[UUID], Callable[[], UUID]]]:
    """Connections, each with a thread of its own, that call the function; gives what starts a call.

    What a call returns waits for its end, and returns the session.
    """
    with ThreadPoolExecutor(connections) as pool:
        free = [psycopg.connect(dsn, autocommit=True) for _ in range(connections)]

        def work(user: UUID) -> Any:
            connection = free.pop()
            try:
                return connection.execute(CALL, (user,)).fetchone()
            finally:
                free.append(connection)

        try:
            yield lambda user: pool.submit(work, user).result
        finally:
            pool.shutdown()
            for each in free:
                each.close()


def users(count: int) -> list[UUID]:
    """So many users whom nobody knows yet."""
    return [uuid4() for _ in range(count)]


@contextmanager
def watching(home: Path, url: str, **more: Any) -> Iterator[Sidecar]:
    """A sidecar that watches a database, and has looked at it: what is created from now on is new."""
    with watcher(home, url, **more) as sidecar:
        sidecar.start().scrape_until(is_up, "the watch has looked at the database")
        yield sidecar


def watcher(home: Path, url: str, *, longest: str = "1m", config: str = CONFIG) -> Sidecar:
    """A sidecar that is to watch a database; not started yet."""
    sidecar = Sidecar(home, config.replace("{longest}", longest))
    sidecar.variables["DATABASE_URL"] = url
    return sidecar


def is_up(scrape: Scrape) -> bool:
    """Whether the last look succeeded."""
    return scrape.value("session_exporter_watch_up", watch="main") == 1


def looked_at_s(scrape: Scrape) -> float:
    """When a look last succeeded."""
    return scrape.value("session_exporter_watch_last_success_timestamp_seconds", watch="main")


def counted(scrape: Scrape) -> Truth:
    """What a sidecar has counted."""
    return Truth(
        int(scrape.value("session_creates_total", scope=SCOPE)),
        int(scrape.total("session_ends_total", scope=SCOPE)),
        int(scrape.total("session_rapid_duplicate_creates_total", scope=SCOPE)),
        int(scrape.value("session_context_loss_total", scope=SCOPE, reason="replaced")),
    )


def causes(scrape: Scrape) -> dict[str, int]:
    """Duplicates by cause, without the zeros."""
    found = scrape.of("session_rapid_duplicate_creates_total", scope=SCOPE)
    return {dict(labels)["cause"]: int(value) for labels, value in found.items() if value}


def settled(sidecar: Sidecar, expected: Truth, deadline_s: float = 30.0) -> Scrape:
    """The scrape with which everything is counted and every row found, or the last one before the deadline."""
    last: list[Scrape] = []

    def look() -> bool:
        scrape = sidecar.answer()
        last[:] = [scrape] if scrape else last
        return bool(last) and counted(last[0]) == expected and reconciled(sidecar).found == expected.rows

    try:
        until(look, "everything is counted", deadline_s)
    except AssertionError:
        assert last, "no scrape was answered"
    return last[0]


def looks(sidecar: Sidecar, count: int) -> None:
    """Wait until the watch has looked so many times more."""
    for _ in range(count):
        before_s = looked_at_s(sidecar.scrape())
        sidecar.scrape_until(lambda scrape, since_s=before_s: looked_at_s(scrape) > since_s, "another look")


def reconciled(sidecar: Sidecar) -> ScopeTotals:
    """All that a sidecar has counted of the sessions, as it is committed."""
    with reading(sidecar.state) as connection:
        totals = read_meta(connection, "totals", LedgerTotals)
    assert totals is not None
    return totals.scopes[SCOPE]
