"""`session-exporter forward`: from the journal of a host or pod to Redis."""

import asyncio
from pathlib import Path

import click

from session_exporter.config import load
from session_exporter.errors import SessionExporterError
from session_exporter.journal import find_directory

_FILE = click.Path(path_type=Path)
_LEVELS = click.Choice(["debug", "info", "warning", "error"], case_sensitive=False)
_EXAMPLES = """\b
Examples:
  session-exporter forward --config.file sessions.yml --journal.directory /run/session-exporter
  session-exporter forward --config.file sessions.yml --stop.outlive-workers
"""


class ExtraMissing(SessionExporterError):
    """A library that only some commands need is not installed."""


@click.command(epilog=_EXAMPLES)
@click.option("--config.file", "config_file", type=_FILE, required=True, help="The configuration.")
@click.option(
    "--web.listen-address",
    "listen_addresses",
    multiple=True,
    default=(":9897",),
    show_default=True,
    help="HOST:PORT to listen on; may be given several times, port 0 takes a free one.",
)
@click.option("--web.telemetry-path", "telemetry_path", default="/metrics", show_default=True)
@click.option(
    "--journal.directory",
    "journal_directory",
    type=_FILE,
    help="Where the application's workers write [default: $SESSION_EXPORTER_DIR, the configuration, a usual place].",
)
@click.option("--state.directory", "state_directory", type=_FILE, help="Where its own counts are kept.")
@click.option(
    "--stop.outlive-workers",
    "outlive_workers",
    is_flag=True,
    help="When told to stop, go on until the workers have ended: for pods whose containers are all stopped at once.",
)
@click.option("--log.level", "log_level", type=_LEVELS, default="info", show_default=True)
@click.option("--log.format", "log_format", type=click.Choice(["logfmt", "json"]), default="logfmt", show_default=True)
def forward(
    *,
    config_file: Path,
    listen_addresses: tuple[str, ...],
    telemetry_path: str,
    journal_directory: Path | None,
    state_directory: Path | None,
    outlive_workers: bool,
    log_level: str,
    log_format: str,
) -> None:
    """Send the events of a host or pod to Redis, where others count them.

    The configuration needs stream.url (or stream.url_file) and privacy.key_file, the same in the whole fleet: of ids
    only digests under that key are sent. Events are kept on disk until those who count have committed them; while
    Redis is away they wait there, within the limits of the journal.

    SIGTERM sends what is left, for at most 20 seconds, and ends.

    Exit code 2 when something is wrong with the configuration, or Redis refuses: the password, its permissions, or
    another key or number of partitions than the rest of the fleet has.
    """
    try:
        from session_exporter.sidecar import forwarding, logs, state  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ExtraMissing(
            f"{error.name} is missing; expected: pip install 'session-exporter[sidecar,redis]'"
        ) from error

    logs.configure(log_level, log_format)
    config = load(config_file)
    options = forwarding.ForwardOptions(
        load=lambda: load(config_file),
        journal_directory=find_directory(journal_directory, configured=config.journal.directory),
        state_directory=(state_directory or config.state.directory or state.default_directory()).absolute(),
        listen_addresses=list(listen_addresses),
        telemetry_path=telemetry_path,
        outlive_workers=outlive_workers,
    )
    asyncio.run(forwarding.run(options, config))
