"""What a field of the model accepts: each check takes the field's name and value, and gives what is stored."""

import math
from datetime import UTC, date, datetime
from typing import Final

from session_exporter.core.idtext import canonical_id, shown

ERROR_CHARS_MAX: Final = 500
_CLASS_CHARS_MAX: Final = 100
# Enough for the first line; a driver's message may hold a statement of megabytes.
_SCANNED_CHARS: Final = 2 * ERROR_CHARS_MAX
_NO_ERROR_GIVEN: Final = "unknown error"


def utc_now() -> datetime:
    """Read the system's clock, for whoever does not say what time it is."""
    return datetime.now(tz=UTC)


def utc_time(name: str, value: object) -> datetime:
    """Accept an aware datetime and give it in UTC.

    Raises:
        ValueError: It is naive, or outside of what a datetime can hold in UTC.
        TypeError: It is no datetime.
    """
    if not isinstance(value, datetime):
        raise TypeError(f"{name} must be a datetime, got {shown(value)} ({type(value).__name__})")
    if value.tzinfo is UTC:
        return value
    if value.utcoffset() is None:
        raise ValueError(f"{name} must have a time zone, got the naive {value.isoformat()}")
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{name} is no time in UTC: {value.isoformat()}") from error


def optional_time(name: str, value: object) -> datetime | None:
    """Accept None, and what `utc_time` does."""
    return None if value is None else utc_time(name, value)


def optional_day(name: str, value: object) -> date | None:
    """Accept a date or None; a datetime would be a date too, and is refused.

    Raises:
        TypeError: It is neither.
    """
    if value is None or (isinstance(value, date) and not isinstance(value, datetime)):
        return value
    raise TypeError(f"{name} must be a date, got {shown(value)} ({type(value).__name__})")


def count_of(name: str, value: object) -> int:
    """Accept an int from 0.

    Raises:
        ValueError: It is negative.
        TypeError: It is no int; a bool is none.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {shown(value)} ({type(value).__name__})")
    if value < 0:
        raise ValueError(f"{name} must be 0 or more, got {shown(value)}")
    return value


def amount_of(name: str, value: object) -> float:
    """Accept a finite number from 0.

    Raises:
        ValueError: It is negative, infinite or not a number.
        TypeError: It is no int and no float; a bool is none.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {shown(value)} ({type(value).__name__})")
    try:
        amount = float(value)
    except OverflowError:
        amount = math.inf
    if not 0 <= amount < math.inf:
        raise ValueError(f"{name} must be finite and 0 or more, got {amount}")
    return amount


def optional_amount(name: str, value: object) -> float | None:
    """Accept None, and what `amount_of` does."""
    return None if value is None else amount_of(name, value)


def id_of(name: str, value: object) -> str:
    """Accept what `canonical_id` does.

    Raises:
        TypeError: It is nothing that serves as an id.
    """
    try:
        return canonical_id(value)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from error


def optional_error(_name: str, value: object) -> str | None:
    """Accept anything, None being "no error"."""
    return None if value is None else error_text(value)


def error_text(error: object) -> str:
    """Describe an error, whatever it is, in one printable line of at most 500 characters; never raises.

    Of an exception the class is named: `ValueError: the message`. Only the first line of a message is kept: database
    drivers put the row's values, the statement and its parameters on the lines after it.
    """
    try:
        return _described(error)[:ERROR_CHARS_MAX]
    except Exception:  # noqa: BLE001 - str() of an object runs foreign code, and this is an error path
        return f"{_class_name(type(error))}: (its text cannot be had)"


def _described(error: object) -> str:
    if error is None:
        return _NO_ERROR_GIVEN
    if isinstance(error, str):
        return _first_line(error) or _NO_ERROR_GIVEN
    if isinstance(error, type):
        return _class_name(error)
    line = _first_line(str(error))
    return f"{_class_name(type(error))}: {line}" if line else _class_name(type(error))


def _first_line(text: str) -> str:
    # The slice is taken of the text itself: a subclass of str may have its own idea of slicing.
    plain = str.__str__(text)[:_SCANNED_CHARS].strip()
    line = plain.splitlines()[0] if plain else ""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)


def _class_name(cls: type) -> str:
    # Asked of `type` itself: a metaclass may answer `__name__` with anything.
    name: str = type.__dict__["__name__"].__get__(cls)
    return _first_line(name)[:_CLASS_CHARS_MAX]
