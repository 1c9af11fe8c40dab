"""What a test demands of its sessions: the arguments of the marker."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from session_exporter.core.incidents import INCIDENT_KINDS
from session_exporter.core.scopes import CAUSES, LOSS_REASONS, VIOLATIONS
from session_exporter.errors import SessionExporterError

ARGUMENTS: Final = ("max_redundant_lookups", "min_reuse_ratio", "allow", "config")
# What `allow` may name: a kind of incident, or of a kind only those of one cause, reason or violation.
# Ids of the wrong format fail no test, and what stands in a database is not looked at.
_HARMLESS: Final = ("invalid_id", "duplicate_active_user")
ALLOWABLE: Final = (
    *(kind for kind in INCIDENT_KINDS if kind not in _HARMLESS),
    *CAUSES,
    *LOSS_REASONS,
    *VIOLATIONS,
)


class DemandError(SessionExporterError, ValueError):
    """The marker's arguments are wrong; the message names argument, value and what was expected."""


@dataclass(frozen=True, slots=True)
class Demands:
    """What has to hold at the end of a test.

    Attributes:
        max_redundant_lookups: None for as many as there are.
        min_reuse_ratio: From 0 to 1; None for any.
        allow: Words of `ALLOWABLE`.
        config: The configuration with the scopes; None for that of the project.
    """

    max_redundant_lookups: int | None = None
    min_reuse_ratio: float | None = None
    allow: frozenset[str] = field(default_factory=frozenset)
    config: Path | None = None


def demands_of(item: pytest.Item, marker: str) -> Demands:
    """Read the markers of a test; of several, as of a function and its class, each argument's nearest one counts.

    Raises:
        DemandError: An argument is unknown, or its value is none.
    """
    arguments: dict[str, Any] = {}
    for mark in item.iter_markers(marker):
        if mark.args:
            raise DemandError(f"{mark.args[0]!r}: expected arguments by name: {', '.join(ARGUMENTS)}")
        arguments = {**mark.kwargs, **arguments}
    for name in arguments:
        if name not in ARGUMENTS:
            raise DemandError(f"unknown argument {name!r}: expected {', '.join(ARGUMENTS)}")
    return Demands(
        _limit(arguments.get("max_redundant_lookups")),
        _ratio(arguments.get("min_reuse_ratio")),
        allowed(arguments.get("allow", ())),
        _config(arguments.get("config")),
    )


def allowed(words: object) -> frozenset[str]:
    """What is meant to happen.

    Raises:
        DemandError: It is no word of `ALLOWABLE`, nor several of them.
    """
    chosen = [words] if isinstance(words, str) else words
    if not isinstance(chosen, Iterable):
        raise DemandError(f"allow={words!r}: expected words")
    for word in (chosen := list(chosen)):
        if word not in ALLOWABLE:
            raise DemandError(f"allow: {word!r}: expected one of {', '.join(ALLOWABLE)}")
    return frozenset(chosen)


def _limit(value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise DemandError(f"max_redundant_lookups={value!r}: expected a whole number from 0, or None")


def _ratio(value: object) -> float | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1):
        return value
    raise DemandError(f"min_reuse_ratio={value!r}: expected a ratio from 0 to 1, or None")


def _config(value: object) -> Path | None:
    if value is None or (isinstance(value, str | Path) and str(value)):
        return None if value is None else Path(value)
    raise DemandError(f"config={value!r}: expected the path of a configuration, or None")
