"""What a database refused, made into errors by culprit: without passwords, and without the values of statements."""

import re
from typing import Final

from session_exporter.errors import DatabaseError, DatabaseRefused, DatabaseUnavailable, TableUnusable
from session_exporter.failures import error_label, failure_kind

# No such table, column, function or schema, or one of another type than expected.
_TABLE_STATES: Final = frozenset({"42P01", "42703", "42704", "42883", "42804", "3F000", "42809"})
_TABLE_PHRASES: Final = ("no such table", "no such column")
_MESSAGE_CHARS: Final = 300
# How libpq begins what it says of a connection; such a message has no values in it.
_PASSWORD: Final = re.compile(r"(password\s*=\s*)\S+", re.IGNORECASE)


def told(error: BaseException, address: str, password: str = "") -> DatabaseError:
    """Make an error of SQLAlchemy or a driver into one of ours.

    Args:
        error: As it was raised.
        address: Where the database is: what messages may show.
        password: What no message may show, whatever the driver says.
    """
    original = getattr(error, "orig", None) or error
    said = _first_line(original)
    if _is_of_table(original, said):
        return TableUnusable(f"{address}: {_shown(said, password)}")
    kind = failure_kind(error)
    if kind == "auth":
        return DatabaseRefused(f"{address}: {_shown(said, password)}")
    if kind in {"timeout", "pool_timeout"}:
        return DatabaseUnavailable(
            f"{address}: {_label(error, original)}: took too long, or waited for a lock", "timeout"
        )
    if kind == "connection":
        return DatabaseUnavailable(f"{address}: {_shown(said, password)}")
    # What else a database says may quote values.
    return DatabaseUnavailable(f"{address}: {_label(error, original)}", "other")


def _is_of_table(original: BaseException, said: str) -> bool:
    state = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    if state:
        return state in _TABLE_STATES
    return any(phrase in said for phrase in _TABLE_PHRASES)


def _label(error: BaseException, original: BaseException) -> str:
    code = getattr(original, "sqlite_errorname", "")
    return f"{error_label(error)} {code}".strip()


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _shown(said: str, password: str) -> str:
    if password:
        said = said.replace(password, "***")
    return _PASSWORD.sub(r"\1***", said)[:_MESSAGE_CHARS]
