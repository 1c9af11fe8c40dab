"""Logs of the sidecar: one record, one line, in logfmt or JSON, on stderr; no text in them can forge another line."""

import json
import logging
import math
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Literal, TextIO, get_args

from session_exporter.errors import ConfigError
from session_exporter.ratelimit import PER_MINUTE, RateLimit

LogFormat = Literal["logfmt", "json"]

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}
# A value longer than this is cut: a traceback of some sixty frames fits.
VALUE_CHARS_MAX: Final = 8192

_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_RESERVED: Final = frozenset({"ts", "level", "logger", "msg", "error", "stack"})
_NOT_A_KEY: Final = re.compile(r"[^A-Za-z0-9_.-]")
_PLAIN_TYPES: Final = frozenset({bool, int, type(None)})
_INT_BITS_MAX: Final = 64
_BMP_MAX: Final = 0xFFFF
_ESCAPES: Final = {'"': r"\"", "\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"}


def configure(
    level: str,
    format: str = "logfmt",  # noqa: A002 - as the flag --log.format is called
    *,
    per_minute: int = PER_MINUTE,
    stream: TextIO | None = None,
    clock_s: Callable[[], float] = time.monotonic,
) -> logging.Handler:
    """Send the logs of this process to stderr; called again, it replaces what it set before.

    Args:
        level: One of debug, info, warning (or warn), error; other libraries are heard from warning on.
        format: `logfmt` or `json`.
        per_minute: Lines per minute of one message template; the rest is counted.
        stream: Where to write, instead of stderr.
        clock_s: A monotonic clock for the limit, seconds.

    Returns:
        The handler, for `logging.getLogger().removeHandler`.

    Raises:
        ConfigError: Level or format is another word.
    """
    if level.lower() not in LEVELS:
        raise ConfigError(f"log.level {level!r}: expected one of {', '.join(LEVELS)}")
    if format not in get_args(LogFormat):
        raise ConfigError(f"log.format {format!r}: expected one of {', '.join(get_args(LogFormat))}")
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else LogfmtFormatter())
    handler.addFilter(RateLimit(per_minute, clock_s))
    _install(handler, LEVELS[level.lower()])
    return handler


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, so that it is found again."""


def _install(handler: logging.Handler, level: int) -> None:
    root = logging.getLogger()
    for previous in [present for present in root.handlers if isinstance(present, _Handler)]:
        root.removeHandler(previous)
    root.addHandler(handler)
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger("session_exporter").setLevel(level)


class LogfmtFormatter(logging.Formatter):
    """`ts=… level=… logger=… msg="…" key=value`; quoted where a value has more than plain characters."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one line; whatever the record holds, nothing is raised."""
        return " ".join(f"{_key(key)}={_logfmt(_text(value))}" for key, value in _fields(record).items())


class JsonFormatter(logging.Formatter):
    """One JSON object per line; values that JSON does not have are written as text."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one line; whatever the record holds, nothing is raised."""
        # ASCII only: nothing a terminal or a log shipper could take for the end of a line.
        return json.dumps({_key(key): _plain(value) for key, value in _fields(record).items()}, allow_nan=False)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    at = datetime.fromtimestamp(record.created, UTC)
    fields: dict[str, object] = {
        "ts": f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z",
        "level": record.levelname.lower(),
        "logger": record.name,
        "msg": _message(record),
    }
    for key, value in record.__dict__.items():
        if key not in _STANDARD:
            fields[f"field_{key}" if key in _RESERVED else key] = value
    if record.exc_info and record.exc_info[0] is not None:
        fields["error"] = logging.Formatter().formatException(record.exc_info)
    if record.stack_info:
        fields["stack"] = record.stack_info
    return fields


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - arguments that do not fit their template, or cannot be written: say what there is
        return f"{_text(record.msg)} {_text(record.args)}"


def _text(value: object) -> str:
    """Write any value as text of bounded length, without raising."""
    try:
        text = str(value)
    except Exception:  # noqa: BLE001 - whatever a foreign __str__ does, the line is still written
        text = f"<unprintable {type(value).__name__}>"
    return text if len(text) <= VALUE_CHARS_MAX else f"{text[:VALUE_CHARS_MAX]}…[{len(text) - VALUE_CHARS_MAX} more]"


def _plain(value: object) -> object:
    """Return a value as JSON has it: a number, a boolean, null, or else its text."""
    if isinstance(value, int) and value.bit_length() > _INT_BITS_MAX:
        return _text(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    return value if type(value) in _PLAIN_TYPES else _text(value)


def _key(key: object) -> str:
    return _NOT_A_KEY.sub("_", _text(key)) or "_"


def _logfmt(text: str) -> str:
    if text and all(char.isprintable() and char not in ' ="\\' for char in text):
        return text
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(char: str) -> str:
    """Escape what would end the line or the quotes, and what a terminal would obey: controls, marks of direction."""
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    return f"\\u{ord(char):04x}" if ord(char) <= _BMP_MAX else f"\\U{ord(char):08x}"
