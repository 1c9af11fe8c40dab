"""SE102: one file that is imported as two modules, such as `app.db.session` and `db.session`.

The shorter name is found only from below the folder that was put into `sys.path`; elsewhere it is another's module that
happens to have the name.
"""

import ast
import sys
from collections.abc import Iterator
from typing import Final, NamedTuple

from session_exporter.audit.code.faults import Fault, Spot
from session_exporter.audit.code.naming import dotted
from session_exporter.audit.code.parsed import ParsedModule, assigned

# Copies of other people's packages are imported in ways of their own.
_COPIES: Final = frozenset({"vendor", "_vendor", "vendored", "vendored_packages", "extern", "third_party", "_vendored"})
_IMPORTERS_MAX: Final = 50
_KEY_PARTS: Final = 3


class ModuleFile(NamedTuple):
    """A file, the parts of its path below what is read, and the classes and values that it defines."""

    path: str
    parts: tuple[str, ...]
    defined: frozenset[str]


class Importer(NamedTuple):
    """A file that imports a name, and where."""

    folders: tuple[str, ...]
    spot: Spot


class ImportedAs(NamedTuple):
    """A name that a file is imported by, what is imported from it, and by whom."""

    module: str
    name: str
    importers: list[Importer]


class ImportPaths:
    """Collects what is imported by absolute names, and which files there are."""

    def __init__(self) -> None:
        # By the last part of a module's name, and by the last two.
        self._files: dict[tuple[str, ...], list[ModuleFile]] = {}
        self._imported: dict[tuple[str, str], list[Importer]] = {}

    def take(self, module: ParsedModule) -> None:
        """Look at a module."""
        folders = tuple(module.inside.split("/")[:-1])
        parts = tuple(module.inside.removesuffix(".py").removesuffix("/__init__").split("/"))
        if _COPIES.isdisjoint(parts):
            file = ModuleFile(module.path, parts, _defined(module))
            for key in {parts[-1:], parts[-2:]}:
                self._files.setdefault(key, []).append(file)
        for each in module.imports:
            if each.certain and each.name and not each.module.startswith("."):
                importers = self._imported.setdefault((each.module, each.name), [])
                if len(importers) < _IMPORTERS_MAX:
                    importers.append(Importer(folders, Spot(module.path, each.line, each.column)))

    def faults(self) -> Iterator[Fault]:
        """Return each file that is imported by two names, once for both."""
        found: dict[ModuleFile, list[ImportedAs]] = {}
        for (module, name), importers in self._imported.items():
            file = self._file_of(module, name)
            if file is not None:
                found.setdefault(file, []).append(ImportedAs(module, name, importers))
        for file, names in found.items():
            yield from _fault(file, names)

    def _file_of(self, module: str, name: str) -> ModuleFile | None:
        """The only file that a module's name may mean, provided that it defines what is imported from it."""
        wanted = tuple(module.split("."))
        if wanted[0] in sys.stdlib_module_names:
            return None
        named = self._files.get(wanted[-2:], [])
        fitting = (
            named if len(wanted) < _KEY_PARTS else [file for file in named if file.parts[-len(wanted) :] == wanted]
        )
        return fitting[0] if len(fitting) == 1 and name in fitting[0].defined else None


def _defined(module: ParsedModule) -> frozenset[str]:
    classes = {node.name for node in module.top if isinstance(node, ast.ClassDef)}
    values = {dotted(target) for statement in module.top for target in assigned(statement)[1]}
    return frozenset(classes | values)


def _fault(file: ModuleFile, names: list[ImportedAs]) -> Iterator[Fault]:
    """Compare the shortest name with the longest one, when the shortest is imported where it can be found."""
    short, long = min(names, key=_length), max(names, key=_length)
    root = file.parts[: -_length(short)]
    near = [each.spot for each in short.importers if each.folders[: len(root)] == root and each.spot.path != file.path]
    if _length(short) < _length(long) and near:
        other = long.importers[0].spot
        message = (
            f"{file.path} is imported as {short.module} here, and as {long.module} in {other.path}:{other.line}:"
            f" {short.name} exists twice"
        )
        yield Fault(near[0], "SE102", message, (other,))


def _length(imported: ImportedAs) -> int:
    return imported.module.count(".") + 1
