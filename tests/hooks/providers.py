"""OpenTelemetry's SDK with an exporter in memory, as the process's provider for one test."""

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Spans:
    """A provider, and the spans that it has recorded."""

    def __init__(self) -> None:
        self.provider = TracerProvider(shutdown_on_exit=False)
        self._exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def use(self) -> "Spans":
        """Make it the provider of the process."""
        trace.set_tracer_provider(self.provider)
        return self

    def taken(self) -> list[ReadableSpan]:
        """The spans that ended since it was asked before."""
        spans = list(self._exporter.get_finished_spans())
        self._exporter.clear()
        return spans

    def attributes(self, name: str) -> dict[str, object]:
        [span] = [span for span in self.taken() if span.name == name]
        return dict(span.attributes or {})
