"""Where redundant lookups come from: kept by the hour in the state, ranked from it, whether or not a sidecar runs."""

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from session_exporter._version import __version__
from session_exporter.core.documents import iso
from session_exporter.core.lookups import (
    FIRSTS_KEPT,
    HOUR_ROWS_MAX,
    HOUR_US,
    NO_FIRST,
    OTHER,
    LookupCount,
    Pairs,
    Ranked,
    Sites,
    folded,
    ranked,
)
from session_exporter.core.minutes import MINUTE_US
from session_exporter.core.totals import LedgerTotals
from session_exporter.sidecar.records import read_meta
from session_exporter.sidecar.summary import reading, selected

# Of all scopes, apart from the newest hour: some 30 bytes each, and up to 800 for each place.
ROWS_MAX: Final = 100_000
_ENDLESS: Final = 2**62

_decode: Final = msgspec.json.Decoder(list[str]).decode


def store(connection: sqlite3.Connection, counts: Iterable[LookupCount]) -> None:
    """Add what a commit counted; to be called within its transaction."""
    counts = list(counts)
    connection.executemany(
        "INSERT OR IGNORE INTO places VALUES (?, ?)",
        {each.place: _encoded(each.sites) for each in counts if each.place != OTHER}.items(),
    )
    rows = ((each.hour, each.scope, each.place, each.first, each.lookups) for each in counts)
    connection.executemany(
        "INSERT INTO lookups VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET lookups = lookups + excluded.lookups",
        rows,
    )
    for hour, scope in {(each.hour, each.scope) for each in counts}:
        _fold(connection, hour, scope)


def forget(connection: sqlite3.Connection, before_us: int) -> None:
    """Forget the hours that were over before a time, and the oldest when there are too many rows."""
    gone = connection.execute("DELETE FROM lookups WHERE hour < ?", (before_us // HOUR_US,)).rowcount
    newest = "SELECT hour FROM lookups ORDER BY hour DESC LIMIT 1 OFFSET ?"
    gone += connection.execute(f"DELETE FROM lookups WHERE hour < ({newest})", (ROWS_MAX,)).rowcount  # noqa: S608 - stands above
    if gone:
        _forget_unused(connection)


def _forget_unused(connection: sqlite3.Connection) -> None:
    used = "SELECT place FROM lookups UNION SELECT first FROM lookups"
    connection.execute(f"DELETE FROM places WHERE number NOT IN ({used})")  # noqa: S608 - stands above


def _encoded(sites: Sites) -> str:
    """A JSON array; what is no Unicode, as in names that the file system cannot decode, is written out."""
    return msgspec.json.encode([each.encode("utf-8", "backslashreplace").decode() for each in sites]).decode()


def _fold(connection: sqlite3.Connection, hour: int, scope: str) -> None:
    """Leave the places that matter most when an hour has too many."""
    of_hour = "FROM lookups WHERE hour = ? AND scope = ?"
    if connection.execute(f"SELECT count(*) {of_hour}", (hour, scope)).fetchone()[0] <= HOUR_ROWS_MAX:
        return
    rows = connection.execute(f"SELECT place, first, lookups {of_hour}", (hour, scope))
    less = folded({(place, first): lookups for place, first, lookups in rows})
    connection.execute(f"DELETE {of_hour}", (hour, scope))
    connection.executemany(
        "INSERT INTO lookups VALUES (?, ?, ?, ?, ?)", ((hour, scope, *pair, lookups) for pair, lookups in less.items())
    )
    # Code that is made as it runs has other call sites every time.
    _forget_unused(connection)


def read_lookups(
    state_directory: Path, *, since_s: float, scope: str | None, limit: int, now_us: int
) -> dict[str, Any]:
    """Rank where sessions were looked up in the last `since_s` seconds, and compare with as long a time before.

    Lookups per request are counted by the minute, those of a place by the hour: the ranking covers all of the hour in
    which the window begins, and says so.

    Args:
        state_directory: Where the state is.
        since_s: How long the window is, seconds.
        scope: One scope, or None for all.
        limit: How many places are named of each scope.
        now_us: The end of the window, microseconds since the epoch.

    Raises:
        StateError: There is no state, or it cannot be read.
        KeyError: No scope is called `scope`.
    """
    span_us = int(since_s * 1e6)
    middle = (now_us - span_us) // MINUTE_US
    with reading(state_directory) as connection:
        names = selected(read_meta(connection, "totals", LedgerTotals) or LedgerTotals(), scope)
        window = _counted(connection, middle, _ENDLESS)
        before = _counted(connection, (now_us - 2 * span_us) // MINUTE_US, middle)
        from_hour = _from_hour(connection, middle * MINUTE_US // HOUR_US)
        pairs, texts = _pairs(connection, from_hour), _texts(connection, from_hour)
    scopes = {
        name: {
            "window": _per_request(window.get(name, {})),
            "before": _per_request(before.get(name, {})),
            "ranking": _ranking(pairs.get(name, {}), texts, limit),
        }
        for name in names
    }
    return {
        "version": __version__,
        "generated_at": iso(now_us),
        "window_seconds": since_s,
        "ranking_since": iso(from_hour * HOUR_US),
        "scopes": scopes,
    }


def _counted(connection: sqlite3.Connection, from_minute: int, to_minute: int) -> dict[str, dict[str, int]]:
    """By scope, what was counted in these minutes; as `requests:<name>`, since looking requests are counted, too."""
    counting = connection.execute("SELECT minute FROM minutes WHERE name = 'looking_requests' ORDER BY minute LIMIT 1")
    since = (counting.fetchone() or (_ENDLESS,))[0]
    rows = connection.execute(
        "SELECT scope, name, sum(count), sum(count * (minute >= ?)) FROM minutes"
        " WHERE minute >= ? AND minute < ? AND name IN ('lookups', 'looking_requests', 'redundant_lookups')"
        " GROUP BY scope, name",
        (since, from_minute, to_minute),
    )
    found: dict[str, dict[str, int]] = {}
    for scope, name, count, comparable in rows:
        found.setdefault(scope, {}).update({name: count, f"requests:{name}": comparable})
    return found


def _per_request(counts: Mapping[str, int]) -> dict[str, Any]:
    requests = counts.get("looking_requests", 0)
    in_requests = requests + counts.get("requests:redundant_lookups", 0)
    return {
        "lookups": counts.get("lookups", 0),
        "redundant_lookups": counts.get("redundant_lookups", 0),
        "looking_requests": requests,
        "lookups_outside_requests": max(counts.get("requests:lookups", 0) - in_requests, 0),
        "lookups_per_request": in_requests / requests if requests else None,
    }


def _from_hour(connection: sqlite3.Connection, hour: int) -> int:
    """From when on places are known: the hour asked for, or the oldest one that is kept."""
    oldest = connection.execute("SELECT min(hour) FROM lookups").fetchone()[0]
    return hour if oldest is None else max(hour, oldest)


def _pairs(connection: sqlite3.Connection, from_hour: int) -> dict[str, dict[tuple[int, int], int]]:
    found: dict[str, dict[tuple[int, int], int]] = {}
    rows = connection.execute(
        "SELECT scope, place, first, sum(lookups) FROM lookups WHERE hour >= ? GROUP BY scope, place, first",
        (from_hour,),
    )
    for scope, place, first, lookups in rows:
        found.setdefault(scope, {})[place, first] = lookups
    return found


def _texts(connection: sqlite3.Connection, from_hour: int) -> dict[int, list[str]]:
    """The call sites of all places since an hour, by number."""
    used = " UNION ".join(f"SELECT {column} FROM lookups WHERE hour >= ?1" for column in ("place", "first"))  # noqa: S608 - stands above
    rows = connection.execute(f"SELECT number, sites FROM places WHERE number IN ({used})", (from_hour,))  # noqa: S608
    return {number: _decode(sites) for number, sites in rows}


def _ranking(pairs: Pairs, texts: Mapping[int, list[str]], limit: int) -> dict[str, Any]:
    places = ranked(_told(pairs, texts))
    named = [each for each in places if each.place != OTHER]
    shown = [*named[:limit], *places[len(named) :]]
    redundant = sum(each.redundant for each in places)
    return {
        "lookups": sum(each.lookups for each in places),
        "redundant_lookups": redundant,
        "places": [_place(each, texts, redundant) for each in shown],
        "places_not_shown": len(places) - len(shown),
    }


def _told(pairs: Pairs, texts: Mapping[int, list[str]]) -> dict[tuple[int, int], int]:
    """Count what has no text, because it was forgotten or not told apart, among the other places."""
    found: dict[tuple[int, int], int] = {}
    for (place, first), lookups in pairs.items():
        row = (place if place in texts else OTHER, first if first == NO_FIRST or first in texts else OTHER)
        found[row] = found.get(row, 0) + lookups
    return found


def _place(each: Ranked, texts: Mapping[int, list[str]], redundant: int) -> dict[str, Any]:
    return {
        **_sites(each.place, texts),
        "lookups": each.lookups,
        "redundant_lookups": each.redundant,
        "share": each.redundant / redundant if redundant else None,
        "first_looked_up_at": [
            {**_sites(place, texts), "redundant_lookups": lookups} for place, lookups in each.firsts[:FIRSTS_KEPT]
        ],
    }


def _sites(place: int, texts: Mapping[int, list[str]]) -> dict[str, Any]:
    kind = "other_call_sites" if place == OTHER else "call_sites" if texts[place] else "no_call_sites"
    return {"place": kind, "call_sites": texts.get(place, [])}
