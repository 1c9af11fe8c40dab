"""Session metrics for applications: creates, reuses, context loss and rapid duplicate creates."""

from session_exporter._version import __version__

__all__ = ["__version__"]
