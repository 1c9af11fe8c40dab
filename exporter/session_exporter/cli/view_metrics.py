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
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import click

from session_exporter._version import __version__
from session_exporter.cli.client import DEFAULT_URL, Sidecar
from session_exporter.cli.documents import incidents_of
from session_exporter.cli.lookups import lookup_report
from session_exporter.cli.plain import Marks, encodable, inert_lines, marks_for, window_text
from session_exporter.cli.report import report
from session_exporter.cli.source import DocumentSource, Question
from session_exporter.cli.stories import stories
from session_exporter.cli.watch import CANNOT_TELL, NEWEST, Reading, View, look, watch
from session_exporter.core.scopes import CAUSES
from session_exporter.errors import SessionExporterError
from session_exporter.quantities import parse_duration

KINDS: Final = ("rapid_duplicate_create", "context_loss")
LIMIT_MAX: Final = 1000
_HOUR_S: Final = 3600.0
_DAY_S: Final = 86_400.0
# What a shell reports of a process that SIGINT ended: 128 + 2.
_INTERRUPTED: Final = 130
_Command = TypeVar("_Command", bound=Callable[..., None])


class CannotTell(click.ClickException):
    """There is no judgement; the message says why."""

    exit_code = CANNOT_TELL

    def format_message(self) -> str:
        """The message, as far as the terminal can show it."""
        return encodable(inert_lines(self.message), getattr(sys.stderr, "encoding", None))


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


@dataclass(frozen=True, slots=True)
class Asked:
    """The options that the group and its commands share; None when not given."""

    since: float | None
    scope: str | None
    url: Sidecar | None
    config_file: Path | None
    state_directory: Path | None
    as_json: bool | None

    def over(self, outer: Self) -> Self:
        """Fill in what was given before the command's name."""
        pairs = {field.name: (getattr(self, field.name), getattr(outer, field.name)) for field in fields(self)}
        return type(self)(**{name: given if own is None else own for name, (own, given) in pairs.items()})

    def source(self) -> DocumentSource:
        """Who is asked: what was named; else the sidecar at the default address, and then the state."""
        if self.url is not None:
            return DocumentSource(self.url, is_only=True)
        if self.state_directory is not None:
            return DocumentSource(None, state_directory=self.state_directory)
        return DocumentSource(config_file=self.config_file)

    def arguments(self) -> list[str]:
        """What to type to ask the same source about the same scope again; without passwords."""
        given = {
            "--scope": self.scope,
            "--url": self.url and self.url.base_url,
            "--config.file": self.config_file,
            "--state.directory": self.state_directory,
        }
        return [text for name, value in given.items() if value is not None for text in (name, str(value))]


def _duration(text: str, shortest: str, longest: str) -> float:
    """Read a duration, seconds; a usage error names the value and what was expected."""
    try:
        duration_us = parse_duration(text)
    except ValueError as exc:
        raise click.BadParameter(f"{text!r}: {exc}") from exc
    if not parse_duration(shortest) <= duration_us <= parse_duration(longest):
        raise click.BadParameter(f"{text!r}: expected {shortest} to {longest}")
    return duration_us / 1_000_000


def _since(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    return None if value is None else _duration(value, "1s", "31d")


def _interval(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    # A bare number is seconds here, as people know it from watch(1).
    return _duration(f"{value}s" if value.isdecimal() else value, "100ms", "1h")


def _sidecar(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Sidecar | None:
    try:
        return None if value is None else Sidecar.at(value)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc


_FILE: Final = click.Path(path_type=Path, dir_okay=False, exists=True)
_DIRECTORY: Final = click.Path(path_type=Path, file_okay=False)
_SHARED: Final = (
    click.option("--since", metavar="SPAN", callback=_since, help="How far back: 90s, 1h, 7d."),
    click.option("--scope", metavar="NAME", help="This kind of session only."),
    click.option("--url", metavar="URL", callback=_sidecar, help=f"Ask this sidecar only. [default: {DEFAULT_URL}]"),
    click.option("--config.file", "config_file", type=_FILE, help="Names the state to read when no sidecar answers."),
    click.option("--state.directory", "state_directory", type=_DIRECTORY, help="Read this state; ask no sidecar."),
    click.option("--json", "as_json", is_flag=True, default=None, help="Print the document itself."),
)


def _shared(command: _Command) -> _Command:
    for option in reversed(_SHARED):
        command = option(command)
    return command


@click.group(cls=_Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@_shared
@click.option("--watch", "is_watch", is_flag=True, help="Look again and again, until Ctrl-C.")
@click.option("--interval", default="2s", show_default=True, metavar="SPAN", callback=_interval, help="With --watch.")
@click.version_option(__version__, message="%(prog)s, version %(version)s")
@click.pass_context
def main(ctx: click.Context, /, *, is_watch: bool, interval: float, **shared: Any) -> None:
    """Judge how sessions were kept in the last hour.

    Asks the sidecar, or reads the state it left behind. Exit code 0: healthy, 1: unhealthy, 2: cannot tell.
    """
    ctx.obj = asked = Asked(**shared)
    if ctx.invoked_subcommand is not None:
        if is_watch:
            raise click.UsageError(f"--watch does not go with {ctx.invoked_subcommand}")
        return
    ctx.exit(_watched(asked, interval) if is_watch else _judged(asked))


def _question(asked: Asked, default_since_s: float, **filters: Any) -> Question:
    return Question(default_since_s if asked.since is None else asked.since, asked.scope, **filters)


def _judged(asked: Asked) -> int:
    view = View(look(asked.source(), _question(asked, _HOUR_S), newest=0))
    with suppress(BrokenPipeError):
        _show(view, asked, indent=2)
    return view.exit_code


def _show(view: View, asked: Asked, *, indent: int | None = None) -> None:
    """Print one view as text or, with --json, as the document itself: indented, or on one line."""
    if view.failure or view.reading is None:
        _emit(f"{_marks().unknown} No sidecar: {inert_lines(view.failure)}", err=asked.as_json is True)
        return
    if view.reading.note:
        _emit(f"note: {view.reading.note}", err=True)
    _emit(_text(view.reading, asked, indent))


def _text(reading: Reading, asked: Asked, indent: int | None) -> str:
    if asked.as_json:
        return json.dumps(reading.document, indent=indent)
    return report(reading.document, marks=_marks(), source=asked.arguments())


def _marks() -> Marks:
    return marks_for(getattr(sys.stdout, "encoding", None), os.environ)


def _emit(text: str, *, err: bool = False) -> None:
    """Print; when nobody reads any more (`| head`), say so once and keep the interpreter from complaining at its end.

    Raises:
        BrokenPipeError: Nobody reads any more.
    """
    stream = sys.stderr if err else sys.stdout
    try:
        click.echo(encodable(text, getattr(stream, "encoding", None)), err=err)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise


def _watched(asked: Asked, interval_s: float) -> int:
    source, question = asked.source(), _question(asked, _HOUR_S)
    if asked.as_json or not _is_drawable():
        return watch(lambda: look(source, question, newest=0), _printer(asked), interval_s=interval_s)
    live = _live()
    with live(sys.stdout, _marks()) as draw:
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
            _emit("")
        _show(view, asked)

    return show


@main.command()
@_shared
@click.option("--kind", type=click.Choice(KINDS), help="This kind only.")
@click.option("--cause", type=click.Choice(CAUSES), help="Duplicates of this cause only.")
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=20, show_default=True, help="The newest so many.")
@click.pass_context
def incidents(ctx: click.Context, /, *, kind: str | None, cause: str | None, limit: int, **shared: Any) -> None:
    """Tell the story of each duplicate and loss of the last day, newest first, with its call sites.

    Exit code 0 when it could be asked, also when there was none; 2 otherwise.
    """
    asked = Asked(**shared).over(ctx.obj)
    question = _question(asked, _DAY_S, kind=kind, cause=cause, limit=limit)
    answer = asked.source().incidents(question)
    none = f"No incidents in the last {window_text(question.since_s)}" if not incidents_of(answer.document) else ""
    with suppress(BrokenPipeError):
        if answer.note:
            _emit(f"note: {answer.note}", err=True)
        _emit(json.dumps(answer.document, indent=2) if asked.as_json else none or stories(answer.document))


@main.command()
@_shared
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=10, show_default=True, help="So many places each.")
@click.pass_context
def lookups(ctx: click.Context, /, *, limit: int, **shared: Any) -> None:
    """Rank the places that look a session up again in a request that has it: the race, before it bites.

    Compares the last hour with the one before. Exit code 0 when it could be asked; 2 otherwise.
    """
    asked = Asked(**shared).over(ctx.obj)
    answer = asked.source().lookups(_question(asked, _HOUR_S, limit=limit))
    text = lookup_report(answer.document)
    with suppress(BrokenPipeError):
        if answer.note:
            _emit(f"note: {answer.note}", err=True)
        _emit(json.dumps(answer.document, indent=2) if asked.as_json else text)


if __name__ == "__main__":
    main()
