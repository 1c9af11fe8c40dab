"""What happened per minute of event time: the window that `view-metrics` judges."""

from typing import Final

import msgspec

MINUTE_US: Final = 60_000_000


class Minute(msgspec.Struct):
    """Counts of one scope in one minute, since the last commit: the state adds them up.

    Attributes:
        counts: By name: `creates`, `adopted`, `lookups`, `looking_requests` (the first lookups of requests),
            `redundant_lookups`, `ends:<reason>`, `duplicates:<cause>`, `losses:<reason>`, `violations:<kind>`,
            `conflicts`, `failures:<reason>`, `rotations`, `stale_expected`, `id_mismatches`, `ids:<kind>/<format>`,
            `shapes:<kind>/<format>/<shape>` (of ids that are not canonical).
    """

    reuses: int = 0
    counts: dict[str, int] = {}

    def add(self, name: str) -> None:
        """Count one more of `name`."""
        self.counts[name] = self.counts.get(name, 0) + 1
