"""The control block: what a writer counts about itself. It outlives the writer's segments."""

import struct
from array import array
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
# Room to grow: 8 reasons of 16 kinds each, then the hooks; what follows is reserved for gauges, and zero.
_REASONS_MAX: Final = 8
_KINDS_MAX: Final = 16
_LOST_WORD: Final = 48
_HOOKS_WORD: Final = _LOST_WORD + _REASONS_MAX * _KINDS_MAX
_HOOK_WORDS: Final = 6
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
    """

    writer: Writer
    alive: bool
    started_at_us: int
    lost: Lost
    hooks: Hooks


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

    def declare_hooks_of(self, other: "ControlBlock") -> None:
        """Take over names and states of another block's hooks, not their errors."""
        for name, slot in other.slots.items():
            self.set_hook(name, active=bool(other.words[slot + _ACTIVE]))

    def add_counts_of(self, other: "ControlBlock") -> None:
        """Add what another block has counted."""
        for word in range(_LOST_WORD, _HOOKS_WORD):
            self.words[word] += other.words[word]
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
        Writer(identity, replica, pid), alive, min(started_at_us, TIME_MAX_US), _lost(words), _hooks(raw, words)
    )


def _text(raw: bytes, at: int) -> str:
    return raw[at + 1 : at + 1 + raw[at]].decode("utf-8", "replace")


def _lost(words: "memoryview") -> Lost:
    found = {}
    for row, reason in enumerate(LOST_REASONS):
        start = _LOST_WORD + row * _KINDS_MAX
        counts = (min(words[start + column], _COUNT_MAX) for column in range(len(LOST_KINDS)))
        found.update({(reason, kind): lost for kind, lost in zip(LOST_KINDS, counts, strict=True)})
    return {key: lost for key, lost in found.items() if lost}


def _hooks(raw: bytes, words: "memoryview") -> Hooks:
    found = {}
    for index in range(HOOK_SLOTS):
        word = _HOOKS_WORD + index * _HOOK_WORDS
        if raw[8 * word]:
            name = _text(raw, 8 * word)[:HOOK_NAME_BYTES_MAX]
            found[name] = (bool(words[word + _ACTIVE]), min(words[word + _ERRORS], _COUNT_MAX))
    return found
