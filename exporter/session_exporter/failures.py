"""What kind of failure an error of a database is: told from its class and codes, whichever library raised it.

No library is imported for it. An error that another one wraps is looked at as well: SQLAlchemy's `orig`, then
`__cause__`, then `__context__`. Messages are read where drivers give no code, and go nowhere.
"""

import errno
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from session_exporter.core.fields import error_text
from session_exporter.core.scopes import FAILURES

_Rule: TypeAlias = Callable[[BaseException], str | None]

LINKS_MAX: Final = 12
_MESSAGE_CHARS: Final = 1000
_CLASSES_MAX: Final = 32

_SQLSTATE: Final = re.compile(r"[0-9A-Z]{5}", re.ASCII)
UNIQUE_VIOLATION: Final = "23505"
_SQLSTATES: Final = {
    "25P03": "timeout",  # idle in transaction
    "25P04": "timeout",  # a transaction took too long
    "3D000": "connection",  # no such database
    "40002": "integrity",
    "42501": "auth",  # insufficient privilege
    "53300": "connection",  # too many connections
    "55P03": "timeout",  # a lock was not available in time
    "57014": "timeout",  # cancelled, which is what a statement timeout does
    "57P01": "connection",  # the backend was killed
    "57P02": "connection",  # the server crashed
    "57P03": "connection",  # the server is starting up
    "57P04": "connection",  # the database was dropped
    "57P05": "connection",  # an idle session
}
_SQLSTATE_CLASSES: Final = {
    "08": "connection",
    "23": "integrity",
    "24": "state",
    "25": "state",
    "28": "auth",
    "40": "deadlock",  # serialization failures among them
}

# https://www.sqlite.org/rescode.html: the low byte is the primary code.
_SQLITE_CODES: Final = {5: "timeout", 6: "timeout", 9: "timeout", 14: "connection", 19: "integrity", 23: "auth"}
_SQLITE_UNIQUE: Final = (2067, 1555)  # a unique index, a primary key
_SQLITE_UNIQUE_MESSAGE: Final = "UNIQUE constraint failed"

# https://dev.mysql.com/doc/mysql-errors/8.4/en/
_MYSQL_UNIQUE: Final = 1062
_MYSQL_CODES: Final = {
    **dict.fromkeys((1040, 1049, 1053, 1203, 2002, 2003, 2005, 2006, 2013, 2055), "connection"),
    **dict.fromkeys((1044, 1045, 1142, 1698), "auth"),
    **dict.fromkeys((1048, 1062, 1216, 1217, 1451, 1452, 1557, 1586, 3819), "integrity"),
    **dict.fromkeys((1205, 1969, 3024), "timeout"),
    1213: "deadlock",
}
_MYSQL_MODULES: Final = ("pymysql", "MySQLdb", "mysql", "aiomysql", "asyncmy")

# By the name of the class or of one it inherits from, nearest first; some only of one library.
_CLASSES: Final = {
    **dict.fromkeys(("PoolTimeout", "MaxConnectionsError", "TooManyRequests"), "pool_timeout"),
    **dict.fromkeys(("AuthenticationError", "AuthorizationError", "NoPermissionError"), "auth"),
    **dict.fromkeys(("TimeoutError", "Timeout", "TimeoutException", "ConnectionTimeout"), "timeout"),
    **dict.fromkeys(("ConnectionError", "TransportError", "ClientConnectionError", "DisconnectionError"), "connection"),
    **dict.fromkeys(("SSLError", "gaierror"), "connection"),
    "IntegrityError": "integrity",
    "IntegrityConstraintViolationError": "integrity",
    **dict.fromkeys(("PendingRollbackError", "DetachedInstanceError", "ResourceClosedError"), "state"),
    **dict.fromkeys(("IllegalStateChangeError", "MissingGreenlet", "UnboundExecutionError"), "state"),
    **dict.fromkeys(("ObjectDeletedError", "TransactionManagementError", "PoolClosed"), "state"),
}
_SQLALCHEMY: Final = "sqlalchemy"
# Others inherit from it that tell of no state: NoResultFound, for one.
_INVALID_REQUEST: Final = "InvalidRequestError"

_SYSTEM: Final = frozenset(
    getattr(errno, name)
    for name in (
        *("ECONNREFUSED", "ECONNRESET", "ECONNABORTED", "EPIPE", "ENOTCONN", "EADDRNOTAVAIL"),
        *("EHOSTUNREACH", "EHOSTDOWN", "ENETUNREACH", "ENETDOWN", "ENETRESET"),
    )
)

_DRIVER_CLASSES: Final = ("OperationalError", "InterfaceError", "ProgrammingError", "InternalError", "ConnectionError")
_PHRASES: Final = (
    ("pool_timeout", ("no connection available", "too many connections")),
    ("auth", ("authentication failed", "no password supplied", "no pg_hba.conf entry", "access denied")),
    ("timeout", ("timeout expired", "connection timeout", "database is locked", "database table is locked")),
    ("state", ("another operation is in progress", "closed database", "closed cursor", "cursor already closed")),
    ("state", ("another command is already in progress", "created in a thread", "transaction is aborted")),
    ("connection", ("connection is closed", "connection was closed", "connection already closed", "is lost")),
    ("connection", ("could not connect", "connection refused", "closed the connection", "unable to open database")),
)
_LIBPQ: Final = ("psycopg", "psycopg2")


def failure_kind(error: BaseException) -> str:
    """Name the kind of an error, one of `DB_ERRORS`; `other` when nothing tells. Never raises an Exception."""
    for link in _links(error):
        for rule in _RULES:
            kind = rule(link)
            if kind is not None:
                return kind
    return "other"


def create_failure(error: BaseException) -> str:
    """Name the reason why a create failed, one of `FAILURES`."""
    kind = failure_kind(error)
    return kind if kind in FAILURES else "other"


def is_conflict(error: BaseException) -> bool:
    """Whether a unique index refused something."""
    # What a wrong state had led to is not what refused this.
    return failure_kind(error) == "integrity" and any(_is_unique_violation(link) for link in _links(error))


def error_label(error: BaseException) -> str:
    """Name an error by its class and SQLSTATE, such as `IntegrityError 23505`: never a message or parameter."""
    name = error_text(type(error))
    # What was being handled when it was raised has a SQLSTATE of its own.
    for link in _links(error, explicit=True):
        state = _sqlstate(link)
        if state:
            return f"{name} {state}"
    return name


def _links(error: object, *, explicit: bool = False) -> Iterator[BaseException]:
    """The error and what led to it; a driver's own error comes before the one that wraps it, for it knows the code.

    `explicit`: only what an error names as its cause.
    """
    seen: set[int] = set()
    link = error
    while isinstance(link, BaseException) and id(link) not in seen and len(seen) < LINKS_MAX:
        original = _attribute(link, "orig")
        if isinstance(original, BaseException) and original is not link and id(original) not in seen:
            seen.add(id(original))
            yield original
        seen.add(id(link))
        yield link
        link = _before(link, original, explicit=explicit)


def _before(link: BaseException, original: object, *, explicit: bool) -> BaseException | None:
    if isinstance(original, BaseException):
        # What made the driver's error is nearer than what the application was doing.
        return original.__cause__ or link.__cause__
    return link.__cause__ or (None if explicit or link.__suppress_context__ else link.__context__)


def _by_sqlstate(error: BaseException) -> str | None:
    state = _sqlstate(error)
    return _SQLSTATES.get(state) or _SQLSTATE_CLASSES.get(state[:2])


def _by_code(error: BaseException) -> str | None:
    code = _attribute(error, "sqlite_errorcode")
    if isinstance(code, int):
        return _SQLITE_CODES.get(code & 0xFF)
    return _MYSQL_CODES.get(_mysql_code(error))


def _by_class(error: BaseException) -> str | None:
    for cls in type(error).__mro__[:_CLASSES_MAX]:
        if cls.__name__ == "TimeoutError" and _is_of(cls, _SQLALCHEMY):
            return "pool_timeout"
        # The names are those of libraries, and of the system's own errors.
        kind = _CLASSES.get(cls.__name__)
        if kind is not None:
            return _pool_told(error) if kind == "connection" else kind
    cls = type(error)
    return "state" if cls.__name__ == _INVALID_REQUEST and _is_of(cls, _SQLALCHEMY) else None


def _pool_told(error: BaseException) -> str:
    """Older versions of redis-py have one class for an exhausted pool and for a lost connection."""
    return "pool_timeout" if _by_message(error) == "pool_timeout" else "connection"


def _by_system(error: BaseException) -> str | None:
    if isinstance(error, OSError):
        # asyncio tells of several addresses that all refused with an OSError that has no number.
        several = type(error) is OSError and error.errno is None
        return "connection" if several or error.errno in _SYSTEM else None
    return "connection" if _attribute(error, "connection_invalidated") is True else None


def _by_message(error: BaseException) -> str | None:
    named = [cls for cls in type(error).__mro__[:_CLASSES_MAX] if cls.__name__ in _DRIVER_CLASSES]
    if not named:
        return None
    message = _message(error)
    for kind, phrases in _PHRASES:
        if any(phrase in message for phrase in phrases):
            return kind
    # libpq has no codes for what happens before there is a session, nor when the server goes away.
    lost = any(cls.__name__ == "OperationalError" and _is_of(cls, *_LIBPQ) for cls in named)
    return "connection" if lost and not _sqlstate(error) else None


_RULES: Final[tuple[_Rule, ...]] = (_by_sqlstate, _by_code, _by_class, _by_system, _by_message)


def _is_unique_violation(error: BaseException) -> bool:
    code = _attribute(error, "sqlite_errorcode")
    if isinstance(code, int):
        return code in _SQLITE_UNIQUE
    if _sqlstate(error) == UNIQUE_VIOLATION or _mysql_code(error) == _MYSQL_UNIQUE:
        return True
    # Python before 3.11, and what passes errors of SQLite on as text.
    return type(error).__name__ == "IntegrityError" and _SQLITE_UNIQUE_MESSAGE.lower() in _message(error)


def _sqlstate(error: BaseException) -> str:
    for name in ("sqlstate", "pgcode", "code"):
        value = _attribute(error, name)
        # Nothing else in use looks like it: SQLAlchemy's `code` has four characters.
        if isinstance(value, str) and _SQLSTATE.fullmatch(value):
            return str(value)
    return ""


def _mysql_code(error: BaseException) -> int:
    if not any(_is_of(cls, *_MYSQL_MODULES) for cls in type(error).__mro__[:_CLASSES_MAX]):
        return 0
    arguments = error.args
    code = _attribute(error, "errno") or (arguments[0] if arguments else 0)
    return code if isinstance(code, int) else 0


def _is_of(cls: type, *libraries: str) -> bool:
    return str(cls.__module__).partition(".")[0] in libraries


def _attribute(error: BaseException, name: str) -> Any:
    try:
        return getattr(error, name, None)
    except Exception:  # noqa: BLE001 - a property of somebody's error may fail; it tells nothing then
        return None


def _message(error: BaseException) -> str:
    try:
        return str(error)[:_MESSAGE_CHARS].lower()
    except Exception:  # noqa: BLE001 - the text of somebody's error may fail; it tells nothing then
        return ""
