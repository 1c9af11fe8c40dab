"""What would be watched, in a sentence for each database and table of a configuration."""

from collections.abc import Iterator

from session_exporter.config import Config
from session_exporter.core.scopes import ScopeRules
from session_exporter.mappings import TableMapping
from session_exporter.quantities import format_duration
from session_exporter.watchsettings import WatchSettings


def watched_lines(config: Config) -> Iterator[str]:
    """Say of every watch what it would do, and in lines that are indented of every table what it would read."""
    for number, watch in enumerate(config.watch):
        yield f"watch[{number}]: {watch_sentence(watch)}"
        for table in config.watched_tables(watch):
            yield f"  tables[{config.tables.index(table)}]: {read_sentence(table, config.scopes[table.scope])}"


def watch_sentence(watch: WatchSettings) -> str:
    """Say how often a database is asked."""
    interval, grace = format_duration(watch.interval_us), format_duration(watch.grace_us)
    return (
        f"{watch.name}: asked every {interval} for new rows; one that no hook has reported {grace} later is a create "
        "of its own"
    )


def read_sentence(table: TableMapping, rules: ScopeRules) -> str:
    """Say what is read of a table."""
    row = "a row" if table.rows == "sessions" else "the first row of an id"
    parts = (
        f"{table.table}: {row} is a create of scope {table.scope}, made at {table.created_at}",
        "" if table.user else "whose it is, and so duplicates, nobody knows: it has no user",
        *_changes(table),
        _census(table, rules),
    )
    return "; ".join(part for part in parts if part)


def _changes(table: TableMapping) -> tuple[str, ...]:
    if table.rows == "messages":
        return ("later ones are uses", "deletions are seen when ids are asked for in turn")
    ends = f"ends (by {' and '.join(table.active)})" if table.active else ""
    if table.updated_at:
        return (
            f"{' and '.join(part for part in ('uses', ends) if part)} are seen by {table.updated_at}",
            "deletions when ids are asked for in turn",
        )
    seen = " and ".join(part for part in (ends, "deletions") if part)
    return (f"{seen} are seen when ids are asked for in turn",)


def _census(table: TableMapping, rules: ScopeRules) -> str:
    if not table.active:
        return "active rows are not counted: it has no active"
    if not table.user or rules.sessions_per_user != "one":
        return "active rows are counted"
    return "active rows are counted, and users who have several"
