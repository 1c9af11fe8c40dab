"""Session metrics for applications: creates, reuses, context loss and rapid duplicate creates.

An application imports what stands in `__all__`; everything else is the sidecar's or may change.
"""

from session_exporter._version import __version__
from session_exporter.core.context import RequestContext
from session_exporter.tracker import SessionTracker

__all__ = ["RequestContext", "SessionTracker", "__version__"]
