"""SE105: rows of a table are deleted and inserted anew in one function."""

from collections.abc import Iterator
from itertools import islice

from session_exporter.audit.code.faults import Fault
from session_exporter.audit.code.flow import STEPS_MAX, Occurrence
from session_exporter.audit.code.guards import is_guarded
from session_exporter.audit.code.parsed import OwnedFunction, ParsedModule
from session_exporter.audit.code.statements import deleted, inserted


def find_clearing(module: ParsedModule, function: OwnedFunction, found: list[Occurrence]) -> Iterator[Fault]:
    """Find deletions that an insertion into the same table follows; each insertion is reported once."""
    clears = list(deleted(found))
    if not clears or is_guarded(function.node, found):
        return
    reported: set[str] = set()
    for insert in islice(inserted(found), STEPS_MAX):
        for clear in clears:
            if clear.table == insert.table and clear.table not in reported and insert.at.may_follow(clear.at):
                reported.add(clear.table)
                name, line = function.node.name, getattr(insert.at.node, "lineno", 0)
                message = f"{name}() deletes rows of {clear.table}, and inserts new ones in line {line}"
                yield module.fault("SE105", clear.at.node, message, insert.at.node)
