"""Reading what is new in one table, so that no row is passed over and each look is bounded.

How whoever owns the connection uses it, from one thread:

    table = TableWatch("main", mapping, settings, position, retention_us=...)
    while findings := table.look(connection, seen_us=..., judged_us=...):
        ...                      # hand it over; any transaction of `Database.reading` will do for the next call

`look` gives None when there is nothing left to do for this time. Each piece's position may be committed with its rows;
whoever starts anew from any committed position finds the same rows again, and never misses one. An exception from
`look` (a database's, which `Database.reading` translates) ends that look; the next call begins another one.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from msgspec import structs

from session_exporter.core.rows import Row
from session_exporter.mappings import TableMapping
from session_exporter.watch.acquaintance import TableKnowledge
from session_exporter.watch.clock import Moment, moment
from session_exporter.watch.ends import LiveIds
from session_exporter.watch.findings import Findings, TablePosition
from session_exporter.watch.pages import PAGE_ROWS, Reader
from session_exporter.watch.seeding import Seeding
from session_exporter.watch.sweeping import RecentRows, late_pages
from session_exporter.watch.telling import changed_rows, created_rows
from session_exporter.watch.times import MINUTE_US, TimeColumn
from session_exporter.watchsettings import WatchSettings

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

# Applications that set `created_at` themselves have clocks that differ a little from the database's.
MARGIN_US: Final = 1_000_000
# Rows of a later time than that are read when their time has come.
FUTURE_US: Final = 3_600_000_000
# Where transactions have been open for longer, what is older is counted and not read again each time.
READ_AGAIN_US: Final = 120_000_000
# A position without rows is told when it has moved so far.
_TOLD_US: Final = 30_000_000

_Piece: TypeAlias = tuple[list[Row], TablePosition]


class TableWatch:
    """What is known of one table between two looks.

    Args:
        watch: The name of the watch.
        mapping: The table; it names `created_at`.
        settings: Of the watch.
        position: What was committed last; None when it was never looked at.
        retention_us: For how long ids are known: older rows are of no interest.
        page_rows: How many rows are read at once.
        margin_us: By how much less than the database's clock those of applications may show.
        ask: Asks a database what time it is.

    Attributes:
        position: Of the piece that was given last; None before the first. Whoever reads goes on from a later one.
        clock_skew_us: The database's clock less the sidecar's, as of the last look.
    """

    def __init__(
        self,
        watch: str,
        mapping: TableMapping,
        settings: WatchSettings,
        position: TablePosition | None,
        *,
        retention_us: int,
        page_rows: int = PAGE_ROWS,
        margin_us: int = MARGIN_US,
        ask: "Callable[[Connection], Moment]" = moment,
    ) -> None:
        self.position = self._here = position
        self.clock_skew_us = 0
        self._watch = watch
        self._mapping = mapping
        self._settings = settings
        self._retention_us = retention_us
        self._reader = Reader(page_rows)
        self._known = TableKnowledge(mapping)
        self._margin_us = margin_us
        self._ask = ask
        self._look: Iterator[_Piece] | None = None
        self._begun_us = 0
        self._judged_us = 0
        self._recent, self._changed = RecentRows(), RecentRows()
        self._read_us = 0
        self._swept_us = 0
        self._live = LiveIds()
        self._seeding: Seeding | None = None

    def look(self, connection: "Connection", *, seen_us: int, judged_us: int) -> Findings | None:
        """Go on with a look, or begin one.

        Args:
            connection: Within a transaction that reads.
            seen_us: The sidecar's clock.
            judged_us: Up to when, by the sidecar's clock, all has been judged that hooks told of.

        Returns:
            At most a page of rows, and how far the table was read with them; None when the look is over.

        Raises:
            TableUnusable: The table is not there, or not as the configuration says.
            SQLAlchemyError: As the connection.
        """
        self._reader.connection = connection
        self._judged_us = judged_us
        if self._look is None:
            self._look, self._begun_us = self._pieces(seen_us), seen_us
        try:
            piece = next(self._look, None)
        except BaseException:
            self._look = None
            self._known.doubt()
            raise
        if piece is None:
            self._look = None
            return None
        rows, self.position = piece
        self._here = self.position
        look_us = seen_us - self._begun_us
        mapping = self._mapping
        return Findings(self._watch, mapping.table, mapping.scope, rows, self.position, seen_us, look_us=look_us)

    def take_warnings(self) -> list[str]:
        """What whoever runs this should be told, each once."""
        return self._known.take_warnings()

    # One look. What is noted after a `yield` is noted once the piece was taken.

    def _pieces(self, seen_us: int) -> Iterator[_Piece]:
        now = self._ask(self._reader.connection)
        self.clock_skew_us = now.now_us - seen_us
        self._known.renew(self._reader.connection, now.now_us)
        self._reader.table = self._known.table
        if self._here is None:
            yield [], TablePosition(since_us=now.now_us, created_us=now.now_us, updated_us=now.now_us)
        told = self.position
        yield from self._new(now)
        self._here = self._settled(now)
        if self.position is not told or self._has_moved():
            yield [], self._here
        for rows in self._live_checked(now):
            yield rows, self._position
        yield from self._old()

    def _has_moved(self) -> bool:
        told, here = self.position, self._position
        moved_us = (here.created_us - told.created_us, here.updated_us - told.updated_us) if told else (0,)
        return max(moved_us) >= _TOLD_US

    def _new(self, now: Moment) -> Iterator[_Piece]:
        if self._known.is_turn(self._mapping.created_at):
            yield from self._created(now)
            yield from self._swept(now)
        if self._known.is_turn(self._mapping.updated_at):
            yield from self._updated(now)

    def _settled(self, now: Moment) -> TablePosition:
        """How far the table is read once all is read that there is now."""
        known_us = now.known_us
        settled_us = now.settled_us(self._settings.longest_transaction_us) - self._margin_us
        position = self._position
        if self._known.is_turn(self._mapping.created_at):
            created_us = max(settled_us, known_us - self._settings.sweep_us, position.since_us)
            position = structs.replace(position, created_us=created_us)
        if self._known.is_turn(self._mapping.updated_at):
            position = structs.replace(position, updated_us=max(settled_us, known_us - READ_AGAIN_US))
        return position

    def _created(self, now: Moment) -> Iterator[_Piece]:
        times, position = self._times, self._position
        end_us = self._settled(now).created_us
        from_us = max(min(position.created_us, end_us), position.since_us)
        again_us = from_us
        if self._read_us - from_us > READ_AGAIN_US:
            again_us = self._read_us - MINUTE_US - self._read_us % MINUTE_US
            yield from self._late(from_us, again_us, now)
        for page in self._reader.pages(times, again_us, now.now_us + FUTURE_US):
            last_us = self._reader.table.created_us(page[-1]) or position.created_us
            yield from self._told(page, now, min(last_us, end_us))
        self._read_us = now.now_us
        self._recent.forget(from_us, now.now_us - self._settings.sweep_us - MINUTE_US)

    def _swept(self, now: Moment) -> Iterator[_Piece]:
        """Look for rows that came up later than any transaction that was known of can explain."""
        self._swept_us = self._swept_us or now.now_us
        if now.now_us - self._swept_us < self._settings.sweep_every_us:
            return
        from_us = max(now.now_us - self._settings.sweep_us, self._position.since_us)
        yield from self._late(from_us, min(self._position.created_us, self._read_us), now)
        self._swept_us = now.now_us

    def _late(self, from_us: int, to_us: int, now: Moment) -> Iterator[_Piece]:
        for page in late_pages(self._reader, self._times, self._recent, from_us, to_us):
            yield from self._told(page, now, self._position.created_us)

    def _told(self, page: list[Any], now: Moment, created_us: int) -> Iterator[_Piece]:
        table, position = self._reader.table, self._position
        fresh = [row for row in page if self._is_fresh(row)]
        rows = created_rows(self._reader, fresh, now.now_us)
        if rows:
            yield rows, structs.replace(position, created_us=max(created_us, position.created_us))
        for row in fresh:
            self._recent.add((table.session(row), table.created_us(row)), table.created_us(row))
            self._note(row)

    def _is_fresh(self, row: Any) -> bool:
        session, created_us = self._reader.table.session(row), self._reader.table.created_us(row)
        if not session or not created_us:
            self._known.warn(f"table {self._mapping.table}: rows without an id or a time that can be read are left out")
            return False
        return created_us >= self._position.since_us and (session, created_us) not in self._recent

    def _updated(self, now: Moment) -> Iterator[_Piece]:
        table, position = self._reader.table, self._position
        if table.updated_at is None:
            return
        end_us = self._settled(now).updated_us
        from_us = max(min(position.updated_us, end_us), position.since_us)
        for page in self._reader.pages(table.updated_at, from_us, now.now_us + FUTURE_US):
            fresh = [row for row in page if table.session(row) and self._change(row) not in self._changed]
            rows = changed_rows(table, fresh, now.now_us)
            if rows:
                last_us = min(table.updated_us(page[-1]) or from_us, end_us)
                yield rows, structs.replace(self._position, updated_us=max(last_us, self._position.updated_us))
            for row in fresh:
                self._note(row)
        self._changed.forget(from_us, from_us)

    def _change(self, row: Any) -> tuple[object, ...]:
        table = self._reader.table
        return table.session(row), table.updated_us(row), table.is_active(row)

    def _note(self, row: Any) -> None:
        table = self._reader.table
        self._changed.add(self._change(row), table.updated_us(row))
        if table.is_active(row):
            self._live.add(table.session(row), table.id_key(row))
        else:
            self._live.drop(table.session(row))

    def _live_checked(self, now: Moment) -> Iterator[list[Row]]:
        if not self._known.is_turn(self._mapping.id[0]):
            return
        over = self._live.check(self._reader, now.now_us)
        if over:
            yield over
        for row in over:
            self._live.drop(row.session)

    def _old(self) -> Iterator[_Piece]:
        if not self._known.is_turn(self._mapping.created_at):
            return
        position = self._position
        if self._seeding is None:
            self._seeding = Seeding(
                position.created_us, position.since_us, is_known=position.is_known, retention_us=self._retention_us
            )
        judged_us = self._judged_us + self.clock_skew_us
        may_tell = judged_us > position.since_us + self._settings.grace_us
        for rows in self._seeding.parts(self._reader, self._live, may_tell=may_tell):
            yield rows, self._position
        if self._seeding.is_over and not self._position.is_known:
            yield [], structs.replace(self._position, is_known=True)

    # The table.

    @property
    def _position(self) -> TablePosition:
        if self._here is None:
            raise AssertionError("the first piece is the first position")
        return self._here

    @property
    def _times(self) -> TimeColumn:
        times = self._reader.table.created_at
        if times is None:
            raise AssertionError("a table without it is refused before")
        return times
