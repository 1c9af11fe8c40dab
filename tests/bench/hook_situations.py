"""The names under which the hooks' child process hands over what it has measured."""

from typing import Final

UNMAPPED: Final = "statement on an unmapped table"
MAPPED: Final = "statement on a mapped table"
STATEMENTS: Final = (UNMAPPED, MAPPED)
CALL: Final = "wrapped call (get_or_create)"
ASGI: Final = "ASGI middleware, one request"

BARE: Final = "bare"
LISTENER: Final = "empty after_execute listener"
OURS: Final = "ours"
OPENTELEMETRY: Final = "OpenTelemetry's instrumentor"
