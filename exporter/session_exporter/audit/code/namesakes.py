"""SE101: classes of one name whose attributes differ, where the one may be taken for the other."""

import ast
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import Final

from session_exporter.audit.code.faults import Fault, Spot
from session_exporter.audit.code.naming import NOUNS, dotted, tail, words
from session_exporter.audit.code.parsed import ParsedModule, assigned

_MEASURES: Final = frozenset(
    {"metrics", "tracker", "stats", "statistics", "monitor", "state", "info", "data", "record"}
)
_PLAIN_BASES: Final = frozenset(
    {"object", "ABC", "BaseModel", "NamedTuple", "Base", "SQLModel", "Model", "Struct", "Generic"}
)
_NEAR: Final = 0.85
_SHOWN: Final = 6
# Every pair is compared: a generated code base may have thousands of either.
_CLASSES_MAX: Final = 50
_ATTRIBUTES_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class ClassShape:
    """A class as far as its text tells: its place, its bases, and its public attributes; methods are none."""

    name: str
    inside: str
    spot: Spot
    bases: frozenset[str]
    attributes: frozenset[str]


class Namesakes:
    """Collects the classes of sessions and of their figures."""

    def __init__(self) -> None:
        self._shapes: dict[str, list[ClassShape]] = {}

    def take(self, module: ParsedModule) -> None:
        """Look at a module; tests have classes of their own, whatever their names."""
        if module.is_test:
            return
        for node in module.top:
            if isinstance(node, ast.ClassDef) and _is_about_sessions(node.name):
                bases = frozenset(map(tail, node.bases))
                shape = ClassShape(
                    node.name,
                    module.inside,
                    module.spot(node),
                    bases,
                    frozenset(islice(_attributes(module, node), _ATTRIBUTES_MAX)),
                )
                shapes = self._shapes.setdefault(node.name, [])
                if len(shapes) < _CLASSES_MAX:
                    shapes.append(shape)

    def faults(self) -> Iterator[Fault]:
        """Return the pairs that differ in an attribute."""
        for shapes in self._shapes.values():
            for number, second in enumerate(shapes):
                first = next((each for each in shapes[:number] if _confusable(each, second)), None)
                if first is not None:
                    yield Fault(first.spot, "SE101", _message(first, second), (second.spot,))


def _is_about_sessions(name: str) -> bool:
    parts = words(name)
    return not NOUNS.isdisjoint(parts) and (not _MEASURES.isdisjoint(parts) or parts[-1] in NOUNS)


def _attributes(module: ParsedModule, cls: ast.ClassDef) -> Iterator[str]:
    methods = module.methods_of(cls)
    names = [dotted(target) for statement in cls.body for target in assigned(statement)[1]]
    stored = (statement for method in methods for statement in method.assignments)
    names += [_of_self(dotted(target)) for statement in stored for target in assigned(statement)[1]]
    yield from (name for name in names if name and "." not in name and not name.startswith("_"))


def _of_self(name: str) -> str:
    return name.removeprefix("self.") if name.startswith("self.") else ""


def _confusable(first: ClassShape, second: ClassShape) -> bool:
    if first.inside == second.inside or _project(first) != _project(second):
        return False
    related = {first.name} & (first.bases | second.bases) or (first.bases & second.bases) - _PLAIN_BASES
    return not related and bool(_near_misses(first.attributes, second.attributes))


def _project(shape: ClassShape) -> str:
    """Below `site-packages` every folder is a project of its own."""
    parts = PurePosixPath(shape.spot.path).parts
    return parts[parts.index("site-packages") + 1] if "site-packages" in parts[:-1] else ""


def _near_misses(first: frozenset[str], second: frozenset[str]) -> list[tuple[str, str]]:
    """Attributes that the one has, and the other under a name so near that they are taken for each other."""
    return sorted(
        (mine, other)
        for mine in first - second
        for other in second - first
        if _one_word_more(mine, other)
        or _one_word_more(other, mine)
        or difflib.SequenceMatcher(None, mine, other).ratio() >= _NEAR
    )


def _one_word_more(longer: str, shorter: str) -> bool:
    return words(longer)[:-1] == words(shorter) != ()


def _message(first: ClassShape, second: ClassShape) -> str:
    pairs = _near_misses(first.attributes, second.attributes)
    told = ", ".join(f"{mine} is {other} there" for mine, other in pairs[:_SHOWN])
    return f"{first.name} is another class in {second.spot.path}:{second.spot.line}: {told}"
