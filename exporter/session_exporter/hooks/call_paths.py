"""Paths of a call's mapping, made into readers of its arguments and its result.

What a path names is looked up once, in the function's signature; then each call takes what it needs by position. A
value that is not loaded is not loaded for it: nothing here runs a statement.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, Signature
from typing import Any, Final, NamedTuple, TypeAlias

from session_exporter.errors import SessionExporterError
from session_exporter.loaded import loaded_value
from session_exporter.mappings import CallMapping

Reader: TypeAlias = Callable[[Any, tuple[Any, ...], Mapping[str, Any], Any], Any]
"""Reads from the call's instance, its positional and named arguments, and its result; None where there is nothing."""

_SELF: Final = "self"
_RESULT: Final = "result"
# Kinds whose session is an argument before it is a result.
_OF_ARGUMENTS: Final = ("end", "bind")

# A request's user may be loaded late although the request is a plain object.
_LAZY: Final = "user"

# Classes whose objects keep what they have in plain attributes; all are looked at anew beyond so many.
PLAIN_MAX: Final = 1024
_plain: Final[set[type]] = set()
# What a path cannot look into without asking the object itself; see `loaded_value`.
_NEVER_PLAIN: Final = ("__getitem__", "_sa_class_manager", "_meta", "_wrapped", "_session_cache")


class PathError(SessionExporterError, ValueError):
    """A path names nothing that is there; the message names the path, never a value."""


class Readers(NamedTuple):
    """What is read of each call; None where the mapping has no such path.

    Attributes:
        session: The session's id.
        user: The user's id.
        key: The device, app or thread.
        created_at: When the session was created.
        asked: The id that the function is given to look for; None where there is no parameter for one.
        early: Whether user and key are arguments, to be read before the function may change them.
        no_session: Reads whether None stands where the session's path leads, or on the way there.
    """

    session: Reader | None
    user: Reader | None
    key: Reader | None
    created_at: Reader | None
    asked: Reader | None
    early: bool
    no_session: Reader


def compile_readers(mapping: CallMapping, signature: Signature | None) -> Readers:
    """Make the paths of a mapping into readers.

    Args:
        mapping: Whose paths.
        signature: Of the function, as it is called: without the instance of a method. None when it has none; then
            arguments are found by name alone.

    Raises:
        PathError: The user's or key's path begins with nothing that this function has.
    """
    session = _session_reader(mapping, signature)
    early = all(_root(path) not in (_SELF, _RESULT) for path in (mapping.user, mapping.key))
    return Readers(
        session=session,
        user=_argument_reader("user", mapping.user, signature),
        key=_argument_reader("key", mapping.key, signature),
        created_at=_result_reader(mapping.created_at, signature) if mapping.created_at else None,
        asked=_asked_reader(mapping, signature),
        early=early and bool(mapping.user or mapping.key),
        no_session=_none_reader(mapping, signature),
    )


def follow(value: Any, words: Sequence[str]) -> Any:
    """Follow keys, attributes and indices from a value on; None where there is nothing, or nothing loaded.

    Raises:
        Exception: Whatever the application's own properties raise.
    """
    for word in words:
        if value is None:
            return None
        kind = type(value)
        value = getattr(value, word, None) if kind in _plain and word != _LAZY else _step(value, kind, word)
    return value


def _session_reader(mapping: CallMapping, signature: Signature | None) -> Reader | None:
    path, argument = mapping.session, None
    if not path:
        return None if mapping.kind == "bind" else _of_result(())
    words = tuple(path.split("."))
    if words[0] in (_SELF, _RESULT):
        return _reader(words, signature)
    if _has(words[0], signature):
        argument = _reader(words, signature)
    if argument is None:
        return _of_result(words)
    if mapping.kind in _OF_ARGUMENTS:
        return _first(argument, _of_result(words))
    return _first(_of_result(words), argument)


def _asked_reader(mapping: CallMapping, signature: Signature | None) -> Reader | None:
    if signature is None:
        return None
    # Where the mapping names what the result has: what functions usually call the id that they are given.
    for path in (mapping.session, "session_id", f"{mapping.scope}_id"):
        if _root(path) in signature.parameters:
            return _reader(tuple(path.split(".")), signature)
    return None


def _none_reader(mapping: CallMapping, signature: Signature | None) -> Reader:
    words = tuple(mapping.session.split("."))
    first, rest = words[:1], words[1:]
    is_named = signature is not None and words[0] in signature.parameters
    if words[0] in (_SELF, _RESULT) or (is_named and mapping.kind in _OF_ARGUMENTS):
        read = _reader(first, signature)
        return lambda instance, args, kwargs, result: _says_none(read(instance, args, kwargs, result), rest)
    return lambda _instance, _args, _kwargs, result: _says_none(result, words)


def _says_none(value: Any, words: Sequence[str]) -> bool:
    for word in words:
        if value is not None and not _has_entry(value, word):
            return False
        value = follow(value, (word,))
    return value is None


def _has_entry(value: Any, word: str) -> bool:
    kind = type(value)
    if hasattr(kind, "keys") and hasattr(kind, "__getitem__"):
        return word in value.keys()  # noqa: SIM118 - as below
    if hasattr(kind, "_mapping") and hasattr(kind, "_fields"):
        return word in value._mapping  # noqa: SLF001 - as below
    if word.isdecimal() and hasattr(kind, "__len__"):
        return int(word) < len(value)
    return word in getattr(value, "__dict__", ()) or (hasattr(kind, word) and not hasattr(kind, "_sa_class_manager"))


def _result_reader(path: str, signature: Signature | None) -> Reader:
    words = tuple(path.split("."))
    return _reader(words, signature) if words[0] in (_SELF, _RESULT) else _of_result(words)


def _argument_reader(name: str, path: str, signature: Signature | None) -> Reader | None:
    if not path:
        return None
    words = tuple(path.split("."))
    if words[0] not in (_SELF, _RESULT) and not _has(words[0], signature):
        raise PathError(f"{name}: {path!r}: expected a path from a parameter of the function, self or result")
    return _reader(words, signature)


def _root(path: str) -> str:
    return path.partition(".")[0]


def _has(name: str, signature: Signature | None) -> bool:
    if signature is None:
        return True
    parameters = signature.parameters
    return name in parameters or any(each.kind is Parameter.VAR_KEYWORD for each in parameters.values())


def _reader(words: tuple[str, ...], signature: Signature | None) -> Reader:
    first, rest = words[0], words[1:]
    # A parameter of that name is meant before the words that are ours: plain functions may call one `result`.
    if signature is None or first not in signature.parameters:
        if first == _SELF:
            return lambda instance, _args, _kwargs, _result: follow(instance, rest)
        if first == _RESULT:
            return _of_result(rest)
        return _of_argument(sys.maxsize, first, None, rest)
    place, default = _position(signature, first)
    return _of_argument(place, first, default, rest)


def _position(signature: Signature, name: str) -> tuple[int, Any]:
    """Where an argument stands when it is given by position, and what it is when it is not given."""
    parameter = signature.parameters[name]
    default = None if parameter.default is Parameter.empty else parameter.default
    if parameter.kind not in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD):
        return sys.maxsize, default
    return list(signature.parameters).index(name), default


def _of_argument(place: int, name: str, default: Any, words: tuple[str, ...]) -> Reader:
    def read(_instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], _result: Any) -> Any:
        value = args[place] if place < len(args) else kwargs.get(name, default)
        return follow(value, words) if words else value

    return read


def _of_result(words: tuple[str, ...]) -> Reader:
    if not words:
        return lambda _instance, _args, _kwargs, result: result
    if len(words) > 1 or words[0] == _LAZY:
        return lambda _instance, _args, _kwargs, result: follow(result, words)
    word = words[0]

    def read(_instance: Any, _args: tuple[Any, ...], _kwargs: Mapping[str, Any], result: Any) -> Any:
        return getattr(result, word, None) if type(result) in _plain else follow(result, words)

    return read


def _first(one: Reader, other: Reader) -> Reader:
    def read(instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> Any:
        value = one(instance, args, kwargs, result)
        return other(instance, args, kwargs, result) if value is None else value

    return read


def _step(value: Any, kind: type, word: str) -> Any:
    if word.isdecimal() and hasattr(kind, "__getitem__"):
        return _at(value, kind, word)
    # A row of SQLAlchemy, among whose attributes are also those of a tuple.
    if hasattr(kind, "_mapping") and hasattr(kind, "_fields"):
        return loaded_value(value._mapping, (word,))  # noqa: SLF001 - its public name
    if _is_record(value, kind):
        return value[word] if word in value.keys() else None  # noqa: SIM118 - a row's members are its values
    found = loaded_value(value, (word,))
    if found is None and issubclass(kind, dict) and kind is not dict:
        return getattr(value, word, None)  # a web session is a dict that knows its id
    if not any(hasattr(kind, name) for name in _NEVER_PLAIN) and not issubclass(kind, Mapping):
        _remember(kind)
    return found


def _at(value: Any, kind: type, word: str) -> Any:
    if issubclass(kind, dict):
        return dict.get(value, word, dict.get(value, int(word)))
    try:
        return value[int(word)]
    except LookupError:
        return None


def _is_record(value: Any, kind: type) -> bool:
    """Whether it is a row of sqlite3 or asyncpg: made of C, with keys and without attributes."""
    has_keys = hasattr(kind, "keys") and hasattr(kind, "__getitem__")
    return has_keys and not hasattr(value, "__dict__") and not issubclass(kind, Mapping)


def _remember(kind: type) -> None:
    if len(_plain) >= PLAIN_MAX:
        _plain.clear()
    _plain.add(kind)
