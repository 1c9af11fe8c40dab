"""The OpenTelemetry trace that surrounds a call."""

import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from session_exporter.patches import OnFailure

OPENTELEMETRY: Final = "opentelemetry.trace"


class _OpenTelemetry(NamedTuple):
    """The functions of OpenTelemetry that are needed, which the application has imported."""

    get_current: Callable[[], object]
    get_current_span: Callable[[], Any]


_opentelemetry: _OpenTelemetry | None = None
# Its contexts never change, and a new one comes with every span: a trace id is worked out once for each.
_trace_seen: tuple[object, bytes] = (None, b"")


def trace_id(on_failure: OnFailure) -> bytes:
    """The current OpenTelemetry trace id, 16 bytes; empty when there is none."""
    global _trace_seen  # noqa: PLW0603 - replaced as a whole, which is atomic
    try:
        opentelemetry = _opentelemetry or _find_opentelemetry()
        if opentelemetry is None:
            return b""
        surroundings = opentelemetry.get_current()
        seen, trace = _trace_seen
        if seen is not surroundings:
            trace = _valid_trace_id(opentelemetry.get_current_span().get_span_context())
            _trace_seen = surroundings, trace
    except Exception as error:  # noqa: BLE001 - counted by the tracker; the event is worth recording without it
        on_failure(error)
        return b""
    return trace


def _valid_trace_id(span_context: Any) -> bytes:
    number: int = span_context.trace_id if span_context.is_valid else 0
    return number.to_bytes(16, "big") if number else b""


def _find_opentelemetry() -> "_OpenTelemetry | None":
    global _opentelemetry  # noqa: PLW0603 - found once
    # Both are absent from modules that another thread is just importing.
    get_current = getattr(sys.modules.get("opentelemetry.context"), "get_current", None)
    get_current_span = getattr(sys.modules.get(OPENTELEMETRY), "get_current_span", None)
    if get_current is None or get_current_span is None:
        return None
    _opentelemetry = _OpenTelemetry(get_current, get_current_span)
    return _opentelemetry
