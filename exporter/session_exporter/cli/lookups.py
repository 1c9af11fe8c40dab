"""What `view-metrics lookups` prints: how often requests look sessions up, and which places do it again. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from session_exporter.cli.documents import FirstPlace, LookupPlace, Lookups, LookupWindow, ScopeLookups, lookups_of
from session_exporter.cli.plain import counted, ratio_text, window_text
from session_exporter.cli.stories import moment
from session_exporter.core.plaintext import inert

_WITHOUT: Final = {"no_call_sites": "no call sites known", "other_call_sites": "other call sites"}
_ADVICE: Final = "A request needs one lookup: make it once, where the first is made, and hand the session on."
_NO_REQUESTS: Final = (
    "  Whether these were redundant cannot be told: no request is known. Middleware, or trace ids, tell."
)


def lookup_report(document: Mapping[str, Any]) -> str:
    """Write a document of lookups as people read it: for each scope the figures, and the ranking of its places.

    Returns:
        Lines, without a newline at the end.

    Raises:
        PeerError: The document is none of lookups.
    """
    lookups = lookups_of(document)
    scopes = {name: scope for name, scope in lookups.scopes.items() if scope.eventful}
    if not scopes:
        return f"No lookups in the last {window_text(lookups.window_seconds)}"
    blocks = [_scope(name, scope, lookups) for name, scope in scopes.items()]
    if any(scope.ranking.redundant_lookups for scope in scopes.values()):
        blocks.append([_ADVICE])
    return "\n\n".join("\n".join(block) for block in blocks)


def _scope(name: str, scope: ScopeLookups, lookups: Lookups) -> list[str]:
    span = window_text(lookups.window_seconds)
    now, before = (_rate(each.lookups_per_request) for each in (scope.window, scope.before))
    lines = [
        f"{inert(name)}: {now} lookups per request now, {before} before",
        f"  the last {span}: {_figures(scope.window)}",
        f"  the {span} before: {_figures(scope.before)}",
    ]
    if scope.window.lookups and not scope.window.looking_requests:
        lines.append(_NO_REQUESTS)
    return [*lines, *_ranking(scope, _minute(lookups.ranking_since))]


def _rate(rate: float | None) -> str:
    return "n/a" if rate is None else f"{rate:.2f}"


def _figures(window: LookupWindow) -> str:
    if not window.lookups:
        return "no lookups"
    outside = f", {window.lookups_outside_requests} outside of requests" if window.lookups_outside_requests else ""
    redundant = f"{window.redundant_lookups} redundant"
    return f"{counted(window.lookups, 'lookup')} by {counted(window.looking_requests, 'request')}, {redundant}{outside}"


def _ranking(scope: ScopeLookups, since: str) -> list[str]:
    places, more = scope.ranking.places, scope.ranking.places_not_shown
    if not places:
        return []
    header, *rows = _columns([("redundant", "share", "lookups"), *map(_counts, places)])
    lines = ["", f"  {header}  since {since}, at"]
    for row, place in zip(rows, places, strict=True):
        first, *others = [*_sites(place), *_firsts(place)]
        lines.extend((f"  {row}  {first}", *(f"  {'':{len(row)}}  {line}" for line in others)))
    return [*lines, f"  and {counted(more, 'place')} more (--limit)"] if more else lines


def _counts(place: LookupPlace) -> tuple[str, ...]:
    return str(place.redundant_lookups), ratio_text(place.share), str(place.lookups)


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align rows of equal length in columns, to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.rjust, row, widths)) for row in rows]


def _minute(text: str) -> str:
    at = moment(text)
    return at.strftime("%Y-%m-%d %H:%MZ") if at else inert(text) or "an unknown time"


def _sites(place: LookupPlace) -> Sequence[str]:
    return [inert(site) for site in place.call_sites] or [_WITHOUT.get(place.place, inert(place.place))]


def _firsts(place: LookupPlace) -> Iterable[str]:
    return (f"  {first.redundant_lookups} after {_first(first, place)}" for first in place.first_looked_up_at)


def _first(first: FirstPlace, place: LookupPlace) -> str:
    """Where the way to the first lookup parts from the way to this one, seen from the lookup."""
    if not first.call_sites:
        return _WITHOUT.get(first.place, inert(first.place))
    if first.call_sites == place.call_sites:
        return "one at this very place"
    apart = [site for site, here in zip(first.call_sites, place.call_sites, strict=False) if site != here]
    return f"the one at {inert([*apart, first.call_sites[-1]][0])}"
