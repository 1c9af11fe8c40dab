"""What waits for the watermark: cheap to add to, and sorted only once it is due."""

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Final, TypeAlias

from session_exporter.core.records import Report

# At the default lateness some eight steps wait unsorted at any time.
STEP_US: Final = 250_000

Entry: TypeAlias = tuple[tuple[int, bool, bytes, int, str, bytes], int, Report]


class WaitingReports:
    """Reports by event time."""

    def __init__(self) -> None:
        self._steps: dict[int, list[Report]] = {}
        self._numbers: list[int] = []
        self._sorted: list[Entry] = []
        self._sorted_until = 0
        self._arrivals = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, report: Report) -> None:
        """Let a report wait."""
        self._count += 1
        number = report.at_us // STEP_US
        if number < self._sorted_until:
            self._sort_in(report)
        elif number in self._steps:
            self._steps[number].append(report)
        else:
            self._steps[number] = [report]
            heappush(self._numbers, number)

    def before(self, time_us: float) -> Iterator[Report]:
        """Take out what is due before `time_us`, in order; what is added meanwhile and is due as well, too."""
        while True:
            while self._numbers and self._numbers[0] * STEP_US < time_us and not self._is_due_sooner():
                self._open(heappop(self._numbers))
            if not self._sorted or self._sorted[0][0][0] >= time_us:
                return
            self._count -= 1
            yield heappop(self._sorted)[2]

    def all(self) -> list[Report]:
        """Everything that waits, in no particular order; it goes on waiting."""
        return [entry[2] for entry in self._sorted] + [report for step in self._steps.values() for report in step]

    def _is_due_sooner(self) -> bool:
        return bool(self._sorted) and self._sorted[0][0][0] < self._numbers[0] * STEP_US

    def _open(self, number: int) -> None:
        self._sorted_until = max(self._sorted_until, number + 1)
        for report in self._steps.pop(number):
            self._sort_in(report)

    def _sort_in(self, report: Report) -> None:
        self._arrivals += 1
        heappush(self._sorted, (report.order(), self._arrivals, report))
