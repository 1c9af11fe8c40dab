"""Reads a code base and applies the rules."""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from session_exporter.audit.code.byuser import find_lookups_by_user
from session_exporter.audit.code.caches import find_unlocked_caches
from session_exporter.audit.code.clearing import find_clearing
from session_exporter.audit.code.creating import find_creating
from session_exporter.audit.code.faults import Fault
from session_exporter.audit.code.flow import occurrences
from session_exporter.audit.code.import_paths import ImportPaths
from session_exporter.audit.code.kept_sessions import find_kept_sessions
from session_exporter.audit.code.namesakes import Namesakes
from session_exporter.audit.code.opening import SessionOpenings
from session_exporter.audit.code.parsed import NotParsed, OwnedFunction, ParsedModule, parse_module
from session_exporter.audit.code.rules import RULES
from session_exporter.audit.code.shared_sessions import SharedSessions
from session_exporter.audit.code.sources import SourceTree
from session_exporter.audit.code.uncalled import UncalledFunctions

# Without such a word nothing in a file, or in the lines of a function, can be a finding of most rules.
_SESSIONS: Final = (b"session", b"conversation", b"thread", b"chat", b"get_db", b"connections")
_CLEARING: Final = (b"delete", b"truncate")
_CREATING: Final = (b"create", b"insert", b".add", b"new_", b"start_", b"open_", b"make_", b".save", b"add_")
_BY_USER: Final = (b"or_", b"ensure", b"active", b"current", b"latest", b"last", b"newest", b"open")


@dataclass(slots=True)
class CodeAudit:
    """What was found in a code base.

    Attributes:
        faults: In the order of files and lines.
        files: How many were read.
        not_parsed: The files that could not be read or parsed, each with the reason.
        ignored: How many findings a comment asked not to report.
        stopped: Which limit ended the audit before all files were read; nothing when all were.
    """

    faults: list[Fault] = field(default_factory=list)
    files: int = 0
    not_parsed: dict[str, str] = field(default_factory=dict)
    ignored: int = 0
    stopped: str = ""


def audit_code(
    paths: Sequence[Path], tree: SourceTree | None = None, rules: AbstractSet[str] = frozenset(RULES)
) -> CodeAudit:
    """Look for what makes sessions race in the Python files below `paths`; nothing is imported, nothing is run.

    Args:
        paths: Folders and files. What is seen over all files is seen over all of them together.
        tree: How they are found, and how much is read at most.
        rules: The ids of the rules to apply.
    """
    tree = tree or SourceTree()
    audited = _Audit(rules)
    for path, inside, source in tree.read(paths):
        audited.take(str(path), inside, source)
    return audited.result(tree)


class _Audit:
    def __init__(self, rules: AbstractSet[str]) -> None:
        self._rules = rules
        self._found: list[Fault] = []
        self._ignored: dict[str, dict[int, frozenset[str]]] = {}
        self._not_parsed: dict[str, str] = {}
        self._namesakes = Namesakes()
        self._import_paths = ImportPaths()
        self._shared = SharedSessions()
        self._uncalled = UncalledFunctions()

    def take(self, path: str, inside: str, source: bytes) -> None:
        try:
            self._take_module(parse_module(source, path, inside))
        except (NotParsed, RecursionError) as error:
            self._not_parsed[path] = str(error) if isinstance(error, NotParsed) else "nested too deeply"
            self._uncalled.take_unparsed(source)

    def _take_module(self, module: ParsedModule) -> None:
        if module.ignored:
            self._ignored[module.path] = module.ignored
        self._import_paths.take(module)
        self._uncalled.take(module)
        if _has(module.lowered, _SESSIONS):
            self._namesakes.take(module)
        self._found += self._local(module)

    def _local(self, module: ParsedModule) -> Iterator[Fault]:
        may_share = _has(module.lowered, _SESSIONS) and not module.is_test
        sessions = SessionOpenings(module) if may_share else None
        yield from self._shared.take(module, sessions)
        if module.is_test:
            return
        if sessions is not None:
            yield from find_kept_sessions(module, sessions)
        if (sessions is not None or _has(module.lowered, _CLEARING)) and not module.runs_once:
            lines = module.lowered.splitlines()
            for function in module.functions:
                yield from _in_function(module, function, lines)

    def result(self, tree: SourceTree) -> CodeAudit:
        for collected in (self._namesakes, self._import_paths, self._shared, self._uncalled):
            self._found += collected.faults()
        wanted = sorted({fault for fault in self._found if fault.rule in self._rules})
        faults = [fault for fault in wanted if not self._is_ignored(fault)]
        return CodeAudit(faults, tree.files, tree.skipped | self._not_parsed, len(wanted) - len(faults), tree.stopped)

    def _is_ignored(self, fault: Fault) -> bool:
        rules = self._ignored.get(fault.spot.path, {}).get(fault.spot.line)
        return rules is not None and (not rules or fault.rule in rules)


def _in_function(module: ParsedModule, function: OwnedFunction, lines: list[bytes]) -> Iterator[Fault]:
    text = b"\n".join(lines[function.node.lineno - 1 : function.node.end_lineno])
    clears = _has(text, _CLEARING) and _has(text, _CREATING)
    concerns = _has(text, _SESSIONS)
    creates = concerns and _has(text, _CREATING)
    caches = concerns and function.is_async and b"] =" in text
    by_user = concerns and _has(text, _BY_USER)
    if not (clears or creates or caches or by_user):
        return
    found = occurrences(function.node)
    if clears:
        yield from find_clearing(module, function, found)
    if creates:
        yield from find_creating(module, function, found)
    if caches:
        yield from find_unlocked_caches(module, function, found)
    if by_user:
        yield from find_lookups_by_user(module, function, found)


def _has(text: bytes, needles: tuple[bytes, ...]) -> bool:
    return any(needle in text for needle in needles)
