"""Spans for the application's queries, by OpenTelemetry's own instrumentation of SQLAlchemy.

That instrumentation wraps `create_engine`. An application that imported the name before has engines which it does not
know: it is told of them when they connect.
"""

import logging
import os
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final
from weakref import WeakSet

from session_exporter.patches import Patch
from session_exporter.postimport import when_imported
from session_exporter.reporter import Reporter

INSTRUMENTATION: Final = "opentelemetry.instrumentation.sqlalchemy"
_DISABLED_KEY: Final = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"

_logger = logging.getLogger("session_exporter")


def trace_queries(reporter: Reporter) -> Callable[[], None]:
    """Have queries traced once the application uses SQLAlchemy, unless it has them traced itself.

    Where the instrumentation refuses the installed SQLAlchemy, the reporter's hook is inactive and the log says why.

    Returns:
        What ends it.
    """
    tracing = _Tracing(reporter)
    tracing.begin()
    return tracing.end


class _Tracing:
    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._undo: list[Callable[[], None]] = []
        self._decided = False
        self._engines: WeakSet[Any] = WeakSet()
        self._lock = threading.Lock()
        self._adopt: Callable[[Any], object] = lambda _engine: None

    def begin(self) -> None:
        # An application that imports the instrumentation is in the middle of that when it comes to SQLAlchemy.
        self._undo.append(when_imported(INSTRUMENTATION, self._decide))
        self._undo.append(when_imported("sqlalchemy", self._decide))

    def end(self) -> None:
        while self._undo:
            with self._reporter.shield:
                self._undo.pop()()

    def _decide(self, _module: ModuleType) -> None:
        with self._reporter.shield:
            imported = sys.modules.get(INSTRUMENTATION)
            if self._decided or (imported is not None and not hasattr(imported, "SQLAlchemyInstrumentor")):
                return
            self._decided = True
            instrumentor = None if _is_disabled() else _find_instrumentor()
            if instrumentor is None or instrumentor.is_instrumented_by_opentelemetry:
                return
            if problem := _conflict(instrumentor):
                self._refuse(problem)
            elif imported is None:
                self._instrument(instrumentor)

    def _refuse(self, problem: str) -> None:
        self._reporter.register(active=False)
        _logger.warning(
            "hook opentelemetry: queries get no spans, since OpenTelemetry's instrumentation refuses %s; "
            "what session-exporter itself sees of them is not affected",
            problem,
        )

    def _instrument(self, instrumentor: Any) -> None:
        import sqlalchemy  # noqa: PLC0415 - the application has imported it
        from sqlalchemy.engine import Engine  # noqa: PLC0415 - likewise

        patch = Patch(Engine, "connect", self._tracing_connect)
        self._undo.append(patch.undo)
        instrumentor.instrument()
        self._undo.append(lambda: _withdraw(instrumentor))
        # It wraps functions with `wrapt`, whose wrappers are called with the function, its owner and the arguments.
        adopt = sqlalchemy.create_engine._self_wrapper  # type: ignore[attr-defined] # noqa: SLF001 - wrapt's
        self._adopt = lambda engine: adopt(lambda: engine, None, (), {})
        # What the application asks for comes first, whenever it does.
        instrumentor.instrument = lambda **options: self._yield_to(instrumentor, options)

    def _yield_to(self, instrumentor: Any, options: dict[str, Any]) -> Any:
        self.end()
        return instrumentor.instrument(**options)

    def _tracing_connect(self, connect: Callable[..., Any]) -> Callable[..., Any]:
        def traced_connect(engine: Any, *args: Any, **kwargs: Any) -> Any:
            if engine not in self._engines:
                with self._reporter.shield:
                    self._take_up(engine)
            return connect(engine, *args, **kwargs)

        return traced_connect

    def _take_up(self, engine: Any) -> None:
        with self._lock:
            self._engines.add(engine)
            # An engine with options of its own shares the listeners of the one it was made of.
            origin = getattr(engine, "_proxied", engine)
            if self._undo and not _is_traced(origin):
                self._adopt(origin)


def _find_instrumentor() -> Any:
    try:
        from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor  # noqa: PLC0415 - it may be missing
    except ModuleNotFoundError as error:
        if not error.name or not INSTRUMENTATION.startswith(error.name):
            raise
        return None
    return SQLAlchemyInstrumentor()


def _is_disabled() -> bool:
    """Whether the environment says so, as it says to `opentelemetry-instrument`."""
    names = {name.strip() for name in os.environ.get(_DISABLED_KEY, "").split(",")}
    return not names.isdisjoint({"sqlalchemy", "*"})


def _conflict(instrumentor: Any) -> str:
    from opentelemetry.instrumentation.dependencies import get_dependency_conflicts  # noqa: PLC0415 - it is there

    supported = instrumentor.instrumentation_dependencies()
    conflict = get_dependency_conflicts(supported)
    return f"{conflict.found}, expected {', '.join(supported)}" if conflict else ""


def _withdraw(instrumentor: Any) -> None:
    vars(instrumentor).pop("instrument", None)
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()


def _is_traced(engine: Any) -> bool:
    listeners = engine.dispatch.before_cursor_execute
    return any(getattr(listener, "__module__", "").startswith(INSTRUMENTATION) for listener in listeners)
