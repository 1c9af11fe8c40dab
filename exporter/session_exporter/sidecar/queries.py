"""What may be asked of the HTTP interface: query parameters and the scrape timeout, checked."""

import math
import re
from collections.abc import Collection, Mapping
from typing import Final

from multidict import MultiMapping

from session_exporter.core.events import ID_BYTES_MAX
from session_exporter.core.incidents import INCIDENT_KINDS
from session_exporter.core.scopes import CAUSES, LOSS_REASONS, VIOLATIONS
from session_exporter.errors import QueryError
from session_exporter.quantities import parse_duration
from session_exporter.sidecar.incidents import Wanted

INCIDENT_PARAMETERS: Final = ("since", "scope", "kind", "cause", "reason", "limit", "id", "user", "after")
REASONS: Final = (*LOSS_REASONS, *VIOLATIONS)
USER_CHARS_MAX: Final = 1024
LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 1000
SINCE_DEFAULT_S: Final = 3600.0
SINCE_MIN_S: Final = 1.0
SINCE_MAX_S: Final = 31 * 86400.0

SCRAPE_TIMEOUT_HEADER: Final = "X-Prometheus-Scrape-Timeout-Seconds"
SCRAPE_TIMEOUT_DEFAULT_S: Final = 10.0
SCRAPE_TIMEOUT_MIN_S: Final = 0.1
SCRAPE_TIMEOUT_MAX_S: Final = 120.0

_SHOWN_CHARS_MAX: Final = 80
_INCIDENT_ID: Final = re.compile(r"[a-z0-9-]{1,64}")
_CURSOR: Final = re.compile(r"[0-9a-f]{0,64}-[0-9]{1,18}")


def only(query: MultiMapping[str], names: Collection[str]) -> dict[str, str]:
    """Return the parameters as a dictionary.

    Raises:
        QueryError: A parameter is not among `names`, or is given twice: a misspelt one must not mean its default.
    """
    for name in query:
        if name not in names:
            raise QueryError(f"unknown parameter {_shown(name)}: expected {_listed(names)}")
        if len(query.getall(name)) > 1:
            raise QueryError(f"{name}: given more than once, expected once")
    return dict(query.items())


def since_s(query: Mapping[str, str]) -> float:
    """Read `since`, a duration; seconds, an hour by default.

    Raises:
        QueryError: It is no duration from 1s to 31d.
    """
    text = query.get("since")
    if text is None:
        return SINCE_DEFAULT_S
    try:
        duration_s = parse_duration(text) / 1_000_000
    except ValueError:
        duration_s = 0.0
    if not SINCE_MIN_S <= duration_s <= SINCE_MAX_S:
        raise QueryError(f"since: {_shown(text)}: expected a duration from 1s to 31d, such as 15m, 1h30m or 7d")
    return duration_s


def scope(query: Mapping[str, str]) -> str | None:
    """Read `scope`, a name; None when it is not given.

    Raises:
        QueryError: It is empty or longer than a scope's name can be.
    """
    text = query.get("scope")
    if text is not None and not 0 < len(text) <= ID_BYTES_MAX:
        raise QueryError(f"scope: {_shown(text)}: expected the name of a scope, 1 to {ID_BYTES_MAX} characters")
    return text


def wanted(query: Mapping[str, str]) -> Wanted:
    """Read which incidents are asked for; the user is the plain id, which no message repeats.

    Raises:
        QueryError: A parameter is not what it has to be.
    """
    user = query.get("user")
    if user is not None and not 0 < len(user) <= USER_CHARS_MAX:
        raise QueryError(f"user: {len(user)} characters: expected the id of a user, 1 to {USER_CHARS_MAX} characters")
    return Wanted(
        since_s=since_s(query),
        scope=scope(query),
        kind=word(query, "kind", INCIDENT_KINDS),
        cause=word(query, "cause", CAUSES),
        reason=word(query, "reason", REASONS),
        limit=limit(query),
        id=_like(query, "id", _INCIDENT_ID, "the id of an incident, such as d-1f3a9c0b2e, or its beginning"),
        user=user,
        after=_like(query, "after", _CURSOR, "what an earlier answer called next"),
    )


def _like(query: Mapping[str, str], name: str, pattern: re.Pattern[str], what: str) -> str | None:
    text = query.get(name)
    if text is not None and not pattern.fullmatch(text):
        raise QueryError(f"{name}: {_shown(text)}: expected {what}")
    return text


def word(query: Mapping[str, str], name: str, words: Collection[str]) -> str | None:
    """Read a parameter that is one of a closed set; None when it is not given.

    Raises:
        QueryError: It is another word.
    """
    text = query.get(name)
    if text is not None and text not in words:
        raise QueryError(f"{name}: {_shown(text)}: expected one of {_listed(words)}")
    return text


def limit(query: Mapping[str, str]) -> int:
    """Read `limit`, how many to return.

    Raises:
        QueryError: It is no whole number from 1 to 1000.
    """
    text = query.get("limit", str(LIMIT_DEFAULT))
    # The length first: int() refuses thousands of digits with an error of its own.
    count = int(text) if len(text) <= len(str(LIMIT_MAX)) and text.isascii() and text.isdigit() else 0
    if not 1 <= count <= LIMIT_MAX:
        raise QueryError(f"limit: {_shown(text)}: expected a whole number from 1 to {LIMIT_MAX}")
    return count


def scrape_timeout_s(header: str | None) -> float:
    """Read the scrape timeout header, seconds; what is no positive number is ignored, as Prometheus' exporters do."""
    try:
        timeout_s = float(header or "")
    except ValueError:
        return SCRAPE_TIMEOUT_DEFAULT_S
    if not math.isfinite(timeout_s) or timeout_s <= 0:
        return SCRAPE_TIMEOUT_DEFAULT_S
    return min(max(timeout_s, SCRAPE_TIMEOUT_MIN_S), SCRAPE_TIMEOUT_MAX_S)


def _listed(words: Collection[str]) -> str:
    return ", ".join(words) or "none"


def _shown(text: str) -> str:
    return ascii(text if len(text) <= _SHOWN_CHARS_MAX else f"{text[:_SHOWN_CHARS_MAX]}…")
