"""A finished audit as text, as a JSON document, and as annotations of GitHub's workflows."""

import textwrap
from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

from session_exporter.audit.code.auditing import CodeAudit
from session_exporter.audit.code.faults import Fault, Spot
from session_exporter.audit.code.rules import RULES
from session_exporter.core.plaintext import inert

DOCUMENT_VERSION: Final = 1
_WIDTH: Final = 100
_CHARS_MAX: Final = 1000
_NOT_PARSED_SHOWN: Final = 20


def text_lines(audit: CodeAudit) -> Iterator[str]:
    """Write the findings for people: grouped by rule, each group with why it matters and what to do."""
    for rule, faults in groupby(sorted(audit.faults, key=lambda fault: fault.rule), key=lambda fault: fault.rule):
        told = RULES[rule]
        yield f"{rule}  {told.title}"
        yield from _paragraph("why: ", told.why)
        yield from _paragraph("do:  ", told.instead)
        yield from (_line(fault) for fault in faults)
        yield ""
    yield from (f"not read: {_shown(path)}: {_shown(why)}" for path, why in _first(audit.not_parsed))
    yield summary(audit)


def summary(audit: CodeAudit) -> str:
    """Write what was read and found, in one line."""
    parts = [f"{_counted(len(audit.faults), 'finding')} in {_counted(audit.files, 'file')}"]
    if audit.ignored:
        parts.append(f"{audit.ignored} ignored by comments")
    if audit.not_parsed:
        parts.append(f"{_counted(len(audit.not_parsed), 'file')} not read")
    if audit.stopped:
        parts.append(f"stopped {audit.stopped}, before all files were read")
    return "; ".join(parts)


def document(audit: CodeAudit) -> dict[str, Any]:
    """Make the JSON document; a key is never given another meaning within one `version`."""
    return {
        "version": DOCUMENT_VERSION,
        "files": audit.files,
        "complete": not audit.stopped,
        "ignored": audit.ignored,
        "not_read": [{"path": path, "reason": why} for path, why in audit.not_parsed.items()],
        "rules": {
            rule.id: {"title": rule.title, "why": rule.why, "instead": rule.instead}
            for rule in RULES.values()
            if any(fault.rule == rule.id for fault in audit.faults)
        },
        "findings": [
            {
                "rule": fault.rule,
                **_place(fault.spot),
                "message": fault.message,
                "related": [_place(spot) for spot in fault.related],
            }
            for fault in audit.faults
        ],
    }


def github_lines(audit: CodeAudit) -> Iterator[str]:
    """Write workflow commands that GitHub shows beside the lines of a pull request."""
    for fault in audit.faults:
        properties = {"file": fault.spot.path, "line": fault.spot.line, "col": fault.spot.column, "title": fault.rule}
        named = ",".join(f"{name}={_escaped(str(value), ',:')}" for name, value in properties.items())
        yield f"::warning {named}::{_escaped(f'{fault.message}. {RULES[fault.rule].instead}', '')}"


def _escaped(text: str, further: str) -> str:
    return "".join(f"%{ord(char):02X}" if char in f"%\r\n{further}" else char for char in text)


def _paragraph(lead: str, text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=f"  {lead}", subsequent_indent="  " + " " * len(lead))


def _line(fault: Fault) -> str:
    return f"  {_shown(str(fault.spot))}: {fault.rule} {_shown(fault.message)}"


def _shown(text: str) -> str:
    return inert(text, _CHARS_MAX)


def _first(not_parsed: dict[str, str]) -> list[tuple[str, str]]:
    return list(not_parsed.items())[:_NOT_PARSED_SHOWN]


def _place(spot: Spot) -> dict[str, Any]:
    return {"path": spot.path, "line": spot.line, "column": spot.column}


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
