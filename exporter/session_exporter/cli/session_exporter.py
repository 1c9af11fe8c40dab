"""session-exporter: the sidecar, and what helps to set it up."""

import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import click

from session_exporter._version import __version__
from session_exporter.cli.audit import audit
from session_exporter.cli.forward import forward
from session_exporter.cli.plain import encodable, inert_lines
from session_exporter.config import Config, load
from session_exporter.errors import SessionExporterError
from session_exporter.journal import find_directory
from session_exporter.quantities import parse_ranges

DEFAULT_LISTEN_ADDRESS: Final = ":9897"
# Wrong arguments, a wrong configuration, or something the start needs and cannot have.
EXIT_UNUSABLE: Final = 2

_SERVE_EXAMPLES: Final = """\b
Examples:
  session-exporter --config.file sessions.yml
  session-exporter serve --config.file sessions.yml --source=stream --stream.partitions=0-7
"""

_TAIL_EXAMPLES: Final = """\b
Examples:
  session-exporter tail --follow | grep context_lost
  session-exporter tail --judged --json | jq 'select(.cause == "cross_worker")'
"""

_RUN_EXAMPLES: Final = """\b
Examples:
  session-exporter run --config.file sessions.yml -- gunicorn -w 4 app:app
  session-exporter run --config.file sessions.yml -- python -m app
"""

_FILE = click.Path(path_type=Path)
_LEVELS = click.Choice(["debug", "info", "warning", "error"], case_sensitive=False)

logger = logging.getLogger("session_exporter")


class Unusable(click.ClickException):
    """The command cannot do its work; the message says what stands in its way."""

    exit_code = EXIT_UNUSABLE

    def show(self, file: Any = None) -> None:
        """Print the message, all its lines."""
        click.echo(f"session-exporter: {self.message}", file=file or sys.stderr)


class _ServeByDefault(click.Group):
    """A group whose first command may be left out: `session-exporter --config.file F` serves."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `serve` in front of options that are its own."""
        if not args or (args[0].startswith("-") and args[0] not in {"--help", "-h", "--version"}):
            args = ["serve", *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what was raised on purpose becomes a message and exit code 2."""
        try:
            return super().invoke(ctx)
        except SessionExporterError as error:
            raise Unusable(str(error)) from error


@click.group(cls=_ServeByDefault, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="session-exporter")
def main() -> None:
    """Count session creates, reuses, losses and races, and expose them to Prometheus."""


main.add_command(audit)
main.add_command(forward)

_config_file = click.option(
    "--config.file", "config_file", type=_FILE, help="The configuration; built-in defaults without."
)
_journal_directory = click.option(
    "--journal.directory",
    "journal_directory",
    type=_FILE,
    help="Where the application's workers write [default: $SESSION_EXPORTER_DIR, the configuration, a usual place].",
)


def _ranges(_context: click.Context, _option: click.Parameter, value: str | None) -> frozenset[int] | None:
    try:
        return None if value is None else parse_ranges(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: {error}") from error


@main.command(epilog=_SERVE_EXAMPLES)
@_config_file
@click.option(
    "--source",
    type=click.Choice(["journal", "stream"]),
    default="journal",
    show_default=True,
    help="What to count: what the workers of this host or pod write, or what the forwarders of many send to Redis.",
)
@click.option(
    "--stream.partitions",
    "partitions",
    metavar="RANGES",
    callback=_ranges,
    help="With --source=stream: the partitions to count, such as 0-7,9 [default: all].",
)
@click.option(
    "--web.listen-address",
    "listen_addresses",
    multiple=True,
    default=(DEFAULT_LISTEN_ADDRESS,),
    show_default=True,
    help="HOST:PORT to listen on; may be given several times, port 0 takes a free one.",
)
@click.option("--web.telemetry-path", "telemetry_path", default="/metrics", show_default=True)
@click.option("--web.enable-lifecycle", "enable_lifecycle", is_flag=True, help="Allow POST /-/reload and /-/quit.")
@_journal_directory
@click.option("--state.directory", "state_directory", type=_FILE, help="Where counts and sessions are kept.")
@click.option("--log.level", "log_level", type=_LEVELS, default="info", show_default=True)
@click.option("--log.format", "log_format", type=click.Choice(["logfmt", "json"]), default="logfmt", show_default=True)
def serve(
    *,
    config_file: Path | None,
    source: Literal["journal", "stream"],
    partitions: frozenset[int] | None,
    listen_addresses: tuple[str, ...],
    telemetry_path: str,
    enable_lifecycle: bool,
    journal_directory: Path | None,
    state_directory: Path | None,
    log_level: str,
    log_format: str,
) -> None:
    """Run the sidecar (the default command).

    With --source=stream it counts its share of what the forwarders of a whole fleet send (session-exporter forward):
    exactly one process for each partition, each with its own state. The configuration needs stream.url (or
    stream.url_file) and privacy.key_file, the same in the whole fleet.

    Exit code 2 when something that is needed cannot be had, and when another process counts one of its partitions.
    """
    if source == "journal" and partitions is not None:
        raise click.UsageError("--stream.partitions: expected only with --source=stream")
    if source == "stream" and journal_directory is not None:
        raise click.UsageError("--journal.directory: expected only with --source=journal; a stream is read from Redis")
    if source == "stream" and config_file is None:
        needed = "stream.url (or stream.url_file) and privacy.key_file"
        raise click.UsageError(f"--config.file: expected with --source=stream: a file with {needed}")
    try:
        from session_exporter.sidecar import daemon, logs, state  # noqa: PLC0415 - an extra

        if source == "stream":
            import redis  # noqa: F401, PLC0415 - another
    except ImportError as error:
        extras = "sidecar" if source == "journal" else "sidecar,redis"
        raise Unusable(f"{error.name} is missing; expected: pip install 'session-exporter[{extras}]'") from error

    logs.configure(log_level, log_format)
    config = _loader(config_file)()
    options = daemon.Options(
        load=_loader(config_file),
        journal_directory=(
            find_directory(journal_directory, configured=config.journal.directory) if source == "journal" else None
        ),
        state_directory=(state_directory or config.state.directory or state.default_directory()).absolute(),
        listen_addresses=list(listen_addresses),
        telemetry_path=telemetry_path,
        enable_lifecycle=enable_lifecycle,
        partitions=partitions,
    )
    asyncio.run(daemon.run(options, config))


@main.command("check-config")
@click.argument("file", type=_FILE)
@click.option(
    "--import", "import_calls", is_flag=True, help="Import the application's modules, and find its functions."
)
def check_config(*, file: Path, import_calls: bool) -> None:
    """Check a configuration file and print what it means.

    The defaults are included, and what would be hooked.

    Exit code 2 when the file is wrong; with --import also when a function that it names is missing, or has no such
    parameter.
    """
    from session_exporter.cli import check_config as checking  # noqa: PLC0415 - only this command needs it

    config = load(file)
    click.echo(f"{file}: correct\n")
    explanation = checking.explain(config, import_calls=import_calls)
    for line in explanation.lines:
        click.echo(encodable(inert_lines(line), getattr(sys.stdout, "encoding", None)))
    if explanation.problems:
        raise Unusable("\n".join(f"{file}: {problem}" for problem in explanation.problems))


@main.command(epilog=_TAIL_EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line; the keys are in docs/tail.md.")
@click.option("--follow", "-f", is_flag=True, help="Go on until Ctrl-C, SIGTERM, or the pipe is closed.")
@click.option("--judged", is_flag=True, help="What the ledger makes of the events, with the configured rules.")
@click.option("--show-ids", is_flag=True, help="Ids as they are; without, the pseudonyms that the sidecar shows.")
@_journal_directory
@click.option("--state.directory", "state_directory", type=_FILE, help="Where the key of the pseudonyms is.")
@_config_file
def tail(
    *,
    as_json: bool,
    follow: bool,
    judged: bool,
    show_ids: bool,
    journal_directory: Path | None,
    state_directory: Path | None,
    config_file: Path | None,
) -> None:
    """Print what the application's workers record.

    Does the instrumentation work? One line an event: time (UTC), kind, scope, session, user, then what else is known:
    request, trace, worker (pid@replica), the application's nearest call site. "-" is what is not known.

    With --judged, one line a verdict: create, reuse, adopted, attributed, lookup, redundant_lookup, end,
    rapid_duplicate_create, context_loss, rotation, stale_expected, conflict, create_failure, violation, invalid_id,
    id_mismatch. A verdict waits until nothing can come before it any more (`lateness`, 2s).

    It only reads, and may run beside a sidecar. The journal holds what is recent: what the sidecar has read and
    deleted is not shown, and --judged knows nothing of it.

    Exit code 2 when no worker has written; with --follow it waits for one.
    """
    from session_exporter.cli import tail as tailed  # noqa: PLC0415 - only this command needs a ledger
    from session_exporter.sidecar.state import default_directory  # noqa: PLC0415

    config = _loader(config_file)()
    options = tailed.TailOptions(
        journal_directory=find_directory(journal_directory, configured=config.journal.directory),
        state_directory=state_directory or config.state.directory or default_directory(),
        config=config,
        as_json=as_json,
        follow=follow,
        judged=judged,
        show_ids=show_ids,
    )
    tailed.run_tail(options, sys.stdout, _say)


@main.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}, epilog=_RUN_EXAMPLES)
@click.option("--config.file", "config_file", type=_FILE, required=True, envvar="SESSION_EXPORTER_CONFIG_FILE")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(*, config_file: Path, command: tuple[str, ...]) -> None:
    """Run a Python program with the hooks of a configuration.

    The command becomes the program: the process id, the signals and the exit code are its own. Its forks and every
    Python program that it starts have the hooks as well, in other virtual environments if this package is installed
    there. Interpreters that ignore the environment (python -I, -E, -S) cannot be reached.

    Exit code 2 when the configuration is wrong, 127 when there is no such program, 126 when it cannot be executed.
    """
    from session_exporter.cli import run as running  # noqa: PLC0415 - only this command needs the hooks

    config = load(config_file)
    try:
        running.run_program(command, config_file, config)
    except running.NotStarted as error:
        _say(str(error))
        sys.exit(error.exit_code)


@main.command()
@click.option("--fixed", is_flag=True, help="Run the application with its race repaired.")
@click.option("--serve", "keep_serving", is_flag=True, help="Keep application and sidecar running until Ctrl-C.")
@click.option(
    "--seconds", type=click.FloatRange(1.0, 600.0), default=4.0, show_default=True, help="How long its users chat."
)
@click.option("--web.listen-address", "listen", help="HOST:PORT of the sidecar [default: a free port of 127.0.0.1].")
def demo(*, fixed: bool, keep_serving: bool, seconds: float, listen: str | None) -> None:
    """Show the race, in a small chat application.

    It is run beside a sidecar. Exit code 0 when all was found as promised.
    """
    try:
        from session_exporter.demo.run import run_demo  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise Unusable(f"{error.name} is missing; expected: pip install 'session-exporter[sidecar]'") from error

    sys.exit(run_demo(fixed=fixed, serve=keep_serving, seconds=seconds, listen=listen, out=sys.stdout))


def _loader(config_file: Path | None) -> Callable[[], Config]:
    return lambda: load(config_file) if config_file is not None else Config()


def _say(note: str) -> None:
    click.echo(f"session-exporter: {encodable(inert_lines(note), getattr(sys.stderr, 'encoding', None))}", err=True)
