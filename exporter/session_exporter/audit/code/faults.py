"""What was found, and where."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Spot:
    """A place in a source file; `line` and `column` count from 1."""

    path: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One finding.

    Attributes:
        spot: Where it is.
        rule: The id of a rule, such as `SE101`.
        message: What was found here; one line.
        related: Other places that make it what it is.
    """

    spot: Spot
    rule: str
    message: str
    related: tuple[Spot, ...] = ()
