"""A journal in memory, for the tests of whatever records events."""

from collections import Counter

import msgspec

from session_exporter.core.events import Event, Identified, Unmet
from session_exporter.journal.control import COUNTS, GAUGES


class Recorder:
    """Keeps events as the sidecar would decode them; an event that it could not decode raises.

    Attributes:
        events: What was appended.
        errors: Failures by hook.
        hooks: Whether each hook is active.
        gauges: Shown of the process.
        counts: Added up of the process.
        pool_waits_us: Waits for a connection, microseconds.
        opened: How often it was made visible.
        closed: How often it was closed.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.errors: Counter[str] = Counter()
        self.hooks: dict[str, bool] = {}
        self.gauges: dict[str, int] = {}
        self.counts: Counter[str] = Counter()
        self.pool_waits_us: list[int] = []
        self.opened = 0
        self.closed = 0

    @property
    def reports(self) -> list[Event]:
        """What was reported: without what was concluded from it about whole requests."""
        return [event for event in self.events if not isinstance(event, Unmet | Identified)]

    def append(self, fields: tuple[object, ...]) -> None:
        self.events.append(msgspec.msgpack.decode(msgspec.msgpack.encode(fields), type=Event))

    def register_hook(self, name: str, active: bool) -> None:  # noqa: FBT001 - the writer's own signature
        self.hooks[name] = active

    def count_hook_error(self, name: str) -> None:
        self.errors[name] += 1

    def open(self) -> None:
        self.opened += 1

    def set_gauge(self, name: str, value: int) -> None:
        assert name in GAUGES
        self.gauges[name] = value

    def add_count(self, name: str, amount: int) -> None:
        assert name in COUNTS
        self.counts[name] += amount

    def pool_waited(self, duration_us: int) -> None:
        self.pool_waits_us.append(duration_us)

    def close(self) -> None:
        self.closed += 1
