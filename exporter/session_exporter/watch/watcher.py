"""The thread that reads the tables of one database: as often as it is told, in nobody's way."""

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final

from session_exporter.core.scopes import ScopeRules
from session_exporter.errors import ConfigError, DatabaseError
from session_exporter.mappings import TableMapping
from session_exporter.watch.address import database_url
from session_exporter.watch.condition import Condition
from session_exporter.watch.database import Database
from session_exporter.watch.errands import Errand, errands_of
from session_exporter.watch.findings import Findings, TablePosition, WatchFigures
from session_exporter.watch.outbox import Outbox
from session_exporter.watch.schedule import Schedule
from session_exporter.watchsettings import WatchSettings

logger = logging.getLogger(__name__)

# No statement may take that long; whoever waits longer waits for a server that hangs.
PATIENCE_S: Final = 20.0
_GENTLE_S: Final = 0.5
_STOP_S: Final = 8.0


class Watcher:
    """Reads the tables of one database in a thread of its own, and hands over what it finds.

    All methods are for one thread, another one than its own.

    Args:
        settings: Which database, and how often.
        tables: What is read of it.
        rules: Of the scopes that these tables keep.
        key: What the configuration calls its URL, for messages.
        retention_us: For how long ids are known.
        counts: Whether active rows are counted, too.
        environ: For the variables in the URL.
        patience_s: For how long a look may take before it is given up.
        jitter: A number between two bounds, at random.

    Attributes:
        terms: Two watchers with equal ones do the same.

    Raises:
        ConfigError: It can never work: the URL is none, or its driver is not installed.
    """

    def __init__(
        self,
        settings: WatchSettings,
        tables: tuple[TableMapping, ...],
        rules: Mapping[str, ScopeRules],
        *,
        retention_us: int,
        key: str = "watch[0].url",
        counts: bool = True,
        environ: Mapping[str, str] = os.environ,
        patience_s: float = PATIENCE_S,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._find_url = partial(database_url, settings.url, settings.url_file, environ, key)
        self._url = url = self._find_url()
        scopes = {table.scope: rules[table.scope] for table in tables}
        self.terms = (settings, tables, scopes, retention_us, counts, url)
        self._settings = settings
        self._tables = tables
        self._rules = scopes if counts else None
        self._retention_us = retention_us
        self._patience_s = patience_s
        self._jitter = jitter
        self._database = Database(url)
        self._condition = Condition(settings.name, self._database.address)
        self._outbox = Outbox()
        self._positions: Mapping[str, TablePosition] = {}
        self._errands: list[Errand] = []
        self._judged_us = 0
        self._generation = -1
        # The connection as a whole: after it failed nothing else is tried for a while.
        self._connecting = Schedule(0.0, time.monotonic, jitter)
        self._begun_s: float | None = None
        self._was_overdue = False
        self._is_connected = False
        self._wake = threading.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name=f"watch {settings.name}", daemon=True)

    def start(self, positions: Mapping[str, TablePosition]) -> None:
        """Begin to read where that was committed.

        Args:
            positions: By `<watch>/<table>/<scope>`; of what is missing, it is the first look.
        """
        self._positions = dict(positions)
        tables = ", ".join(table.table for table in self._tables)
        logger.info(
            "watching", extra={"watch": self._settings.name, "tables": tables, "database": self._database.address}
        )
        self._thread.start()

    def stop_soon(self) -> None:
        """Look no more; a look that has begun may go on for a while."""
        self._is_stopping = True
        self._outbox.close()
        self._wake.set()

    def stop(self) -> None:
        """Stop within seconds, whatever the database does. Idempotent."""
        self.stop_soon()
        if not self._thread.is_alive():
            return
        self._thread.join(_GENTLE_S)
        if self._thread.is_alive():
            self._database.cut()
            self._thread.join(_STOP_S)

    def is_running(self) -> bool:
        """Whether its thread has not ended yet."""
        return self._thread.is_alive()

    def judged(self, until_us: int) -> None:
        """Note that all has been judged that hooks told of the time before."""
        self._judged_us = until_us

    def take(self) -> Findings | None:
        """The next findings, in the order found; None when there are none now."""
        return self._outbox.take()

    def has_more(self) -> bool:
        """Whether there is something to take."""
        return len(self._outbox) > 0

    def rewind(self, positions: Mapping[str, TablePosition]) -> None:
        """Read on from what was committed; what was taken since then is read again."""
        self._positions = dict(positions)
        self._outbox.call_back()
        self._wake.set()

    def figures(self) -> WatchFigures:
        """What is to be shown of it; a look that takes too long is given up."""
        figures = self._condition.figures()
        if not self._is_overdue():
            return figures._replace(up=figures.up and self.is_running())
        self._database.cut()
        return figures._replace(up=False)

    def _is_overdue(self) -> bool:
        begun_s = self._begun_s
        return begun_s is not None and time.monotonic() - begun_s > self._patience_s

    # What its own thread does.

    def _run(self) -> None:
        try:
            while not self._is_stopping:
                self._wake.clear()
                self._heed_rewind()
                self._go_round()
                self._wake.wait(max(self._wait_s(), 0.0))
        finally:
            self._database.close()

    def _heed_rewind(self) -> None:
        generation = self._outbox.generation
        if generation == self._generation:
            return
        self._generation = generation
        self._errands = errands_of(
            self._settings,
            self._tables,
            self._positions,
            rules=self._rules,
            retention_us=self._retention_us,
            jitter=self._jitter,
        )
        self._condition.expect(errand.name for errand in self._errands)

    def _go_round(self) -> None:
        for errand in self._errands:
            if self._is_stopping or self._outbox.generation != self._generation or self._connecting.wait_s() > 0.0:
                return
            if errand.schedule.wait_s() <= 0.0:
                self._do(errand)

    def _wait_s(self) -> float:
        if self._outbox.generation != self._generation:
            return 0.0
        soonest_s = min((errand.schedule.wait_s() for errand in self._errands), default=3600.0)
        return max(soonest_s, self._connecting.wait_s())

    def _do(self, errand: Errand) -> None:
        """Do all there is to do for this time, a piece at a time."""
        errand.schedule.begin()
        try:
            while self._step(errand):
                self._connecting.succeed()
                # Of what goes on for long, as after a while away, each part is a success.
                self._condition.succeed(errand.table, errand.name)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next look may succeed, and others must go on
            self._fail(errand, error)
            return
        if self._is_stopping or self._outbox.generation != self._generation:
            return
        self._connecting.succeed()
        errand.schedule.succeed()
        self._condition.clock_skew_s = errand.clock_skew_us / 1e6
        self._condition.succeed(errand.table, errand.name)

    def _step(self, errand: Errand) -> bool:
        """Do a part of it; whether there is more."""
        found = None
        self._is_connected, self._begun_s = False, time.monotonic()
        try:
            with self._database.reading() as connection:
                self._is_connected = True
                found = errand.step(connection, self._judged_us)
        finally:
            self._was_overdue, self._begun_s = self._is_overdue(), None
            # What was read was there, also when the connection is lost before the transaction is over.
            is_taken = found is not None and self._hand_over(found)
        return is_taken and not self._is_stopping

    def _hand_over(self, found: Findings) -> bool:
        is_taken = self._outbox.put(found, self._generation)
        self._condition.rows += len(found.rows) if is_taken else 0
        return is_taken

    def _fail(self, errand: Errand, error: Exception) -> None:
        if self._is_stopping:
            return
        reason = error.reason if isinstance(error, DatabaseError) else "other"
        is_table = self._is_connected and reason != "connection"
        if self._was_overdue:
            reason = "timeout"
        if is_table:
            self._condition.answer()
            errand.schedule.fail()
        else:
            errand.schedule.again()
            self._connecting.fail()
            if reason == "refused":
                self._heed_new_url()
        self._condition.fail(errand.table if is_table else "", errand.name, reason, error)

    def _heed_new_url(self) -> None:
        """Passwords in files are changed now and then, and nobody reloads for that."""
        with suppress(ConfigError):  # the file is being written: the next refusal looks again
            url = self._find_url()
            if url != self._url:
                self._url, self._database = url, Database(url)
