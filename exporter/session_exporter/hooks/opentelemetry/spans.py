"""What spans say about sessions; imported only where OpenTelemetry's SDK is."""

from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.trace import SpanProcessor

from session_exporter.ambient import current_request
from session_exporter.reporter import Reporter
from session_exporter.tracker import SessionTracker

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Span

SESSION_ID: Final = "session.id"
REQUEST_ID: Final = "session_exporter.request.id"


class SessionSpanProcessor(SpanProcessor):
    """Puts the session and the request that a span starts in on the span; never the user.

    `session.id` is the session that the request expects or is bound to, as the application knows it.

    Args:
        reporter: Where failures are counted; of a tracker of its own by default.
    """

    def __init__(self, reporter: Reporter | None = None) -> None:
        self._reporter = reporter or SessionTracker().reporter("opentelemetry")
        self._resting = False

    def on_start(self, span: "Span", parent_context: "Context | None" = None) -> None:  # noqa: ARG002 - the SDK's
        """Set the attributes that are known."""
        if self._resting:
            return
        try:
            request = current_request()
            if request is None:
                return
            span.set_attribute(REQUEST_ID, request.request_id)
            session = request.context.session_id
            if session:
                span.set_attribute(SESSION_ID, session)
        except Exception as error:  # noqa: BLE001 - counted; the span is the application's
            self._reporter.count_failure(error)

    def rest(self) -> None:
        """Do nothing from now on: a provider cannot let go of a processor."""
        self._resting = True

    def resume(self, reporter: Reporter) -> None:
        """Work (again), and count failures with this reporter."""
        self._reporter = reporter
        self._resting = False
