"""The names under which the calls' child process hands over what it has measured."""

from typing import Final

WITHOUT_OPENTELEMETRY: Final = "OpenTelemetry not loaded"
WITHOUT_SPAN: Final = "OpenTelemetry loaded, no span"
IN_SPAN: Final = "in a span (trace id)"
IN_REQUEST: Final = "in a tracker.request()"
CREATED: Final = "created"
OURS: Final = "ours"
