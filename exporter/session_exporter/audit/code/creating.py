"""SE106: a session is looked for, and created when it was not found, with nothing that keeps two callers apart."""

import ast
import re
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from session_exporter.audit.code.absence import Absence
from session_exporter.audit.code.faults import Fault
from session_exporter.audit.code.flow import STEPS_MAX, Occurrence
from session_exporter.audit.code.guards import is_guarded
from session_exporter.audit.code.naming import dotted, is_user, names_in, noun_of, tail
from session_exporter.audit.code.parsed import OwnedFunction, ParsedModule
from session_exporter.audit.code.statements import inserted, selected

_LOOKING: Final = re.compile(r"_*(?:a)?(get|find|fetch|load|lookup|look_up|retrieve|select|read)_(?!or_)(\w+)")
_CREATING: Final = re.compile(r"_*(?:a)?(create|insert|add|make|start|new|open)_(\w+)")
_RELATION: Final = re.compile(r"_(by|for|of|from|with)_\w+$")


class SessionStep(NamedTuple):
    """A lookup or a creation of sessions; `what` is a table, a model, or a receiver with a noun."""

    what: str
    noun: str
    at: Occurrence


def find_creating(module: ParsedModule, function: OwnedFunction, found: list[Occurrence]) -> Iterator[Fault]:
    """Find creations that depend on a lookup of the same thing; each is reported once."""
    lookups = list(islice(_lookups(found), STEPS_MAX))
    creations = list(islice(_creations(found), STEPS_MAX)) if lookups else []
    if not creations or is_guarded(function.node, found):
        return
    for lookup in lookups:
        absence = Absence(found, lookup.at)
        for creation in creations:
            if _same(lookup, creation) and absence.leads_to(creation.at):
                name, line = function.node.name, getattr(creation.at.node, "lineno", 0)
                message = f"{name}() looks for a {lookup.noun}, and creates one in line {line} when there is none"
                yield module.fault("SE106", lookup.at.node, message, creation.at.node)
                return


def _lookups(found: list[Occurrence]) -> Iterator[SessionStep]:
    for use in selected(found):
        if noun := noun_of(use.table):
            yield SessionStep(use.table, noun, use.at)
    yield from _named(found, _LOOKING)


def _creations(found: list[Occurrence]) -> Iterator[SessionStep]:
    for use in inserted(found):
        if noun := noun_of(use.table):
            yield SessionStep(use.table, noun, use.at)
    yield from _named(found, _CREATING)


def _named(found: list[Occurrence], verb: re.Pattern[str]) -> Iterator[SessionStep]:
    """Calls whose names say so (`self.store.get_session(user_id)`), with a user, or an id, among the arguments."""
    for each in found:
        if isinstance(each.node, ast.Call) and (named := verb.fullmatch(tail(each.node.func))):
            noun = noun_of(_RELATION.sub("", named[2]))
            if noun and _identifies(each.node, noun):
                yield SessionStep(f"{dotted(each.node.func).rpartition('.')[0]}:{noun}", noun, each)


def _identifies(call: ast.Call, noun: str) -> bool:
    names = names_in([*call.args, *call.keywords])
    return any(is_user(name) or name.endswith(f"{noun}_id") for name in names)


def _same(lookup: SessionStep, creation: SessionStep) -> bool:
    if ":" in lookup.what and ":" in creation.what:
        return lookup.what == creation.what
    if ":" in creation.what:
        return lookup.noun == creation.noun and creation.what.partition(":")[0] in {"", "self", "cls"}
    return lookup.what == creation.what
