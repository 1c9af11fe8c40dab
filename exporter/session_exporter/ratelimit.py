"""A limit on log lines per message template, so that one noisy condition neither fills a disk nor hides the others."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

PER_MINUTE: Final = 60
WINDOW_S: Final = 60.0
# Templates are few; more than this is somebody who formats before logging, and must not cost memory.
TEMPLATES_MAX: Final = 1024
_TEMPLATE_CHARS_MAX: Final = 200

_Template: TypeAlias = tuple[str, int, str]


@dataclass(slots=True)
class _Window:
    began_s: float
    passed: int = 0
    suppressed: int = 0


class RateLimit(logging.Filter):
    """Lets `per_minute` records of each template pass in a minute.

    The first record after that minute carries `suppressed`, how many did not pass, as one more field. Any thread.

    Attributes:
        suppressed: How many records did not pass so far, of every template.
    """

    def __init__(self, per_minute: int, clock_s: Callable[[], float]) -> None:
        super().__init__()
        self._per_minute = per_minute
        self._clock_s = clock_s
        self._windows: OrderedDict[_Template, _Window] = OrderedDict()
        # Re-entrant: a signal handler may log while this thread is in here.
        self._lock = threading.RLock()
        self.suppressed = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the record passes, and count it."""
        with self._lock:
            window = self._window(record)
            if window.passed >= self._per_minute:
                window.suppressed += 1
                self.suppressed += 1
                return False
            window.passed += 1
            return True

    def _window(self, record: logging.LogRecord) -> _Window:
        template = (record.name, record.levelno, _template(record.msg))
        now_s = self._clock_s()
        window = self._windows.get(template)
        if window is not None and now_s - window.began_s < WINDOW_S:
            return window
        if window is not None and window.suppressed:
            record.suppressed = window.suppressed
        window = self._windows[template] = _Window(now_s)
        self._windows.move_to_end(template)
        if len(self._windows) > TEMPLATES_MAX:
            self._windows.popitem(last=False)
        return window


def _template(message: object) -> str:
    return message[:_TEMPLATE_CHARS_MAX] if isinstance(message, str) else type(message).__name__
