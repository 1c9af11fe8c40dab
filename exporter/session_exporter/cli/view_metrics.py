"""view-metrics: what the on-call person types.

Exit code 0: healthy, 1: unhealthy, 2: it cannot be told (no traffic, no sidecar, no state, wrong arguments). Anything
that goes wrong is 2 as well: whoever pages on 1 shall be paged by sessions only.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import click

from session_exporter._version import __version__
from session_exporter.cli.asking import (
    HOUR_S,
    LIMIT_MAX,
    Asked,
    CannotTell,
    emit,
    marks,
    question_of,
    read_interval,
    shared_options,
)
from session_exporter.cli.incident_commands import explain, explaining, incidents
from session_exporter.cli.lookups import lookup_report
from session_exporter.cli.plain import inert_lines
from session_exporter.cli.reconcile import reconcile
from session_exporter.cli.report import report
from session_exporter.cli.watch import CANNOT_TELL, NEWEST, Reading, View, look, newest_of, watch
from session_exporter.errors import SessionExporterError

# What a shell reports of a process that SIGINT ended: 128 + 2.
_INTERRUPTED: Final = 130


class _Commands(click.Group):
    """Translates what was raised on purpose, and keeps what was not from looking like a judgement."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; see the module's text for the exit codes."""
        try:
            return super().invoke(ctx)
        except SessionExporterError as exc:
            raise CannotTell(str(exc)) from exc
        except KeyboardInterrupt:
            ctx.exit(_INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception:  # noqa: BLE001 - an uncaught one would exit with 1, which says "unhealthy"
            traceback.print_exc()
            ctx.exit(CANNOT_TELL)


@click.group(cls=_Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@shared_options
@click.option("--watch", "is_watch", is_flag=True, help="Look again and again, until Ctrl-C.")
@click.option(
    "--interval", default="2s", show_default=True, metavar="SPAN", callback=read_interval, help="With --watch."
)
@click.version_option(__version__, message="%(prog)s, version %(version)s")
@click.pass_context
def main(ctx: click.Context, /, *, is_watch: bool, interval: float, **shared: Any) -> None:
    """Judge how sessions were kept in the last hour.

    Asks the sidecar, or reads the state it left behind; or asks a Prometheus, about all sidecars that it scrapes.
    Exit code 0: healthy, 1: unhealthy, 2: cannot tell.
    """
    ctx.obj = asked = Asked(**shared)
    if ctx.invoked_subcommand is not None:
        if is_watch:
            raise click.UsageError(f"--watch does not go with {ctx.invoked_subcommand}")
        return
    ctx.exit(_watched(asked, interval) if is_watch else _judged(asked))


main.add_command(incidents)
main.add_command(explain)
main.add_command(reconcile)


def _judged(asked: Asked) -> int:
    source, question = asked.source(), question_of(asked, HOUR_S)
    reading = look(source, question, newest=0)
    if reading.summary.healthy is False and not asked.as_json and asked.prometheus is None:
        with suppress(SessionExporterError):  # a hint, without which the judgement stands
            reading = replace(reading, incidents=newest_of(source, question, 1))
    view = View(reading)
    with suppress(BrokenPipeError):
        _show(view, asked, indent=2)
    return view.exit_code


def _show(view: View, asked: Asked, *, indent: int | None = None) -> None:
    """Print one view as text or, with --json, as the document itself: indented, or on one line."""
    if view.failure or view.reading is None:
        emit(f"{marks().unknown} No sidecar: {inert_lines(view.failure)}", err=asked.as_json is True)
        return
    if view.reading.note:
        emit(f"note: {view.reading.note}", err=True)
    emit(_text(view.reading, asked, indent))


def _text(reading: Reading, asked: Asked, indent: int | None) -> str:
    if asked.as_json:
        return json.dumps(reading.document, indent=indent)
    newest = [explaining(asked, each.id) for each in reading.incidents[:1]]
    return report(
        reading.document,
        marks=marks(),
        source=asked.arguments(),
        details=asked.details(reading.summary),
        newest=newest[0] if newest else (),
    )


def _watched(asked: Asked, interval_s: float) -> int:
    source, question = asked.source("history to watch"), question_of(asked, HOUR_S)
    if asked.as_json or not _is_drawable():
        return watch(lambda: look(source, question, newest=0), _printer(asked), interval_s=interval_s)
    live = _live()
    with live(sys.stdout, marks()) as draw:
        return watch(lambda: look(source, question, newest=NEWEST), draw, interval_s=interval_s)


def _is_drawable() -> bool:
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def _live() -> Callable[..., Any]:
    try:
        from session_exporter.cli.panel import live  # noqa: PLC0415 - rich is for this alone
    except ImportError as exc:
        raise CannotTell(f"--watch needs rich ({exc}): pip install 'session-exporter[sidecar]'") from exc
    return live


def _printer(asked: Asked) -> Callable[[View], None]:
    """Prints one report after the other, with a blank line between them; documents go one to a line."""
    separators = iter(("",))

    def show(view: View) -> None:
        if next(separators, None) is None and not asked.as_json:
            emit("")
        _show(view, asked)

    return show


@main.command()
@shared_options
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=10, show_default=True, help="So many places each.")
@click.pass_context
def lookups(ctx: click.Context, /, *, limit: int, **shared: Any) -> None:
    """Rank the places that look a session up again.

    Lookups in a request that has its session already are the race before it bites. Compares the last hour with the
    one before. Exit code 0 when it could be asked; 2 otherwise.
    """
    asked = Asked(**shared).over(ctx.obj)
    answer = asked.source("call sites of lookups").lookups(question_of(asked, HOUR_S, limit=limit))
    text = lookup_report(answer.document)
    with suppress(BrokenPipeError):
        if answer.note:
            emit(f"note: {answer.note}", err=True)
        emit(json.dumps(answer.document, indent=2) if asked.as_json else text)


if __name__ == "__main__":
    main()
