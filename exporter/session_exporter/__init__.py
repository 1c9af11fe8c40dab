"""Session metrics for applications: creates, reuses, context loss and rapid duplicate creates.

An application imports what stands in `__all__`; everything else is the sidecar's or may change.

PYTEST_DONT_REWRITE: nothing in here asserts, and under `session-exporter run` it is imported before pytest is.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from session_exporter._version import __version__

if TYPE_CHECKING:
    from session_exporter.core.context import RequestContext
    from session_exporter.hooks.asgi import SessionExporterMiddleware
    from session_exporter.hooks.calls import instrument
    from session_exporter.hooks.sqlalchemy import map_table
    from session_exporter.hooks.sqlalchemy.sessions import watch_db_sessions
    from session_exporter.mappings import cookie, header, path
    from session_exporter.metrics_service import MetricsService
    from session_exporter.tracker import SessionTracker

__all__ = [
    "MetricsService",
    "RequestContext",
    "SessionExporterMiddleware",
    "SessionTracker",
    "__version__",
    "cookie",
    "header",
    "instrument",
    "map_table",
    "path",
    "watch_db_sessions",
]

# Where the names are that an application pays for only when it uses them.
_PLACES: Final = {
    "MetricsService": "session_exporter.metrics_service",
    "RequestContext": "session_exporter.core.context",
    "SessionExporterMiddleware": "session_exporter.hooks.asgi",
    "SessionTracker": "session_exporter.tracker",
    "cookie": "session_exporter.mappings",
    "header": "session_exporter.mappings",
    "instrument": "session_exporter.hooks.calls",
    "map_table": "session_exporter.hooks.sqlalchemy",
    "path": "session_exporter.mappings",
    "watch_db_sessions": "session_exporter.hooks.sqlalchemy.sessions",
}


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(place), name)
    return value
