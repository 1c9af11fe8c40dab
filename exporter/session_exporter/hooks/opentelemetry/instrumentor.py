"""How `opentelemetry-instrument` loads the hooks; imported by nobody else."""

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined] # its module opts out

from session_exporter.hooks import autoload


class SessionExporterInstrumentor(BaseInstrumentor):  # type: ignore[misc] # likewise
    """Installs what the configuration named by `$SESSION_EXPORTER_CONFIG_FILE` asks for; nothing without one.

    Where `session-exporter run` has installed the hooks already, they stay as they are, also when this is removed.
    """

    # The one instance is initialised anew whenever somebody asks for it.
    _loaded_here = False

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: each hook waits for what it needs."""
        return ()

    def _instrument(self, **_kwargs: Any) -> None:
        self._loaded_here = autoload.load()

    def _uninstrument(self, **_kwargs: Any) -> None:
        if self._loaded_here:
            self._loaded_here = False
            autoload.unload()
