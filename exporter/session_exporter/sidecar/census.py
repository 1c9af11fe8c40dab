"""What was counted in watched tables, as the state keeps it: figures for metrics, and incidents of duplicate users."""

from collections.abc import Callable, Collection, Iterable
from typing import Final

from session_exporter.core.ledger import Ledger
from session_exporter.sidecar.records import CountedTable, ExporterState
from session_exporter.watch.findings import Findings, place_of
from session_exporter.watch.twins import duplicate_user_incidents

# What a minute calls users who came to have several active sessions in it.
FOUND: Final = "duplicate_active_users"


def take_census(exporter: ExporterState, ledger: Ledger, findings: Findings) -> None:
    """Keep what a look has counted, if it has, and tell of new duplicate users; belongs to the thread of the engine.

    Args:
        exporter: To be committed with the ledger.
        ledger: Keeps the incidents.
        findings: Of one look at a table of a declared scope.
    """
    census, scope = findings.census, findings.scope
    if census is None:
        return
    place = place_of(findings.watch, findings.table, scope)
    before = exporter.census.get(place)
    incidents, twins = duplicate_user_incidents(census, scope, ledger.names, before.twins if before else ())
    exporter.census[place] = CountedTable(scope, census.at_us, census.active_rows, census.duplicate_users, twins)
    tally = ledger.judges[scope].tally
    for incident in incidents:
        tally.at(incident.at_us).add(FOUND)
        tally.incidents.append(incident)
        if ledger.trail is not None:
            ledger.trail.want(incident)


def forget_tables(exporter: ExporterState, watched: Collection[str]) -> None:
    """Forget what was counted in tables that are no longer watched; `watched` are `<watch>/<table>/<scope>`."""
    exporter.census = {place: counted for place, counted in exporter.census.items() if place in watched}


def active_rows(tables: Iterable[CountedTable]) -> dict[str, int]:
    """Active rows by scope; nothing of scopes whose tables do not say."""
    return _summed(tables, lambda table: table.active_rows)


def duplicate_users(tables: Iterable[CountedTable]) -> dict[str, int]:
    """Users with several active sessions by scope; nothing of scopes where that is no fault, or not to be told."""
    return _summed(tables, lambda table: table.duplicate_users)


def _summed(tables: Iterable[CountedTable], count: Callable[[CountedTable], int | None]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for table in tables:
        number = count(table)
        if number is not None:
            sums[table.scope] = sums.get(table.scope, 0) + number
    return sums
