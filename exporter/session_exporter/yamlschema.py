"""A schema of a YAML document, and a document that is read by it: values by path, and all problems.

The keys of a schema are patterns: `limits.max_incidents` is a key of a section, `scopes.<name>.idle_timeout` one of any
section in `scopes`, `tables[].user` one of every entry of the list `tables`.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from session_exporter.yamlkinds import Kind, RefusedValueError
from session_exporter.yamlsource import Problems, Value, shown

# A list is read, and its entries hooked, at the application's start.
ENTRIES_MAX: Final = 1000
ANY_NAME: Final = "<name>"
ITEM: Final = "[]"


class Key(NamedTuple):
    """One key of a schema: the attribute that it sets, of whatever its section stands for, and its kind of value."""

    attribute: str
    kind: Kind


class Schema:
    """What a document may hold.

    Args:
        keys: By pattern.

    Attributes:
        keys: As given.
        sections: Every proper prefix of a pattern: `limits`, `limits.known_ids`, `scopes.<name>`, `tables[]`, ...
    """

    def __init__(self, keys: Mapping[str, Key]) -> None:
        self.keys = keys
        self.sections = frozenset(pattern[: dot.start()] for pattern in keys for dot in re.finditer(r"\.", pattern))

    def keys_of(self, section: str) -> Iterator[tuple[str, Key]]:
        """The keys of a section or of the entries of a list, without their prefix."""
        prefix = f"{section}."
        return ((pattern[len(prefix) :], key) for pattern, key in self.keys.items() if pattern.startswith(prefix))

    def suggestion(self, name: str, pattern: str) -> str:
        """What somebody may have meant who wrote the unknown key `name`, where `pattern` would be."""
        import difflib  # noqa: PLC0415  # only a file with a mistake needs it

        parent = pattern.rpartition(".")[0]
        prefix = f"{parent}." if parent else ""
        names = (key[len(prefix) :].partition(".")[0] for key in self.keys if key.startswith(prefix))
        siblings = sorted({each.removesuffix(ITEM) for each in names})
        near = difflib.get_close_matches(shown(name), siblings, n=1)
        near = near or [key for key in self.keys if key.endswith(f".{name}")][:1]
        return f"did you mean {near[0]}?" if near else f"expected one of {', '.join(siblings)}"


class DocumentReading:
    """One pass over a document.

    Attributes:
        problems: What is wrong, by line.
        found: By path, what was read, and the value that it was read from.
        members: By pattern (`scopes.<name>`, `tables[]`), the name of every member (`""` in a list), and its value.
    """

    def __init__(self, schema: Schema, problems: Problems) -> None:
        self.problems = problems
        self.found: dict[str, tuple[Any, Value]] = {}
        self.members: dict[str, list[tuple[str, Value]]] = defaultdict(list)
        self._schema = schema

    def section(self, value: Value, pattern: str = "") -> None:
        """Read a mapping; an empty one may be left out or written as nothing at all."""
        if value.shape not in {"mapping", "null"}:
            self.refuse(value, "expected a mapping of keys to values")
        named = f"{pattern}.{ANY_NAME}"
        for name, entry in value.entries(self.problems):
            if named in self._schema.sections:
                self.members[named].append((name, entry))
                self._entry(name, entry, named)
            else:
                # A dotted key is no short form of a section: two places for one value would contradict each other.
                leaf = name if not set(name) & set(".[") else "?"
                self._entry(name, entry, f"{pattern}.{leaf}" if pattern else leaf)

    def refuse(self, value: Value, expected: str) -> None:
        """Note a value that is not what was expected."""
        self.problems.add(value.line, value.path or "the document", f"value {value.shown}: {expected}")

    def _entry(self, name: str, entry: Value, pattern: str) -> None:
        if pattern in self._schema.sections:
            self.section(entry, pattern)
        elif f"{pattern}{ITEM}" in self._schema.sections:
            self._list(entry, f"{pattern}{ITEM}")
        elif pattern in self._schema.keys:
            self._leaf(entry, self._schema.keys[pattern].kind)
        elif self.problems.full:
            self.problems.add(entry.line, entry.path, "unknown key")
        else:
            self.problems.add(entry.line, entry.path, f"unknown key: {self._schema.suggestion(name, pattern)}")

    def _list(self, value: Value, pattern: str) -> None:
        if value.shape not in {"list", "null"}:
            self.refuse(value, "expected a list of mappings (each begins with -)")
        items = value.items()
        if len(items) > ENTRIES_MAX:
            line = items[ENTRIES_MAX].line
            self.problems.add(line, value.path, f"too many entries: expected at most {ENTRIES_MAX}")
        for item in items[:ENTRIES_MAX]:
            self.members[pattern].append(("", item))
            self.section(item, pattern)

    def _leaf(self, entry: Value, kind: Kind) -> None:
        try:
            self.found[entry.path] = (kind.read(entry), entry)
        except RefusedValueError as error:
            if kind.secret:
                self.problems.add(entry.line, entry.path, f"value (not shown): {error}")
            else:
                self.refuse(error.value, str(error))


def pattern_of(path: str, section: str) -> str:
    """Give the pattern of a path: with `scopes` for the section, `scopes.chat.reuse_target` becomes one of any name."""
    first, _, rest = path.partition(".")
    return f"{section}.{ANY_NAME}.{rest.partition('.')[2]}" if first == section else path
