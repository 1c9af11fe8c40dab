"""What a watch does again and again for each of its tables: it reads what is new, and counts what is active."""

import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from session_exporter.core.scopes import ScopeRules
from session_exporter.mappings import TableMapping
from session_exporter.watch.census import take_census
from session_exporter.watch.findings import Findings, TablePosition, place_of
from session_exporter.watch.polling import TableWatch
from session_exporter.watch.schedule import Schedule
from session_exporter.watch.tables import SessionTable
from session_exporter.watchsettings import WatchSettings

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

logger = logging.getLogger(__name__)

_SECOND_US: Final = 1_000_000

Jitter = Callable[[float, float], float]


class Errand(Protocol):
    """One thing that is done for one table.

    Attributes:
        name: What it is called, unique among those of a watch.
        table: For which table.
        schedule: When it is to be done.
    """

    name: str
    table: str
    schedule: Schedule

    @property
    def clock_skew_us(self) -> int:
        """The database's clock less this host's, as it was seen last; 0 before."""

    def step(self, connection: "Connection", judged_us: int) -> Findings | None:
        """Do a part of it; None when nothing is left to do for this time. Each part may have a transaction of its own.

        Args:
            connection: In a transaction that reads.
            judged_us: Up to when all has been judged that hooks told of.

        Raises:
            TableUnusable: The table is not as the configuration says.
            SQLAlchemyError: As the connection.
        """


class Looking:
    """Reads what is new; as `Errand`.

    Args:
        settings: Of the watch.
        table: Which one.
        position: Where that was committed; None for the first look.
        retention_us: For how long ids are known.
        jitter: As of a schedule.
    """

    def __init__(
        self,
        settings: WatchSettings,
        table: TableMapping,
        position: TablePosition | None,
        *,
        retention_us: int,
        jitter: Jitter = random.uniform,
    ) -> None:
        self.table = self.name = table.table
        self.schedule = Schedule(settings.interval_us / _SECOND_US, time.monotonic, jitter)
        self.reading = TableWatch(settings.name, table, settings, position, retention_us=retention_us)

    @property
    def clock_skew_us(self) -> int:
        """As of `Errand`."""
        return self.reading.clock_skew_us

    def step(self, connection: "Connection", judged_us: int) -> Findings | None:
        """As of `Errand`."""
        found = self.reading.look(connection, seen_us=time.time_ns() // 1000, judged_us=judged_us)
        for warning in self.reading.take_warnings():
            logger.warning("%s", warning)
        return found


class TableCensus:
    """Counts active rows; as `Errand`.

    Args:
        settings: Of the watch.
        looking: Reads the same table; what was counted is handed over with its position.
        table: The table; it says which rows are active.
        rules: Of its scope.
        jitter: As of a schedule.
    """

    def __init__(
        self,
        settings: WatchSettings,
        looking: Looking,
        table: TableMapping,
        rules: ScopeRules,
        *,
        jitter: Jitter = random.uniform,
    ) -> None:
        self.table = table.table
        self.name = f"census of {table.table}"
        self.schedule = Schedule(settings.census_every_us / _SECOND_US, time.monotonic, jitter)
        self._watch = settings.name
        self._looking = looking
        self._mapping = table
        self._rules = rules
        self._is_done = False

    @property
    def clock_skew_us(self) -> int:
        """As of `Errand`."""
        return self._looking.clock_skew_us

    def step(self, connection: "Connection", judged_us: int) -> Findings | None:  # noqa: ARG002 - a count tells no verdict
        """As of `Errand`."""
        position = self._looking.reading.position
        if self._is_done or position is None:
            self._is_done = False
            return None
        seen_us = time.time_ns() // 1000
        census = take_census(connection, SessionTable(self._mapping, connection), self._rules, seen_us)
        self._is_done = True
        return Findings(self._watch, self.table, self._mapping.scope, (), position, seen_us, census)


def errands_of(
    settings: WatchSettings,
    tables: tuple[TableMapping, ...],
    positions: Mapping[str, TablePosition],
    *,
    rules: Mapping[str, ScopeRules] | None,
    retention_us: int,
    jitter: Jitter,
) -> list[Errand]:
    """All errands of one watch: first those that find new rows.

    Args:
        settings: Of the watch.
        tables: What it reads.
        positions: Where that was committed, by `place_of`.
        rules: Of the scopes whose active rows are counted; None for nothing to be counted.
        retention_us: For how long ids are known.
        jitter: As of a schedule.
    """
    looking = [_looking(settings, table, positions, retention_us, jitter) for table in tables]
    if rules is None:
        return [*looking]
    pairs = [pair for pair in zip(looking, tables, strict=True) if pair[1].active]
    return [*looking, *(TableCensus(settings, each, table, rules[table.scope], jitter=jitter) for each, table in pairs)]


def _looking(
    settings: WatchSettings,
    table: TableMapping,
    positions: Mapping[str, TablePosition],
    retention_us: int,
    jitter: Jitter,
) -> Looking:
    position = positions.get(place_of(settings.name, table.table, table.scope))
    return Looking(settings, table, position, retention_us=retention_us, jitter=jitter)
