"""`session-exporter audit db`: one look at the sessions that a database has, with nothing installed."""

import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from session_exporter.cli.asking import emit, marks
from session_exporter.cli.audit_report import audit_text
from session_exporter.config import Config, load
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.scopes import DEFAULT_SCOPE, ScopeRules
from session_exporter.errors import ConfigError
from session_exporter.mappings import TableMapping, value_texts
from session_exporter.quantities import parse_duration

EXIT_FOUND: Final = 1
EXIT_CANNOT_TELL: Final = 2
_KEY_BYTES: Final = 32
_SPAN_US_MIN: Final = 1_000
_FILE: Final = click.Path(path_type=Path)
_WORDS: Final[dict[str, object]] = {"null": None, "true": True, "false": False}
_EXAMPLES: Final = """\b
Examples:
  session-exporter audit db --url '${DATABASE_URL}' --config.file sessions.yml
  session-exporter audit db --url postgresql://reader@db/app \\
    --table conversations --user user_id --created-at created_at \\
    --active status=active --end-reason ended_reason
"""


def _span(_context: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    try:
        span_us = None if value is None else parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: {error}") from error
    if span_us is not None and span_us < _SPAN_US_MIN:
        raise click.BadParameter(f"{value!r}: expected at least 1ms")
    return span_us


@click.command(epilog=_EXAMPLES)
@click.option("--url", default="", metavar="URL", help="Of the database, as SQLAlchemy has it; '${VARIABLE}' allowed.")
@click.option("--url-file", type=_FILE, help="A file that holds the URL instead.")
@click.option("--config.file", "config_file", type=_FILE, help="Its tables: and scopes: say what the columns mean.")
@click.option("--table", metavar="NAME", help="This table only; without --config.file, the one to audit.")
@click.option(
    "--id", "ids", multiple=True, metavar="COLUMN", help="Of the session's id; may be repeated [default: id]."
)
@click.option("--user", metavar="COLUMN", help="Of the user's id.")
@click.option("--key", "keys", multiple=True, metavar="COLUMN", help="Of device, app or thread; may be repeated.")
@click.option("--created-at", metavar="COLUMN", help="When the session was created.")
@click.option("--updated-at", metavar="COLUMN", help="When it was changed.")
@click.option("--active", multiple=True, metavar="COLUMN=VALUE", help="An active session has this; may be repeated.")
@click.option("--end-reason", metavar="COLUMN", help="Why it ended.")
@click.option("--duplicate-window", callback=_span, metavar="SPAN", help="[default: 10s]")
@click.option("--since", callback=_span, metavar="SPAN", help="How far back the history goes: 90d [default: all].")
@click.option("--timeout", callback=_span, default="60s", show_default=True, metavar="SPAN", help="For each statement.")
@click.option("--show-ids", is_flag=True, help="Ids as they are; without, pseudonyms.")
@click.option("--json", "as_json", is_flag=True, help="Print the document itself.")
def db(
    *,
    url: str,
    url_file: Path | None,
    config_file: Path | None,
    table: str | None,
    since: int | None,
    timeout: int,
    show_ids: bool,
    as_json: bool,
    **columns: Any,
) -> None:
    """Audit the sessions that a database has.

    Who has several active sessions now, what was created twice within seconds, and since when; whether an index
    refuses it; and the SQL that cleans up and makes it so, printed for you to run. PostgreSQL and SQLite.

    It only reads, in transactions of their own, and keeps nothing. Which column means what is said by a configuration,
    or by options: --table, --id, --user and so on.

    Exit code 0 when nothing was found, 1 when something was, 2 when it cannot be told.
    """
    config = load(config_file) if config_file is not None else Config()
    given = {name: value for name, value in columns.items() if value}
    if config_file is not None and given:
        raise click.UsageError(f"--{min(given).replace('_', '-')}: expected only without --config.file, which says so")
    tables = _configured(config, table) if config_file is not None else [_described(table, given)]
    names = Pseudonyms(_key(config), show_ids=show_ids or config.privacy.show_ids)
    # It says what to install where SQLAlchemy is missing.
    from session_exporter.watch import address, clock, database  # noqa: PLC0415 - an extra

    from session_exporter.audit.database import auditing, document  # noqa: PLC0415 - likewise  # isort: skip

    where = address.database_url(url, url_file, os.environ, "--url")
    source = database.Database(where, statement_timeout_s=timeout / 1e6)
    try:
        with source.reading() as connection:
            at_us = clock.now_us(connection)
        since_us = None if since is None else at_us - since
        audits = auditing.audit_tables(source, tables, since_us=since_us)
    finally:
        source.close()
    written = document.AuditWriter(names).document(audits, address=source.address, at_us=at_us, since_us=since_us)
    emit(msgspec.json.encode(written).decode() if as_json else audit_text(written, marks()))
    sys.exit(EXIT_FOUND if written["found"] else 0 if written["complete"] else EXIT_CANNOT_TELL)


def _configured(config: Config, table: str | None) -> list[tuple[TableMapping, ScopeRules]]:
    found = [(each, config.scopes[each.scope]) for each in config.tables if table in {None, each.table}]
    if not found:
        names = ", ".join(each.table for each in config.tables) or "none"
        raise ConfigError(f"--table: {table}: the configuration has: {names}" if table else "tables: none to audit")
    return found


def _described(table: str | None, given: dict[str, Any]) -> tuple[TableMapping, ScopeRules]:
    if not table:
        raise click.UsageError("--config.file, --table: expected one of them: which tables keep sessions?")
    try:
        mapping = TableMapping(
            table,
            id=given.get("ids", ("id",)),
            user=given.get("user", ""),
            key=given.get("keys", ()),
            active=_active(given.get("active", ())),
            created_at=given.get("created_at", ""),
            updated_at=given.get("updated_at", ""),
            end_reason=given.get("end_reason", ""),
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    window_us = given.get("duplicate_window", ScopeRules().duplicate_window_us)
    return mapping, ScopeRules(DEFAULT_SCOPE, duplicate_window_us=window_us)


def _active(pairs: Sequence[str]) -> dict[str, frozenset[str]]:
    values: dict[str, list[object]] = {}
    for column, equals, value in (pair.partition("=") for pair in pairs):
        if not column or not equals:
            raise click.UsageError(f"--active: {column!r}: expected COLUMN=VALUE, such as status=active")
        values.setdefault(column, []).append(_WORDS.get(value.lower(), value))
    return {column: value_texts(each) for column, each in values.items()}


def _key(config: Config) -> bytes:
    """The key that the fleet shares, where there is one; else this run's own."""
    if config.privacy.key_file is None:
        return secrets.token_bytes(_KEY_BYTES)
    from session_exporter.sidecar.secrets import read_key  # noqa: PLC0415 - only a fleet has one

    return read_key(Path(), config.privacy.key_file)
