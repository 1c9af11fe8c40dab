"""The control block: what a writer counts about itself. It outlives the writer's segments."""

import struct
from array import array
from bisect import bisect_left
from typing import Final

import msgspec

from session_exporter.core.events import TIME_MAX_US, Writer
from session_exporter.journal.frame import LOST_KINDS, LOST_REASONS, REPLICA_BYTES_MAX, WRITER_ID_BYTES_MAX, shortened

MAGIC: Final = b"SXCTRL1\n"
VERSION: Final = 1
CONTROL_BYTES: Final = 4096
HOOK_SLOTS: Final = 32
HOOK_NAME_BYTES_MAX: Final = 31

# magic, version, flags, pid, start time, then two texts: length and bytes
_HEAD: Final = struct.Struct("<8sHHIQ")
_REPLICA_AT: Final = _HEAD.size
_ID_AT: Final = _REPLICA_AT + 1 + REPLICA_BYTES_MAX
# Room to grow: 8 reasons of 16 kinds each, then the hooks, then gauges, counts and waits; what follows is zero.
_REASONS_MAX: Final = 8
_KINDS_MAX: Final = 16
_LOST_WORD: Final = 48
_HOOKS_WORD: Final = _LOST_WORD + _REASONS_MAX * _KINDS_MAX
_HOOK_WORDS: Final = 6
_GAUGES_WORD: Final = _HOOKS_WORD + HOOK_SLOTS * _HOOK_WORDS
_GAUGES_MAX: Final = 16
_COUNTS_WORD: Final = _GAUGES_WORD + _GAUGES_MAX
_COUNTS_MAX: Final = 16
_WAITS_WORD: Final = _COUNTS_WORD + _COUNTS_MAX

# What a process shows of its database sessions and pools as it is now, and what it counts of them.
# `db_overdue_sessions` are those of the open ones that have been counted as leaked.
GAUGES: Final = ("db_open_sessions", "db_peak_open_sessions", "db_overdue_sessions", "db_pool_idle", "db_pool_used")
COUNTS: Final = ("db_sessions_opened", "db_sessions_leaked")
# Upper bounds in seconds of how long a connection was waited for; +Inf is implied. 30 is SQLAlchemy's pool_timeout.
POOL_WAIT_BUCKETS_S: Final = (0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_WAITS_BOUNDS_US: Final = tuple(round(bound_s * 1_000_000) for bound_s in POOL_WAIT_BUCKETS_S)
_WAITS_SUM: Final = _WAITS_WORD + len(POOL_WAIT_BUCKETS_S) + 1
_GAUGE_WORDS: Final = {name: _GAUGES_WORD + index for index, name in enumerate(GAUGES)}
_COUNT_WORDS: Final = {name: _COUNTS_WORD + index for index, name in enumerate(COUNTS)}
_ACTIVE: Final = 4
_ERRORS: Final = 5
# What a signed column of 64 bits holds: damaged counts must not break whoever keeps them.
_COUNT_MAX: Final = (1 << 63) - 1
_REASON_INDEX: Final = {reason: index for index, reason in enumerate(LOST_REASONS)}

Lost = dict[tuple[str, str], int]
Hooks = dict[str, tuple[bool, int]]


class BadControl(ValueError):
    """The bytes are no control block of this version; the message says what was found."""


class Control(msgspec.Struct, frozen=True):
    """What one worker process says about itself.

    Attributes:
        writer: Who it is.
        alive: Whether its process still ran when the counts were read.
        started_at_us: When it began to write; microseconds since the epoch.
        lost: Events dropped, by (reason, kind); only counts above 0.
        hooks: By name: whether it is active, and the errors it had.
        gauges: By name of `GAUGES`.
        counts: By name of `COUNTS`.
        pool_waits: Waits for a connection: one count per bucket, one more for +Inf, not cumulative.
        pool_waits_us: Their sum, microseconds.
    """

    writer: Writer
    alive: bool
    started_at_us: int
    lost: Lost
    hooks: Hooks
    gauges: dict[str, int] = {}
    counts: dict[str, int] = {}
    pool_waits: list[int] = []
    pool_waits_us: int = 0


class ControlBlock:
    """The counts, over any `CONTROL_BYTES` bytes: in memory at first, later a mapped file.

    Callers hold the writer's lock.

    Args:
        words: The bytes as 64-bit words, writable; all zero.
    """

    __slots__ = ("_slots", "words")

    def __init__(self, words: "memoryview | None" = None) -> None:
        self.words = memoryview(array("Q", bytes(CONTROL_BYTES))) if words is None else words
        self._slots: dict[str, int] = {}

    @property
    def slots(self) -> dict[str, int]:
        """Where each hook's words start."""
        return self._slots

    def count_lost(self, reason: str, kind: int) -> None:
        """Count one event lost; `kind` is an index into `LOST_KINDS`."""
        self.words[_LOST_WORD + _REASON_INDEX[reason] * _KINDS_MAX + kind] += 1

    def set_hook(self, name: str, *, active: bool) -> bool:
        """Declare a hook, or change whether it is active; False when the table is full."""
        slot = self._slots.get(name)
        if slot is None:
            if len(self._slots) == HOOK_SLOTS:
                return False
            slot = _HOOKS_WORD + len(self._slots) * _HOOK_WORDS
            raw = shortened(name, HOOK_NAME_BYTES_MAX)
            padded = (bytes([len(raw)]) + raw).ljust(8 * _ACTIVE, b"\0")
            self.words[slot : slot + _ACTIVE] = memoryview(padded).cast("Q")
            self._slots[name] = slot
        self.words[slot + _ACTIVE] = active
        return True

    def count_hook_error(self, name: str) -> None:
        """Count one error of a hook, declaring it inactive when it was not declared."""
        if name in self._slots or self.set_hook(name, active=False):
            self.words[self._slots[name] + _ERRORS] += 1

    def set_gauge(self, name: str, value: int) -> None:
        """Show a gauge, from 0."""
        self.words[_GAUGE_WORDS[name]] = min(max(value, 0), _COUNT_MAX)

    def add_count(self, name: str, amount: int) -> None:
        """Add to a count."""
        self.words[_COUNT_WORDS[name]] += amount

    def add_pool_wait(self, duration_us: int) -> None:
        """Count how long a connection was waited for."""
        self.words[_WAITS_WORD + bisect_left(_WAITS_BOUNDS_US, duration_us)] += 1
        self.words[_WAITS_SUM] += duration_us

    def declare_hooks_of(self, other: "ControlBlock") -> None:
        """Take over names and states of another block's hooks, not their errors."""
        for name, slot in other.slots.items():
            self.set_hook(name, active=bool(other.words[slot + _ACTIVE]))

    def add_counts_of(self, other: "ControlBlock") -> None:
        """Add what another block has counted."""
        for word in (*range(_LOST_WORD, _HOOKS_WORD), *range(_COUNTS_WORD, _WAITS_SUM + 1)):
            self.words[word] += other.words[word]
        for word in _GAUGE_WORDS.values():
            self.words[word] = other.words[word]
        for name, slot in other.slots.items():
            self.words[self._slots[name] + _ERRORS] += other.words[slot + _ERRORS]

    def lost(self) -> Lost:
        """Events lost, by (reason, kind); only counts above 0."""
        return _lost(self.words)


def pack_control(writer: Writer, started_at_us: int) -> bytes:
    """The bytes a new control block starts with; all counts behind them are zero."""
    replica = shortened(writer.replica, REPLICA_BYTES_MAX)
    identity = shortened(writer.id, WRITER_ID_BYTES_MAX)
    head = _HEAD.pack(MAGIC, VERSION, 0, writer.pid, started_at_us)
    texts = struct.pack(
        f"<B{REPLICA_BYTES_MAX}sB{WRITER_ID_BYTES_MAX}s", len(replica), replica, len(identity), identity
    )
    return head + texts


def parse_control(raw: bytes, *, alive: bool) -> Control:
    """Read a control block back.

    Raises:
        BadControl: It is too short, or of another magic or version.
    """
    if len(raw) < CONTROL_BYTES:
        raise BadControl(f"{len(raw)} bytes, expected {CONTROL_BYTES}")
    magic, version, _, pid, started_at_us = _HEAD.unpack_from(raw)
    if (magic, version) != (MAGIC, VERSION):
        raise BadControl(f"magic {magic!r} and version {version}, expected {MAGIC!r} and {VERSION}")
    replica, identity = _text(raw, _REPLICA_AT), _text(raw, _ID_AT)
    words = memoryview(raw[:CONTROL_BYTES]).cast("Q")
    return Control(
        Writer(identity, replica, pid),
        alive,
        min(started_at_us, TIME_MAX_US),
        _lost(words),
        _hooks(raw, words),
        {name: _bounded(words[word]) for name, word in _GAUGE_WORDS.items()},
        {name: _bounded(words[word]) for name, word in _COUNT_WORDS.items()},
        [_bounded(count) for count in words[_WAITS_WORD:_WAITS_SUM]],
        _bounded(words[_WAITS_SUM]),
    )


def _text(raw: bytes, at: int) -> str:
    return raw[at + 1 : at + 1 + raw[at]].decode("utf-8", "replace")


def _lost(words: "memoryview") -> Lost:
    found = {}
    for row, reason in enumerate(LOST_REASONS):
        start = _LOST_WORD + row * _KINDS_MAX
        counts = (_bounded(words[start + column]) for column in range(len(LOST_KINDS)))
        found.update({(reason, kind): lost for kind, lost in zip(LOST_KINDS, counts, strict=True)})
    return {key: lost for key, lost in found.items() if lost}


def _hooks(raw: bytes, words: "memoryview") -> Hooks:
    found = {}
    for index in range(HOOK_SLOTS):
        word = _HOOKS_WORD + index * _HOOK_WORDS
        if raw[8 * word]:
            name = _text(raw, 8 * word)[:HOOK_NAME_BYTES_MAX]
            found[name] = (bool(words[word + _ACTIVE]), _bounded(words[word + _ERRORS]))
    return found


def _bounded(count: int) -> int:
    return min(count, _COUNT_MAX)
