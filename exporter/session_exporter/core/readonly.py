"""Copies that cannot be changed: what a frozen record may hold of its caller's data."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, NoReturn


def _refuse(self: object, *_args: object, **_kwargs: object) -> NoReturn:
    raise TypeError(f"{type(self).__name__} cannot be changed; make a copy: dict(...) or list(...)")


class ReadOnlyDict(dict[Any, Any]):
    """A dict (equal to one, and JSON like one) that refuses every change; copies and pickles stay read-only."""

    __slots__ = ()

    def __reduce__(self) -> tuple[type, tuple[dict[Any, Any]]]:
        return type(self), (dict(self),)

    def __deepcopy__(self, memo: dict[int, Any]) -> "ReadOnlyDict":
        return type(self)({key: deepcopy(value, memo) for key, value in self.items()})


class ReadOnlyList(list[Any]):
    """A list (equal to one, and JSON like one) that refuses every change; copies and pickles stay read-only."""

    __slots__ = ()

    def __reduce__(self) -> tuple[type, tuple[list[Any]]]:
        return type(self), (list(self),)

    def __deepcopy__(self, memo: dict[int, Any]) -> "ReadOnlyList":
        return type(self)([deepcopy(value, memo) for value in self])


for _name in ("__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update"):
    setattr(ReadOnlyDict, _name, _refuse)
for _name in ("__setitem__", "__delitem__", "__iadd__", "__imul__", "append", "clear", "extend", "insert", "pop"):
    setattr(ReadOnlyList, _name, _refuse)
for _name in ("remove", "reverse", "sort"):
    setattr(ReadOnlyList, _name, _refuse)


def read_only(value: Any) -> Any:
    """Copy a value deeply, its dicts, lists and sets into forms that refuse changes; other objects are only copied.

    Raises:
        RecursionError: The value contains itself.
        Exception: Whatever an object in it raises when it is copied.
    """
    if isinstance(value, Mapping):
        return ReadOnlyDict({key: read_only(item) for key, item in value.items()})
    if isinstance(value, list):
        return ReadOnlyList(read_only(item) for item in value)
    if type(value) is tuple:
        return tuple(read_only(item) for item in value)
    if isinstance(value, set | frozenset):
        return frozenset(deepcopy(value))
    return deepcopy(value)
