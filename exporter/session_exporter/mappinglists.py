"""The lists of mappings of a configuration: made from what was read, told apart, and written again."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, fields
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from session_exporter.configschema import SCHEMA
from session_exporter.mappings import CallMapping, MiddlewareMapping, StoreMapping, TableMapping
from session_exporter.watchsettings import WatchSettings
from session_exporter.yamlschema import DocumentReading, Key
from session_exporter.yamlsource import Value


class MappingList(NamedTuple):
    """A list: the class of its entries, the keys in which no two of them may agree, and all keys."""

    entry: type[Any]
    identity: tuple[str, ...]
    keys: Mapping[str, Key]

    def default(self, name: str) -> Any:
        """The default of a key; `dataclasses.MISSING` for one that every entry must have."""
        [field] = [each for each in fields(self.entry) if each.name == self.keys[name].attribute]
        return field.default if field.default_factory is MISSING else field.default_factory()


def _list(section: str, entry: type[Any], *identity: str) -> MappingList:
    prefix = f"{section}[]."
    keys = {pattern.removeprefix(prefix): key for pattern, key in SCHEMA.items() if pattern.startswith(prefix)}
    return MappingList(entry, identity, keys)


LISTS: Final[Mapping[str, MappingList]] = MappingProxyType(
    {
        "tables": _list("tables", TableMapping, "table", "scope"),
        "calls": _list("calls", CallMapping, "call"),
        "stores": _list("stores", StoreMapping, "pattern", "scope"),
        "middleware": _list("middleware", MiddlewareMapping, "framework"),
        "watch": _list("watch", WatchSettings, "name"),
    }
)


def make_mappings(section: str, reading: DocumentReading) -> tuple[Any, ...]:
    """Make the entries of a list; what is wrong with one is noted in the reading's problems, and the entry left out."""
    made = []
    lines: dict[tuple[Any, ...], int] = {}
    for _, item in reading.members[f"{section}[]"]:
        mapping = _make(LISTS[section], item, reading)
        if mapping is None:
            continue
        identity = tuple(getattr(mapping, name) for name in LISTS[section].identity)
        if identity in lines:
            words = ", ".join(f"{name} {value}" for name, value in zip(LISTS[section].identity, identity, strict=True))
            problem = f"the same again ({words}): expected once, but line {lines[identity]} has it too"
            reading.problems.add(item.line, item.path, problem)
        lines.setdefault(identity, item.line)
        made.append(mapping)
    return tuple(made)


def check_watches(reading: DocumentReading) -> None:
    """Check that every watch has tables to read; what is wrong is noted in the reading's problems.

    What is wrong in the section `tables` itself is no further mistake here.
    """
    dated = {
        reading.found[f"{item.path}.table"][0]
        for _, item in reading.members["tables[]"]
        if f"{item.path}.table" in reading.found and _may_have(reading, f"{item.path}.created_at")
    }
    for _, item in reading.members["watch[]"]:
        names, entry = reading.found.get(f"{item.path}.tables", ((), item))
        if not dated and item.path not in reading.problems.paths:
            reading.problems.add(item.line, item.path, "no table to read: expected an entry of tables with created_at")
        values = [value for value in entry.items() if value.shape != "null"] or [entry]
        for name, value in zip(names, values, strict=False):
            if dated and name not in dated:
                reading.refuse(value, "expected the table of an entry of tables with created_at")


def _may_have(reading: DocumentReading, path: str) -> bool:
    return path in reading.problems.paths or bool(reading.found.get(path, ("",))[0])


def _make(described: MappingList, item: Value, reading: DocumentReading) -> Any:
    if item.path in reading.problems.paths:
        return None
    found: dict[str, Any] = {}
    for name, key in described.keys.items():
        path = f"{item.path}.{name}"
        if path in reading.found:
            found[key.attribute] = reading.found[path][0]
        elif path in reading.problems.paths:
            return None
        elif described.default(name) is MISSING:
            reading.problems.add(item.line, path, "missing: expected in every entry")
            return None
    try:
        return described.entry(**found)
    except ValueError as error:
        _blame(item, str(error), reading)
        return None


def _blame(item: Value, message: str, reading: DocumentReading) -> None:
    """Note a mapping's own objection, `key, key: value: expected …`, at the first of these keys that the file has."""
    names, _, rest = message.partition(": ")
    _, found, expected = f": {rest}".rpartition(": expected ")
    paths = [path for name in names.split(", ") if (path := f"{item.path}.{name}") in reading.found]
    reading.refuse(reading.found[paths[0]][1] if paths else item, f"expected {expected}" if found else message)


def describe_entries(section: str, mappings: Iterable[Any]) -> Iterator[str]:
    """Write each entry in a line, as the file would, with the keys that differ from their defaults."""
    described = LISTS[section]
    for number, mapping in enumerate(mappings):
        values = {name: getattr(mapping, key.attribute) for name, key in described.keys.items()}
        shown = (
            f"{name}: {described.keys[name].kind.show(value)}"
            for name, value in values.items()
            if value != described.default(name)
        )
        yield f"{section}[{number}]: {{{', '.join(shown)}}}"
