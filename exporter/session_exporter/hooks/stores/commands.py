"""What commands of redis do to their keys, told from arguments and reply.

A reply is read as the client parses it and as it is on the wire: within MULTI, errors come before it is parsed.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

Arguments: TypeAlias = Sequence[Any]


class KeyOutcome(Enum):
    """What a command tells of one of its keys."""

    FOUND = auto()  # somebody asked, and it is there
    MISSED = auto()  # somebody asked, and it is not there
    NO_FIELD = auto()  # somebody asked for fields of it that are not there; perhaps none of it is
    MADE = auto()  # was not there, was written
    CHANGED = auto()  # was there, was written
    WROTE = auto()  # was written, whether it was there or not
    REMOVED = auto()  # was there, is gone
    ABSENT = auto()  # is not there
    PRESENT = auto()  # is there
    TOUCHED = auto()  # is there, and goes on
    UNTOLD = auto()  # some of the keys were there, and the reply does not tell which
    NOTHING = auto()


class KeyReading(NamedTuple):
    """One key's part of a reply.

    Attributes:
        outcome: What happened.
        value: What is there now: a value as it was written or read, or the fields of a hash; None when not seen.
        held: What was there before; None when not seen.
    """

    outcome: KeyOutcome
    value: object = None
    held: object = None


class Command(NamedTuple):
    """How to read a command.

    Attributes:
        keys: Where its keys are among the arguments, the command's own name being the first of them.
        read: Reads a reply for the key in one place of the arguments.
        written: What is written under the key in that place; None for a command that makes nothing.
    """

    keys: slice
    read: Callable[[Arguments, int, Any], KeyReading]
    written: Callable[[Arguments, int], object] | None = None


def may_create(command: Command, arguments: Arguments) -> bool:
    """Whether it makes what is not there."""
    return command.written is not None and "XX" not in _options(command, arguments)


def _options(command: Command, arguments: Arguments) -> frozenset[str]:
    if command.read is not _set or len(arguments) <= 3:  # noqa: PLR2004 - SET key value
        return frozenset()
    return frozenset(_text(each).upper() for each in arguments[3:] if isinstance(each, str | bytes))


# Writes.


def _set(arguments: Arguments, at: int, reply: Any) -> KeyReading:
    value, options = arguments[at + 1], _options(SET, arguments)
    if "GET" in options:
        return _exchanged(value, reply, options)
    if not _is_ok(reply):
        refused = {"NX": KeyOutcome.PRESENT, "XX": KeyOutcome.ABSENT}
        return KeyReading(next((refused[each] for each in refused if each in options), KeyOutcome.NOTHING))
    if "NX" in options:
        return KeyReading(KeyOutcome.MADE, value)
    return KeyReading(KeyOutcome.CHANGED if "XX" in options else KeyOutcome.WROTE, value)


def _exchanged(value: object, held: object, options: frozenset[str]) -> KeyReading:
    # Of a SET with GET that an application executes by name, the client tells only whether there was something.
    seen = None if isinstance(held, bool) else held
    if "NX" in options and held is not None:
        return KeyReading(KeyOutcome.PRESENT, seen)
    if "XX" in options and held is None:
        return KeyReading(KeyOutcome.ABSENT)
    return KeyReading(KeyOutcome.MADE if held is None else KeyOutcome.CHANGED, value, seen)


def _set_with_ttl(arguments: Arguments, at: int, reply: Any) -> KeyReading:
    return KeyReading(KeyOutcome.WROTE if _is_ok(reply) else KeyOutcome.NOTHING, arguments[at + 2])


def _get_and_set(arguments: Arguments, at: int, reply: Any) -> KeyReading:
    return _exchanged(arguments[at + 1], reply, frozenset())


def _set_several(arguments: Arguments, at: int, reply: Any) -> KeyReading:
    return KeyReading(KeyOutcome.WROTE if _is_ok(reply) else KeyOutcome.NOTHING, arguments[at + 1])


def _set_new(arguments: Arguments, at: int, reply: Any) -> KeyReading:
    return KeyReading(KeyOutcome.MADE, arguments[at + 1]) if _is_ok(reply) else KeyReading(KeyOutcome.PRESENT)


def _set_several_new(arguments: Arguments, at: int, reply: Any) -> KeyReading:
    return KeyReading(KeyOutcome.MADE, arguments[at + 1]) if _is_ok(reply) else KeyReading(KeyOutcome.NOTHING)


def _set_fields(arguments: Arguments, at: int, reply: Any) -> KeyReading:
    """HSET counts the fields that are new: without any, the hash was there."""
    known = reply == 0 and not isinstance(reply, bool)
    return KeyReading(KeyOutcome.CHANGED if known else KeyOutcome.WROTE, _fields_written(arguments, at))


def _set_new_field(arguments: Arguments, at: int, reply: Any) -> KeyReading:
    return (
        KeyReading(KeyOutcome.WROTE, _fields_written(arguments, at))
        if _is_ok(reply)
        else KeyReading(KeyOutcome.PRESENT)
    )


def _fields_written(arguments: Arguments, at: int) -> object:
    return _fields(arguments[at + 1 :])


# Lookups.


def _get(_: Arguments, __: int, reply: Any) -> KeyReading:
    return KeyReading(KeyOutcome.MISSED) if reply is None else KeyReading(KeyOutcome.FOUND, reply)


def _get_several(arguments: Arguments, at: int, reply: Any) -> KeyReading:
    return _get(arguments, at, reply[at - 1])


def _exists(arguments: Arguments, _: int, reply: Any) -> KeyReading:
    """It counts a key as often as it is asked for."""
    if reply == 0:
        return KeyReading(KeyOutcome.MISSED)
    return KeyReading(KeyOutcome.FOUND if reply == len(arguments) - 1 else KeyOutcome.UNTOLD)


def _get_hash(_: Arguments, __: int, reply: Any) -> KeyReading:
    if not reply:
        return KeyReading(KeyOutcome.MISSED)
    return KeyReading(KeyOutcome.FOUND, _fields(reply))


def _get_field(arguments: Arguments, at: int, reply: Any) -> KeyReading:
    if reply is None:
        return KeyReading(KeyOutcome.NO_FIELD)
    return KeyReading(KeyOutcome.FOUND, _fields([arguments[at + 1], reply]))


def _get_fields(arguments: Arguments, at: int, reply: Any) -> KeyReading:
    held = {_text(name): value for name, value in zip(arguments[at + 1 :], reply, strict=False) if value is not None}
    return KeyReading(KeyOutcome.FOUND, held) if held else KeyReading(KeyOutcome.NO_FIELD)


# Ends, and what goes on.


def _delete(arguments: Arguments, _: int, reply: Any) -> KeyReading:
    if reply == 0:
        return KeyReading(KeyOutcome.ABSENT)
    distinct = {_text(key) for key in arguments[1:]}
    return KeyReading(KeyOutcome.REMOVED if reply == len(distinct) else KeyOutcome.UNTOLD)


def _get_and_delete(_: Arguments, __: int, reply: Any) -> KeyReading:
    return KeyReading(KeyOutcome.ABSENT) if reply is None else KeyReading(KeyOutcome.REMOVED, held=reply)


def _expire(arguments: Arguments, at: int, reply: Any) -> KeyReading:
    if not reply:
        conditional = len(arguments) > at + 2
        return KeyReading(KeyOutcome.NOTHING if conditional else KeyOutcome.ABSENT)
    return KeyReading(KeyOutcome.REMOVED if int(arguments[at + 1]) <= 0 else KeyOutcome.TOUCHED)


def _expire_at(units_per_s: int, arguments: Arguments, at: int, reply: Any) -> KeyReading:
    """A time that has passed removes the key; by this machine's clock, as nobody says what the server's is."""
    read = _expire(arguments, at, reply)
    is_past = read.outcome is KeyOutcome.TOUCHED and int(arguments[at + 1]) <= time.time() * units_per_s
    return KeyReading(KeyOutcome.REMOVED) if is_past else read


def _persist(_: Arguments, __: int, reply: Any) -> KeyReading:
    return KeyReading(KeyOutcome.TOUCHED if reply else KeyOutcome.NOTHING)


def _is_ok(reply: object) -> bool:
    if isinstance(reply, bytes):
        return reply == b"OK"
    return reply == "OK" if isinstance(reply, str) else reply == 1


def _fields(given: Any) -> dict[str, object]:
    pairs = given.items() if isinstance(given, Mapping) else zip(given[::2], given[1::2], strict=False)
    return {_text(name): value for name, value in pairs}


def _text(value: object) -> str:
    """What the client sends for it, as a text that loses nothing."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | memoryview):
        return bytes(value).decode("utf-8", "surrogateescape")
    return str(value)


def _after(arguments: Arguments, at: int) -> object:
    return arguments[at + 1]


def _after_ttl(arguments: Arguments, at: int) -> object:
    return arguments[at + 2]


ONE, _ALL, _PAIRS = slice(1, 2), slice(1, None), slice(1, None, 2)

SET: Final = Command(ONE, _set, _after)

_BY_NAME: Final = {
    "SET": SET,
    "SETEX": Command(ONE, _set_with_ttl, _after_ttl),
    "PSETEX": Command(ONE, _set_with_ttl, _after_ttl),
    "SETNX": Command(ONE, _set_new, _after),
    "GETSET": Command(ONE, _get_and_set, _after),
    "MSET": Command(_PAIRS, _set_several, _after),
    "MSETNX": Command(_PAIRS, _set_several_new, _after),
    "HSET": Command(ONE, _set_fields, _fields_written),
    "HMSET": Command(ONE, _set_fields, _fields_written),
    "HSETNX": Command(ONE, _set_new_field, _fields_written),
    "GET": Command(ONE, _get),
    "GETEX": Command(ONE, _get),
    "MGET": Command(_ALL, _get_several),
    "EXISTS": Command(_ALL, _exists),
    "HGETALL": Command(ONE, _get_hash),
    "HGET": Command(ONE, _get_field),
    "HMGET": Command(ONE, _get_fields),
    "DEL": Command(_ALL, _delete),
    "UNLINK": Command(_ALL, _delete),
    "GETDEL": Command(ONE, _get_and_delete),
    "EXPIRE": Command(ONE, _expire),
    "PEXPIRE": Command(ONE, _expire),
    "EXPIREAT": Command(ONE, partial(_expire_at, 1)),
    "PEXPIREAT": Command(ONE, partial(_expire_at, 1000)),
    "PERSIST": Command(ONE, _persist),
}

# As the client's methods write them, and as an application may that executes commands by name.
COMMANDS: Final[Mapping[str, Command]] = {**_BY_NAME, **{name.lower(): each for name, each in _BY_NAME.items()}}
