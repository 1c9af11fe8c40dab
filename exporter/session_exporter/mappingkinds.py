"""The kinds of value that scopes and hooks have: formats of ids, names, columns and their values, expected sessions."""

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from session_exporter.core.idpatterns import pattern_fault
from session_exporter.core.ids import IdFormat
from session_exporter.core.scopes import DEFAULT_SCOPE, ID_KINDS, OTHER_SCOPE
from session_exporter.mappings import EXPECT_SOURCES, Expectation, value_texts
from session_exporter.watchsettings import DEFAULT_NAME
from session_exporter.yamlkinds import BOOLEANS, Kind, RefusedValueError, Text, written
from session_exporter.yamlsource import Value

_SCOPE_NAME: Final = re.compile("[a-z][a-z0-9_]{0,63}")
_WATCH_NAME: Final = re.compile("[A-Za-z0-9_.-]{1,64}", re.ASCII)
# Other ways to write a number are not told apart from each other by who reads them.
_WHOLE_NUMBER: Final = re.compile("0|-?[1-9][0-9]{0,18}")
# Whose ids begin with the word of their kind when they are unified; a session or a user may be what a thread is.
_OWN_PREFIX: Final = frozenset({"thread", "run", "request"})
_PATTERN_CHARS_MAX: Final = 200
# Longer than the names of any database.
NAME: Final = Text(200)


class ScopeName(Kind):
    """The name of a scope, which need not be declared; null for the default one."""

    form = "name of a scope"

    def read(self, value: Value) -> str:
        """Read a name."""
        if value.shape == "null":
            return DEFAULT_SCOPE
        problem = scope_problem(value.text if value.shape == "text" else "")
        if problem:
            raise RefusedValueError(value, problem)
        return value.text


class WatchName(Kind):
    """The name of a watch, a label value; null for the default one."""

    form = "name of 1 to 64 of a-z, A-Z, 0-9, _, . and -"

    def read(self, value: Value) -> str:
        """Read a name."""
        if value.shape == "null":
            return DEFAULT_NAME
        if value.shape != "text" or _WATCH_NAME.fullmatch(value.text) is None:
            raise RefusedValueError(value, f"expected a {self.form}")
        return value.text

    def show(self, value: str) -> str:
        """Write a name."""
        return written(value)


class IdFormats(Kind):
    """By kind of id, its format; and, by kind of id again, the format that is still tolerated; null for none."""

    form = "mapping of kinds of id to uuid, unified or a regular expression"

    def read(self, value: Value) -> dict[str, IdFormat]:
        """Read the formats."""
        found = _entries(value, self.form, (*ID_KINDS, "legacy"))
        tolerated = found.pop("legacy", None)
        legacy = _entries(tolerated, self.form, ID_KINDS) if tolerated is not None else {}
        for kind, entry in legacy.items():
            if kind not in found:
                raise RefusedValueError(entry, f"expected a format for {kind} beside the legacy one")
        before = {kind: _pattern(entry) for kind, entry in legacy.items()}
        return {
            kind: IdFormat(_pattern(found[kind]), before.get(kind), kind if kind in _OWN_PREFIX else "")
            for kind in ID_KINDS
            if kind in found
        }

    def show(self, value: Mapping[str, IdFormat]) -> str:
        """Write the formats."""
        rows = [f"{kind}: {written(each.pattern)}" for kind, each in value.items()]
        legacy = [f"{kind}: {written(each.legacy)}" for kind, each in value.items() if each.legacy]
        if legacy:
            rows.append(f"legacy: {{{', '.join(legacy)}}}")
        return f"{{{', '.join(rows)}}}"


class NameList(Kind):
    """One name of something, or a list of such names; null for none."""

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self.form = f"{noun} or list of {noun}s"

    def read(self, value: Value) -> tuple[str, ...]:
        """Read the names, in order."""
        found: list[str] = []
        for item in value.items() if value.shape == "list" else [value]:
            name = NAME.read(item)
            if name in found:
                raise RefusedValueError(item, f"expected each {self._noun} once")
            found += [name] if name else []
        return tuple(found)

    def show(self, value: tuple[str, ...]) -> str:
        """Write the names."""
        return written(value[0]) if len(value) == 1 else _flow(value)


class ActiveValues(Kind):
    """By column, a value or a list of values; null for none."""

    form = "mapping of columns to a value or list of values"

    def read(self, value: Value) -> dict[str, frozenset[str]]:
        """Read the texts by which values of each column are compared."""
        if value.shape not in {"mapping", "null"}:
            raise RefusedValueError(value, f"expected a {self.form}, such as {{status: [active]}}")
        pairs = _pairs(value)
        for column, entry in pairs:
            if len(column) > NAME.chars_max or not column.isprintable():
                raise RefusedValueError(entry, f"expected a {NAME.form} for the name of the column, all printable")
        return {column: self._texts(entry) for column, entry in pairs}

    def _texts(self, entry: Value) -> frozenset[str]:
        items = entry.items() if entry.shape == "list" else [entry]
        if not items:
            raise RefusedValueError(entry, "expected at least one value")
        return value_texts(_scalar(item) for item in items)

    def show(self, value: Mapping[str, frozenset[str]]) -> str:
        """Write the texts."""
        rows = (f"{written(column)}: {_flow(sorted(texts))}" for column, texts in value.items())
        return f"{{{', '.join(rows)}}}"


class Expectations(Kind):
    """Where requests say which session they expect: one place, or a list of them; null for none."""

    form = f"list of {', '.join(f'{{{source}: NAME}}' for source in EXPECT_SOURCES)}"

    def read(self, value: Value) -> tuple[Expectation, ...]:
        """Read the places, in order."""
        if value.shape == "null":
            return ()
        found: list[Expectation] = []
        for item in value.items() if value.shape == "list" else [value]:
            pairs = _pairs(item)
            if len(pairs) != 1 or pairs[0][0] not in EXPECT_SOURCES:
                raise RefusedValueError(item, f"expected one of{self.form.removeprefix('list of')}")
            [(source, entry)] = pairs
            found.append(Expectation(source, _required(entry)))
        return tuple(found)

    def show(self, value: tuple[Expectation, ...]) -> str:
        """Write the places."""
        return f"[{', '.join(f'{{{each.source}: {written(each.name)}}}' for each in value)}]"


def scope_problem(name: str) -> str:
    """Say what is wrong with the name of a scope; `""` when nothing is."""
    if name == OTHER_SCOPE:
        return "a reserved name: sessions of undeclared scopes are counted there"
    if _SCOPE_NAME.fullmatch(name) is None:
        return "not a scope name: expected a name of 1 to 64 of a-z, 0-9 and _, a letter first"
    return ""


def _pairs(value: Value) -> list[tuple[str, Value]]:
    pairs = []
    for name, entry, problem in value.pairs():
        if problem:
            raise RefusedValueError(entry, problem)
        pairs.append((name, entry))
    return pairs


def _entries(value: Value, form: str, names: Collection[str]) -> dict[str, Value]:
    """The entries of a mapping that has these names only; what is null is not there."""
    if value.shape not in {"mapping", "null"}:
        raise RefusedValueError(value, f"expected a {form}, such as {{session: uuid}}")
    pairs = _pairs(value)
    for name, entry in pairs:
        if name not in names:
            raise RefusedValueError(entry, f"expected its key to be one of {', '.join(names)}")
    return {name: entry for name, entry in pairs if entry.shape != "null"}


def _pattern(value: Value) -> str:
    text = value.text if value.shape == "text" else ""
    if not (0 < len(text) <= _PATTERN_CHARS_MAX and text.isprintable()):
        fault = f"text of 1 to {_PATTERN_CHARS_MAX} characters, all printable (put quotes around it)"
        raise RefusedValueError(value, f"expected uuid, unified or a regular expression, a {fault}")
    if fault := pattern_fault(text):
        raise RefusedValueError(value, f"expected uuid, unified or a regular expression; this one is {fault}")
    return text


def _scalar(value: Value) -> Any:
    match value.shape:
        case "text" if value.text.isprintable():
            return value.text
        case "null":
            return None
        case "boolean" if value.text.lower() in BOOLEANS:
            return BOOLEANS[value.text.lower()]
        case "number" if _WHOLE_NUMBER.fullmatch(value.text):
            return value.text
    raise RefusedValueError(value, "expected a text, whole number, boolean or null (put quotes around another value)")


def _required(value: Value) -> str:
    name = NAME.read(value)
    if not name:
        raise RefusedValueError(value, f"expected a {NAME.form}")
    return name


def _flow(texts: "tuple[str, ...] | list[str]") -> str:
    return f"[{', '.join(map(written, texts))}]"
