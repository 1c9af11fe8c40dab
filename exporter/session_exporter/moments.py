"""Times and durations as applications give them, made into the microseconds that events carry."""

import math
from datetime import UTC, datetime, timedelta
from typing import Final

from session_exporter.errors import SessionExporterError

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
# What core/events.py accepts. A count of milliseconds, taken for seconds, lies far beyond it.
_TIME_US_MAX: Final = 9_000_000_000_000_000
# Beyond that, and small enough to be multiplied.
_SECONDS_MAX: Final = 10_000_000_000


class MomentError(SessionExporterError, ValueError):
    """The application gave a time or duration that says nothing certain."""


def moment_us(value: object) -> int:
    """Make a point in time into microseconds since the Unix epoch, 0 for None.

    Args:
        value: An aware datetime, seconds since the epoch, or ISO 8601 with an offset.

    Raises:
        MomentError: It is naive, out of range, or no time at all.
    """
    if value is None:
        return 0
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise MomentError("created_at is naive: nobody can tell which moment it means; give it a time zone")
        return _in_range((value - _EPOCH) // _MICROSECOND)
    return _in_range(_scaled(value, "created_at"))


def duration_us(value: object) -> int:
    """Make seconds into microseconds.

    Raises:
        MomentError: They are negative, not finite, or no number.
    """
    return min(_scaled(value, "duration_s"), _TIME_US_MAX)


def _scaled(seconds: object, name: str) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise MomentError(f"{name} cannot be a {type(seconds).__name__}")
    if not 0 <= seconds < math.inf:
        raise MomentError(f"{name} must be finite and not negative")
    return round(min(seconds, _SECONDS_MAX) * 1_000_000)


def _in_range(time_us: int) -> int:
    if not 0 < time_us <= _TIME_US_MAX:
        raise MomentError("created_at must be between 1970 and 2255")
    return time_us


def _parsed(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise MomentError("created_at must be ISO 8601") from None
