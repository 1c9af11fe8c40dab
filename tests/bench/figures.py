"""One line of the table, and the table."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final

HEADINGS: Final = ("what", "median", "unit", "peer", "ratio", "target", "verdict")
_NUMBERS: Final = (1, 4)


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, and what it is held against.

    Attributes:
        what: What was measured, and where.
        value: The median, unless `what` says otherwise.
        unit: Of the value.
        peer: Who was measured beside it, with the peer's own median; `""` for nobody.
        ratio: Ours by theirs: the median of the ratios of single rounds.
        at_most: What the value must not exceed.
        at_least: What the value must reach.
        ratio_at_most: What the ratio must not exceed.
    """

    what: str
    value: float
    unit: str
    peer: str = ""
    ratio: float | None = None
    at_most: float | None = None
    at_least: float | None = None
    ratio_at_most: float | None = None

    @property
    def target(self) -> str:
        if self.ratio_at_most is not None:
            return f"ratio ≤ {shown(self.ratio_at_most)}"
        if self.at_most is not None:
            return f"≤ {shown(self.at_most)} {self.unit}"
        return f"≥ {shown(self.at_least)} {self.unit}" if self.at_least is not None else ""

    @property
    def verdict(self) -> str:
        if self.ratio_at_most is not None and self.ratio is not None:
            missed = self.ratio / self.ratio_at_most - 1
        elif self.at_most is not None:
            missed = self.value / self.at_most - 1
        elif self.at_least is not None:
            missed = 1 - self.value / self.at_least
        else:
            return ""
        return f"missed by {max(missed * 100, 1):.0f} %" if missed > 0 else "met"

    def cells(self) -> tuple[str, ...]:
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return (self.what, shown(self.value), self.unit, self.peer, ratio, self.target, self.verdict)

    def document(self) -> dict[str, object]:
        return {**asdict(self), "target": self.target, "verdict": self.verdict}


def shown(value: float) -> str:
    """A number with three significant digits, thousands apart."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    if value == round(value):
        digits = 0
    return f"{round(value, digits):,.{digits}f}"


def table(figures: Iterable[Figure]) -> str:
    """All figures as aligned text, a heading first."""
    rows = [HEADINGS, *(figure.cells() for figure in figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    ruled = [rows[0], tuple("-" * width for width in widths), *rows[1:]]
    return "\n".join(_line(row, widths) for row in ruled)


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    cells = enumerate(zip(row, widths, strict=True))
    return "  ".join(cell.rjust(width) if at in _NUMBERS else cell.ljust(width) for at, (cell, width) in cells).rstrip()
