"""OpenTelemetry: sessions on the application's spans, and spans for its queries, where it records any.

Nothing of OpenTelemetry is imported that the application has not; what is made of its classes is made when it is asked
for: `SessionSpanProcessor`, for applications that add it themselves, and `SessionExporterInstrumentor`, by which
`opentelemetry-instrument` loads the hooks.
"""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from session_exporter.postimport import when_imported
from session_exporter.reporter import Reporter
from session_exporter.tracker import SessionTracker

if TYPE_CHECKING:
    from session_exporter.hooks.opentelemetry.instrumentor import SessionExporterInstrumentor
    from session_exporter.hooks.opentelemetry.spans import SessionSpanProcessor

__all__ = ["SessionExporterInstrumentor", "SessionSpanProcessor", "install_opentelemetry"]

HOOK: Final = "opentelemetry"
# The one function that sets the provider: `set_tracer_provider`, which applications import by name, calls it, and so
# does the API when the environment names a provider.
_SETTER: Final = "_set_tracer_provider"

_following: "_Following | None" = None
# A provider keeps its processors for ever: one that was left is taken up again.
_processors: "WeakKeyDictionary[object, SessionSpanProcessor]" = WeakKeyDictionary()


def __getattr__(name: str) -> Any:
    if name == "SessionSpanProcessor":
        from session_exporter.hooks.opentelemetry.spans import SessionSpanProcessor  # noqa: PLC0415 - see above

        return SessionSpanProcessor
    if name == "SessionExporterInstrumentor":
        from session_exporter.hooks.opentelemetry.instrumentor import (  # noqa: PLC0415 - see above
            SessionExporterInstrumentor,
        )

        return SessionExporterInstrumentor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def install_opentelemetry(tracker: SessionTracker | None = None) -> Callable[[], None]:
    """Follow the application's tracer provider, as soon as it has one of the SDK's.

    Its spans then get the attributes `session.id` and `session_exporter.request.id`, and its queries get spans from
    `opentelemetry-instrumentation-sqlalchemy`, where that is installed, supports the SQLAlchemy that is there, and is
    not used by the application itself. Installed twice, it is there once.

    Returns:
        What removes it again; of a second installation, nothing.
    """
    global _following  # noqa: PLW0603 - one per process, as the provider is
    if _following is not None:
        return lambda: None
    following = _following = _Following((tracker or SessionTracker()).reporter(HOOK))
    following.begin()
    return functools.partial(_stop, following)


def _stop(following: "_Following") -> None:
    global _following  # noqa: PLW0603 - one per process, as the provider is
    if _following is following:
        _following = None
        following.end()


class _Following:
    """The installed hook, from before there is a provider to after its end."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._undo: list[Callable[[], None]] = []
        self._provider: object = None

    def begin(self) -> None:
        self._undo.append(when_imported("opentelemetry.trace", self._watch))

    def end(self) -> None:
        while self._undo:
            with self._reporter.shield:
                self._undo.pop()()
        if self._provider is not None:
            self._reporter.register(active=False)

    def _watch(self, trace: ModuleType) -> None:
        """Look at the provider, now and whenever one is set."""
        with self._reporter.shield:
            original: Callable[..., None] = getattr(trace, _SETTER)

            @functools.wraps(original)
            def set_provider(*args: Any, **kwargs: Any) -> None:
                original(*args, **kwargs)
                self._look(trace)

            setattr(trace, _SETTER, set_provider)
            self._undo.append(lambda: _put_back(trace, set_provider, original))
        self._look(trace)

    def _look(self, trace: ModuleType) -> None:
        with self._reporter.shield:
            # `get_tracer_provider` would make the one that the environment names, sooner than the application does.
            provider = getattr(trace, "_TRACER_PROVIDER", None)
            if _following is not self or provider is self._provider or not hasattr(provider, "add_span_processor"):
                return
            first = self._provider is None
            self._provider = provider
            self._reporter.register(active=True)
            self._undo.append(_add_processor(provider, self._reporter))
            if first:
                self._undo.append(_trace_queries(self._reporter))


def _put_back(trace: ModuleType, ours: object, original: object) -> None:
    if getattr(trace, _SETTER) is ours:
        setattr(trace, _SETTER, original)


def _add_processor(provider: Any, reporter: Reporter) -> Callable[[], None]:
    from session_exporter.hooks.opentelemetry.spans import SessionSpanProcessor  # noqa: PLC0415 - the SDK is there

    processor = _processors.get(provider)
    if processor is None:
        processor = _processors[provider] = SessionSpanProcessor(reporter)
        provider.add_span_processor(processor)
    processor.resume(reporter)
    return processor.rest


def _trace_queries(reporter: Reporter) -> Callable[[], None]:
    from session_exporter.hooks.opentelemetry.queries import trace_queries  # noqa: PLC0415 - few applications need it

    return trace_queries(reporter)
