"""A YAML document as values that know their line and key path; every problem of a document is reported together.

A document is bounded before it is built: its bytes, its nesting, its aliases and its values. What PyYAML raises is
translated here, and nowhere else. The reading library is imported when the first document is read.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from session_exporter.errors import ConfigError

DOCUMENT_BYTES_MAX: Final = 1 << 20
# A configuration is four levels deep; libyaml's own composer recurses on the C stack.
DEPTH_MAX: Final = 20
# Enough to share a block between scopes; far below what an "alias bomb" multiplies.
ALIASES_MAX: Final = 100
VALUES_MAX: Final = 20_000
# No configuration needs any; libyaml compares each with all before it.
DIRECTIVES_MAX: Final = 20
PROBLEMS_MAX: Final = 20
_SHOWN_CHARS_MAX: Final = 60
# A URL may stand where none belongs.
_CREDENTIALS: Final = re.compile(r"(?<=://).*(?=@)|(?<=password=)[^&\s]+")

_TAG: Final = "tag:yaml.org,2002:"
_SHAPES: Final = {
    ("mapping", f"{_TAG}map"): "mapping",
    ("sequence", f"{_TAG}seq"): "list",
    ("scalar", f"{_TAG}null"): "null",
    ("scalar", f"{_TAG}bool"): "boolean",
    ("scalar", f"{_TAG}int"): "number",
    ("scalar", f"{_TAG}float"): "number",
    ("scalar", f"{_TAG}str"): "text",
}


class Problems:
    """The problems of one document, in the order found; the first `PROBLEMS_MAX` are kept, the rest counted."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.paths: set[str] = set()
        self._lines: list[tuple[int, str]] = []
        self._left_out = 0

    @property
    def full(self) -> bool:
        """Whether further problems are only counted: no need to word them with care."""
        return len(self._lines) >= PROBLEMS_MAX

    def add(self, line: int, path: str, problem: str) -> None:
        """Note what is wrong with the value at `path`, whose key stands on `line` (from 1)."""
        self.paths.add(path)
        if self.full:
            self._left_out += 1
        else:
            self._lines.append((line, f"{self.source}:{line}: {path}: {problem}"))

    def raise_any(self) -> None:
        """Raise all problems as one.

        Raises:
            ConfigError: There is at least one; a line of the message for each, in the order of the document.
        """
        if not self._lines:
            return
        texts = [text for _, text in sorted(self._lines, key=lambda entry: entry[0])]
        if self._left_out:
            texts.append(f"{self.source}: further problems: {self._left_out}")
        raise ConfigError("\n".join(texts))


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a document.

    Attributes:
        node: What PyYAML composed, a `yaml.Node`.
        path: The keys that lead here, joined by dots; `""` for the document itself.
        line: Where its key stands (an item of a list: where it stands itself), from 1.
    """

    node: Any
    path: str
    line: int

    @property
    def shape(self) -> str:
        """`mapping`, `list`, `null`, `boolean`, `number`, `text`, or `tagged` for everything else."""
        return _shape(self.node)

    @property
    def text(self) -> str:
        """A scalar as it is written, quotes removed; `""` for mappings and lists."""
        return str(self.node.value) if self.node.id == "scalar" else ""

    @property
    def shown(self) -> str:
        """The value as a message shows it: one line, printable, short; in quotes when it was written so."""
        if self.node.id != "scalar":
            return "a mapping" if self.node.id == "mapping" else "a list"
        if self.shape == "null":
            return "null"
        return shown(self.text, quoted=self.node.style in ("'", '"'))

    def items(self) -> "list[Value]":
        """The values of a list, each with its number in the path; none for another shape."""
        nodes = self.node.value if self.shape == "list" else []
        return [Value(node, f"{self.path}[{i}]", _line(node)) for i, node in enumerate(nodes)]

    def entries(self, problems: Problems) -> "Iterator[tuple[str, Value]]":
        """The entries of a mapping, in order; what is wrong with a key is reported, and its entry left out.

        Another shape has none.
        """
        for name, entry, problem in self.pairs():
            if problem:
                problems.add(entry.line, entry.path, problem)
            else:
                yield name, entry

    def pairs(self) -> "Iterator[tuple[str, Value, str]]":
        """The entries of a mapping, each with what is wrong with its key: it is no text, or not the first of its name.

        Another shape has none.
        """
        first_lines: dict[str, int] = {}
        for key, node in self.node.value if self.shape == "mapping" else ():
            name = key.value if key.id == "scalar" else ""
            path = f"{self.path}.{shown(name)}" if self.path else shown(name)
            entry = Value(node, path, _line(key))
            if _shape(key) != "text" or not name:
                yield name, entry, "expected a text as key (put quotes around it; merge keys are not read)"
            elif name in first_lines:
                yield name, entry, f"duplicate key: expected once, but line {first_lines[name]} has it too"
            else:
                first_lines[name] = entry.line
                yield name, entry, ""


def shown(text: str, *, quoted: bool = False) -> str:
    """Make any text fit for one line of a message: printable, without spaces at its ends, short."""
    text = _CREDENTIALS.sub("***", text)
    short = text if len(text) <= _SHOWN_CHARS_MAX else f"{text[:_SHOWN_CHARS_MAX]}…"
    plain = short and short.isprintable() and short == short.strip()
    return short if plain and not quoted else repr(short)


def compose(text: str, source: str, loader: Any = None) -> Value | None:
    """Read one YAML document.

    Args:
        text: The document; at most `DOCUMENT_BYTES_MAX` bytes of UTF-8.
        source: What messages call it, usually a path.
        loader: The class of PyYAML's that reads; libyaml's safe loader when that is available.

    Returns:
        The value of the whole document; None when it is empty.

    Raises:
        ConfigError: The text is no YAML, holds several documents, or is larger, deeper or more entangled than allowed.
    """
    import yaml  # noqa: PLC0415  # an application that has no configuration file need not pay for it

    loader = loader or getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    _check_text(text, source, yaml.reader.Reader.NON_PRINTABLE)
    try:
        _check_bounds(yaml.parse(text, Loader=loader), source)
        node = yaml.compose(text, Loader=loader)
    except ConfigError:
        raise
    # PyYAML lets numbers and escapes that Python refuses pass through as plain errors.
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ConfigError(_syntax_problem(error, source)) from error
    return None if node is None else Value(node, "", _line(node))


def _check_text(text: str, source: str, forbidden: Any) -> None:
    if len(text) > DOCUMENT_BYTES_MAX or len(text.encode("utf-8", "surrogatepass")) > DOCUMENT_BYTES_MAX:
        raise ConfigError(f"{source}: the document is too large: expected at most {DOCUMENT_BYTES_MAX} bytes")
    if text.count("\n%") > DIRECTIVES_MAX:
        raise ConfigError(f"{source}: too many directives: expected at most {DIRECTIVES_MAX} lines that begin with %")
    found = forbidden.search(text)
    if found is not None:
        line = text.count("\n", 0, found.start()) + 1
        raise ConfigError(f"{source}:{line}: not valid YAML: the character {found[0]!a} is not allowed")


def _check_bounds(events: Iterable[Any], source: str) -> None:
    """Refuse what would be costly to build, while it is only a stream of events."""
    counts = {"DocumentStartEvent": 0, "AliasEvent": 0, "ScalarEvent": 0}
    limits = {
        "DocumentStartEvent": (1, "several documents: expected one"),
        "AliasEvent": (ALIASES_MAX, f"too many aliases: expected at most {ALIASES_MAX}"),
        "ScalarEvent": (VALUES_MAX, f"too many values: expected at most {VALUES_MAX}"),
    }
    depth = 0
    for event in events:
        kind = type(event).__name__
        depth += kind in {"MappingStartEvent", "SequenceStartEvent"}
        depth -= kind in {"MappingEndEvent", "SequenceEndEvent"}
        if depth > DEPTH_MAX:
            raise ConfigError(f"{source}:{_line(event)}: nested too deeply: expected at most {DEPTH_MAX} levels")
        if kind in counts:
            counts[kind] += 1
            limit, problem = limits[kind]
            if counts[kind] > limit:
                raise ConfigError(f"{source}:{_line(event)}: {problem}")


def _syntax_problem(error: Exception, source: str) -> str:
    mark = getattr(error, "problem_mark", None)
    place = source if mark is None else f"{source}:{mark.line + 1}"
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
    return f"{place}: not valid YAML: {' '.join(str(problem).split())}"


def _shape(node: Any) -> str:
    return _SHAPES.get((node.id, node.tag), "tagged")


def _line(marked: Any) -> int:
    return int(marked.start_mark.line) + 1
