"""A journal in memory, for the tests of whatever records events."""

from collections import Counter

import msgspec

from session_exporter.core.events import Event


class Recorder:
    """Keeps events as the sidecar would decode them; an event that it could not decode raises.

    Attributes:
        events: What was appended.
        errors: Failures by hook.
        hooks: Whether each hook is active.
        closed: How often it was closed.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.errors: Counter[str] = Counter()
        self.hooks: dict[str, bool] = {}
        self.closed = 0

    def append(self, fields: tuple[object, ...]) -> None:
        self.events.append(msgspec.msgpack.decode(msgspec.msgpack.encode(fields), type=Event))

    def register_hook(self, name: str, active: bool) -> None:  # noqa: FBT001 - the writer's own signature
        self.hooks[name] = active

    def count_hook_error(self, name: str) -> None:
        self.errors[name] += 1

    def close(self) -> None:
        self.closed += 1
