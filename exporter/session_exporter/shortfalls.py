"""What is told of a request that did not get the session it expected, and who tells it."""

from typing import Any, NamedTuple, Protocol


class Teller(Protocol):
    """What reports of a request's course."""

    def unmet(self, request: Any, expected: str, shortfall: "Shortfall") -> None:
        """Report that a request, which is over, never got the session that it expected."""

    def identified(self, request: Any, scope: str, at_us: int, trace: bytes) -> None:
        """Report to which thread and run a request belongs."""


class Occasion(NamedTuple):
    """When something happened to a request first.

    Attributes:
        at_us: Event time.
        user: Whose session it was about; `""` when not known.
        trace: The OpenTelemetry trace id.
        sites: Nearest application frames.
    """

    at_us: int
    user: str
    trace: bytes
    sites: tuple[str, ...]


class Shortfall(NamedTuple):
    """That a request did without the session it expected, in one scope.

    Attributes:
        teller: What told of the scope first.
        scope: The scope.
        missed: `MISSED_BY_ID`, `MISSED_BY_USER` or `OTHER_USED`.
        first: When it began to do without.
        actual: What it used instead; `""` for nothing.
        shared: It had to do with other scopes as well.
    """

    teller: Teller
    scope: str
    missed: int
    first: Occasion
    actual: str
    shared: bool
