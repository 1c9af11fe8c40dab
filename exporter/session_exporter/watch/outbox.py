"""Between the thread that reads a database and the one that counts: few findings, and none that were called back."""

import threading
from collections import deque
from typing import Final

from session_exporter.watch.findings import Findings

# Each holds up to a page of rows.
FINDINGS_MAX: Final = 4


class Outbox:
    """Findings in the order of their making; whoever makes more than are taken, waits.

    Attributes:
        generation: Grows whenever what is in it, or on its way to it, is called back.
    """

    def __init__(self) -> None:
        self.generation = 0
        self._findings: deque[Findings] = deque()
        self._changed = threading.Condition()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._findings)

    def put(self, findings: Findings, generation: int) -> bool:
        """Hand over, and wait as long as it is full.

        Args:
            findings: What was found.
            generation: As it was when the reading began.

        Returns:
            False when it has been called back, or nobody will take it any more.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: len(self._findings) < FINDINGS_MAX or self._is_closed or self.generation != generation
            )
            if self._is_closed or self.generation != generation:
                return False
            self._findings.append(findings)
            return True

    def take(self) -> Findings | None:
        """The oldest; None when there is none."""
        with self._changed:
            if not self._findings:
                return None
            self._changed.notify()
            return self._findings.popleft()

    def call_back(self) -> None:
        """Drop everything, and what is on its way."""
        with self._changed:
            self.generation += 1
            self._findings.clear()
            self._changed.notify()

    def close(self) -> None:
        """Keep nobody waiting any more."""
        with self._changed:
            self._is_closed = True
            self._findings.clear()
            self._changed.notify()
