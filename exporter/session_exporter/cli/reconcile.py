"""view-metrics reconcile: what hooks have told, beside what stands in the database."""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from textwrap import wrap
from typing import Any, Final

import click

from session_exporter.cli.asking import HOUR_S, Asked, emit, marks, question_of, shared_options
from session_exporter.cli.documents import Reconciliation, Summary, summary_of
from session_exporter.cli.plain import EMOJI, Marks, counted
from session_exporter.cli.stories import moment
from session_exporter.cli.watch import exit_code
from session_exporter.core.plaintext import inert
from session_exporter.core.storytelling import COLUMNS

_UNREPORTED: Final = (
    "in the database that no hook told of: something creates sessions where no hook looks, such as a function or a"
    " trigger of the database, another service, a job, or a way through the application that is not instrumented."
)
_MISSING: Final = (
    "that hooks told of and the database does not have: rows were deleted before they were looked for, or transactions"
    " rolled back behind the hooks, or the application writes to another database or table than the one that is read."
)
_NO_WATCH: Final = "No table of a database is read: name one under `watch` in the configuration of the sidecar."
_FLEET: Final = "Each consumer of a fleet reconciles the sessions of its own users: ask each one, with --url."


@click.command()
@shared_options
@click.pass_context
def reconcile(ctx: click.Context, /, **shared: Any) -> None:
    """Compare what hooks have told with what the database has.

    Counts all since the tables are read. Exit code 0: they agree, 1: they do not, 2: it cannot be told.
    """
    asked = Asked(**shared).over(ctx.obj)
    answer = asked.source("rows of a database").summary(question_of(asked, HOUR_S))
    summary = summary_of(answer.document)
    with suppress(BrokenPipeError):
        if answer.note:
            emit(f"note: {answer.note}", err=True)
        if asked.as_json:
            emit(json.dumps(reconciliation_document(answer.document, summary), indent=2))
        else:
            emit(reconcile_report(summary, marks=marks(), source=asked.arguments()))
    ctx.exit(exit_code(healthy=agreement(summary)))


def agreement(summary: Summary) -> bool | None:
    """Whether hooks and database agree in all that can be compared; None when that is nothing."""
    said = [each.agree for each in _compared(summary).values() if each.agree is not None]
    return all(said) if said else None


def reconciliation_document(document: Mapping[str, Any], summary: Summary) -> dict[str, Any]:
    """What `--json` prints: of a summary the part that reconciles, as it came."""
    return {
        "generated_at": document.get("generated_at", ""),
        "agree": agreement(summary),
        "scopes": {name: document["scopes"][name]["reconciliation"] for name in _compared(summary)},
    }


def reconcile_report(summary: Summary, *, marks: Marks = EMOJI, source: Sequence[str] = ()) -> str:
    """Write what reconciles as people read it: of each scope the figures, what they mean, and what to do next.

    Args:
        summary: As `/api/v1/summary` answers.
        marks: What the terminal can show.
        source: The arguments that say where it came from, repeated in the commands to type next.

    Returns:
        Lines, without a newline at the end.
    """
    blocks = [_scope(name, each, marks, source) for name, each in _compared(summary).items()]
    if not blocks:
        return f"{marks.unknown} {_NO_WATCH}"
    if summary.exporter.notes:
        blocks.append(["Note:", f"  {_FLEET}", *(f"  {inert(note)}" for note in summary.exporter.notes)])
    return "\n\n".join("\n".join(block) for block in blocks)


def _compared(summary: Summary) -> dict[str, Reconciliation]:
    found = {name: scope.reconciliation for name, scope in summary.scopes.items()}
    return {name: each for name, each in found.items() if each is not None}


def _scope(name: str, found: Reconciliation, marks: Marks, source: Sequence[str]) -> list[str]:
    rows = (
        ("Reported by hooks:", str(found.reported)),
        ("Found in the database:", str(found.found)),
        ("Seen by no hook:", str(found.unseen)),
        ("Difference:", f"{found.difference:+d}" if found.difference else "0"),
        ("Still waiting:", f"{found.waiting} found, {found.unread} reported"),
    )
    head = f"{inert(name)}: since {_time(found.since)}, read up to {_time(found.read_until)}"
    figures = [f"  {label:<24} {value}" for label, value in rows]
    return [head, *figures, *_verdict(name, found, marks, source)]


def _time(text: str | None) -> str:
    at = moment(text or "")
    return at.strftime("%Y-%m-%d %H:%M:%SZ") if at else "an unknown time"


def _verdict(name: str, found: Reconciliation, marks: Marks, source: Sequence[str]) -> Iterable[str]:
    if found.agree:
        yield f"  {marks.healthy} Hooks and database agree"
    elif found.agree is None:
        yield f"  {marks.unknown} {_untold(found)}"
    if found.unreported:
        yield from _wrapped(f"{marks.warning} {counted(found.unreported, 'session')} {_UNREPORTED}")
        yield f"     Look next: {_duplicates(name, source)}"
        yield "     and for what else writes to the table: wrap it, map it, or let it report"
    if found.missing:
        yield from _wrapped(f"{marks.warning} {counted(found.missing, 'session')} {_MISSING}")
        yield "     Look next: session-exporter check-config FILE: are these its tables, and its database?"


def _wrapped(text: str) -> list[str]:
    return wrap(text, COLUMNS, initial_indent="  ", subsequent_indent="     ", break_on_hyphens=False)


def _untold(found: Reconciliation) -> str:
    if found.reported or found.unreported:
        return "It cannot be told: the table was not read lately; see session_exporter_watch_up, and the sidecar's log"
    if found.found:
        return "It cannot be told: no hook tells of sessions of this scope; all there are were seen in the database"
    return "It cannot be told: there were no sessions yet"


def _duplicates(name: str, source: Sequence[str]) -> str:
    chosen = [] if "--scope" in source else ["--scope", name]
    command = ["view-metrics", "incidents", "--cause", "unobserved", "--since", "30d", *chosen, *source]
    return inert(shlex.join(command), 2000)
