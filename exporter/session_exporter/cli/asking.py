"""What the commands of view-metrics share: who is asked, what about, and how an answer is printed."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import click

from session_exporter.cli.client import DEFAULT_URL, Sidecar
from session_exporter.cli.documents import Summary
from session_exporter.cli.plain import Marks, encodable, inert_lines, marks_for
from session_exporter.cli.prometheus import Prometheus
from session_exporter.cli.prometheus_queries import read_matchers
from session_exporter.cli.source import AnySource, DocumentSource, Question
from session_exporter.cli.watch import CANNOT_TELL
from session_exporter.quantities import parse_duration

LIMIT_MAX: Final = 1000
HOUR_S: Final = 3600.0
DAY_S: Final = 86_400.0
_Command = TypeVar("_Command", bound=Callable[..., None])


class CannotTell(click.ClickException):
    """There is no judgement; the message says why."""

    exit_code = CANNOT_TELL

    def format_message(self) -> str:
        """The message, as far as the terminal can show it."""
        return encodable(inert_lines(self.message), getattr(sys.stderr, "encoding", None))


@dataclass(frozen=True, slots=True)
class Asked:
    """The options that the group and its commands share; None when not given."""

    since: float | None
    scope: str | None
    url: Sidecar | None
    config_file: Path | None
    state_directory: Path | None
    as_json: bool | None
    prometheus: Prometheus | None = None
    selector: str | None = None

    def over(self, outer: Self) -> Self:
        """Fill in what was given before the command's name."""
        pairs = {field.name: (getattr(self, field.name), getattr(outer, field.name)) for field in fields(self)}
        return type(self)(**{name: given if own is None else own for name, (own, given) in pairs.items()})

    def source(self, subject: str = "") -> AnySource:
        """Who is asked: what was named; else the sidecar at the default address, and then the state.

        Args:
            subject: What is asked for that a Prometheus cannot tell; `""` for a summary.

        Raises:
            click.UsageError: The options contradict each other.
        """
        if self.prometheus is not None:
            return self._fleet(self.prometheus, subject)
        if self.selector is not None:
            raise click.UsageError("--selector goes with --prometheus")
        if self.url is not None:
            return DocumentSource(self.url, is_only=True)
        if self.state_directory is not None:
            return DocumentSource(None, state_directory=self.state_directory)
        return DocumentSource(config_file=self.config_file)

    def _fleet(self, prometheus: Prometheus, subject: str) -> AnySource:
        others = [name for name, value in (("--url", self.url), ("--state.directory", self.state_directory)) if value]
        if others:
            raise click.UsageError(f"--prometheus does not go with {others[0]}: whom to ask?")
        if subject:
            raise click.UsageError(f"--prometheus has counts alone, and no {subject}: ask a sidecar, with --url")
        from session_exporter.cli.prometheus_document import FleetSource  # noqa: PLC0415 - the sidecar's rules

        return FleetSource(prometheus, self.selector or "", self.config_file)

    def details(self, summary: Summary) -> list[str] | None:
        """Who can tell more than a summary, as arguments; None for the source itself, empty when nobody is known."""
        if self.prometheus is None:
            return None
        found = [["--url", f"http://{address}"] for address in summary.exporter.troubled][:1]
        chosen = [] if self.scope is None else ["--scope", self.scope]
        return [*chosen, *found[0]] if found else []

    def arguments(self) -> list[str]:
        """What to type to ask the same source about the same scope again; without passwords."""
        given = {
            "--scope": self.scope,
            "--url": self.url and self.url.base_url,
            "--prometheus": self.prometheus and self.prometheus.base_url,
            "--selector": self.selector,
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


def read_interval(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    """Read how often to look again, seconds."""
    # A bare number is seconds here, as people know it from watch(1).
    return _duration(f"{value}s" if value.isdecimal() else value, "100ms", "1h")


def _sidecar(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Sidecar | None:
    try:
        return None if value is None else Sidecar.at(value)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc


def _prometheus(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Prometheus | None:
    try:
        return None if value is None else Prometheus.at(value)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc


def _selector(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else read_matchers(value)
    except ValueError as exc:
        raise click.BadParameter(f"{value!r}: {exc}") from exc


_FILE: Final = click.Path(path_type=Path, dir_okay=False, exists=True)
_DIRECTORY: Final = click.Path(path_type=Path, file_okay=False)
_SHARED: Final = (
    click.option("--since", metavar="SPAN", callback=_since, help="How far back: 90s, 1h, 7d."),
    click.option("--scope", metavar="NAME", help="This kind of session only."),
    click.option("--url", metavar="URL", callback=_sidecar, help=f"Ask this sidecar only. [default: {DEFAULT_URL}]"),
    click.option("--prometheus", metavar="URL", callback=_prometheus, help="Judge all that this Prometheus scrapes."),
    click.option("--selector", metavar="MATCHERS", callback=_selector, help="With --prometheus: 'cluster=\"eu\"'."),
    click.option(
        "--config.file",
        "config_file",
        type=_FILE,
        help="Names the state to read when no sidecar answers; with --prometheus: the ratios to reach.",
    ),
    click.option("--state.directory", "state_directory", type=_DIRECTORY, help="Read this state; ask no sidecar."),
    click.option("--json", "as_json", is_flag=True, default=None, help="Print the document itself."),
)


def shared_options(command: _Command) -> _Command:
    """Give a command the options that all of them have."""
    for option in reversed(_SHARED):
        command = option(command)
    return command


def question_of(asked: Asked, default_since_s: float, **filters: Any) -> Question:
    """What is asked for, over the span that was given or the default one."""
    return Question(default_since_s if asked.since is None else asked.since, asked.scope, **filters)


def marks() -> Marks:
    """The marks that standard output can show."""
    return marks_for(getattr(sys.stdout, "encoding", None), os.environ)


def emit(text: str, *, err: bool = False) -> None:
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
