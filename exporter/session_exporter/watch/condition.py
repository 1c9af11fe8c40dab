"""How a watch is doing: what works, what does not, what was counted of it; one line in the log for each change."""

import logging
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from session_exporter.errors import DatabaseError
from session_exporter.watch.findings import WatchFigures

logger = logging.getLogger(__name__)

# The name of what fails when it is not one table.
_DATABASE = ""


class Condition:
    """Of one watch; its thread changes it, others read `figures`.

    Args:
        name: Of the watch.
        address: Of its database, for messages.

    Attributes:
        rows: What was handed over.
        clock_skew_s: The database's clock minus this host's.
    """

    def __init__(self, name: str, address: str) -> None:
        self.rows = 0
        self.clock_skew_s = 0.0
        self._name = name
        self._address = address
        self._errors: Counter[str] = Counter()
        self._failing: dict[str, set[str]] = {}
        self._expected: set[str] = set()
        self._last_success_at_s = 0.0

    def expect(self, names: Iterable[str]) -> None:
        """Take the watch for up only once all of these have succeeded; what had, need not again."""
        if not self._last_success_at_s:
            self._expected = set(names)

    def figures(self) -> WatchFigures:
        """What is to be shown."""
        is_up = bool(self._last_success_at_s) and not self._failing
        return WatchFigures(is_up, self._last_success_at_s, dict(self._errors), self.rows, self.clock_skew_s)

    def succeed(self, table: str, name: str) -> None:
        """Note that something was done for a table."""
        self.answer()
        self._expected.discard(name)
        self._mend(table, [name])
        if not self._expected and not self._failing:
            self._last_success_at_s = time.time()

    def answer(self) -> None:
        """Note that the database has answered, whatever it said."""
        self._mend(_DATABASE, self._failing.get(_DATABASE, ()))

    def _mend(self, place: str, names: Iterable[str]) -> None:
        failing = self._failing.get(place)
        if failing is None:
            return
        failing.difference_update(list(names))
        if not failing:
            del self._failing[place]
            what = f"table {place}" if place else "the database"
            logger.info("watch %s: %s is read again", self._name, what, extra={"database": self._address})

    def fail(self, table: str, name: str, reason: str, error: Exception) -> None:
        """Note that something failed: of a table, or with `""` for a table, the connection."""
        self._errors[reason] += 1
        failing = self._failing.setdefault(table, set())
        if not failing:
            message = str(error) if isinstance(error, DatabaseError) else _place_of(error)
            what = f"table {table}" if table else "the database"
            logger.warning("watch %s: %s cannot be read, it is tried again: %s", self._name, what, message)
        failing.add(name)


def _place_of(error: Exception) -> str:
    """Which defect, and where: what it says itself may quote what was read."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return type(error).__name__
    code = traceback.tb_frame.f_code
    return f"{type(error).__name__} in {Path(code.co_filename).name}, line {traceback.tb_lineno}"
