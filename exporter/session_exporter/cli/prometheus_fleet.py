"""How the instances of a fleet are: which are there, which are not, and what casts doubt on the counts of all."""

import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from session_exporter.cli.plain import counted
from session_exporter.cli.prometheus import Prometheus
from session_exporter.cli.prometheus_growth import Growth
from session_exporter.cli.prometheus_partitions import Coverage, Readership, coverages, readerships
from session_exporter.cli.prometheus_queries import COUNTERS, Selection, Target, target_of
from session_exporter.cli.prometheus_sightings import Span
from session_exporter.core.plaintext import inert
from session_exporter.sidecar.summary import CUT_OFF

NAMES_MAX: Final = 8
_ADDRESS: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}")
_TROUBLES: Final = ("duplicates", "losses", "violations")


@dataclass(frozen=True, slots=True)
class Fleet:
    """The instances, as they are now.

    Attributes:
        counting: Those that counted in the span.
        forwarding: Those that only sent on what others counted.
        alive: Those that Prometheus has scraped lately.
        down: Those that Prometheus knows and cannot scrape now.
        cut_off: Those that do not reach the stream that they read from or write to.
        readerships: Which partitions of streams are read, as those say that can be scraped.
        active_sessions: By scope, over all.
        active_users: Likewise; somebody who is active at two instances that do not share a stream is two.
        duplicate_active_users: By scope, the most in the span; what databases say is the same whoever asks them.
        workers: Of the application.
    """

    counting: frozenset[Target]
    forwarding: frozenset[Target]
    alive: frozenset[Target]
    down: frozenset[Target]
    cut_off: frozenset[Target]
    readerships: tuple[Readership, ...]
    active_sessions: Mapping[str, int]
    active_users: Mapping[str, int]
    duplicate_active_users: Mapping[str, int]
    workers: int


def fleet(
    prometheus: Prometheus,
    selection: Selection,
    span: Span,
    counting: AbstractSet[Target],
    forwarding: AbstractSet[Target],
) -> Fleet:
    """Ask how the instances are; raises as `Prometheus.instant` does."""

    def now(expression: str) -> Iterable[tuple[Target, str, float]]:
        found = prometheus.instant(expression, at_s=span.to_s)
        return [(target_of(each.metric), each.metric.get("scope", ""), each.number) for each in found]

    def who(name: str) -> frozenset[Target]:
        return frozenset(target for target, _, _ in now(f"{selection.of_exporters((name,))} == 0"))

    down = who("up")
    sessions = now(selection.of_scopes(("session_active_sessions",)))
    exporters = now(selection.of_exporters(("session_exporter_config_last_reload_successful",)))
    doubled = selection.of_scopes(("session_db_duplicate_active_users",))
    return Fleet(
        counting=frozenset(counting),
        forwarding=frozenset(forwarding),
        alive=frozenset(target for target, _, _ in (*sessions, *exporters)),
        down=down & (counting | forwarding),
        cut_off=who("session_exporter_stream_up"),
        readerships=tuple(each for each in readerships(prometheus, selection, span.to_s) if each.target not in down),
        active_sessions=_summed(sessions),
        active_users=_summed(now(selection.of_scopes(("session_active_users",)))),
        duplicate_active_users=_summed(now(f"max by (scope) (max_over_time({doubled}{span.range}))")),
        workers=_summed(now(f"sum({selection.of_exporters(('session_exporter_workers',))})")).get("", 0),
    )


def _summed(rows: Iterable[tuple[Target, str, float]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for _, scope, value in rows:
        sums[scope] = sums.get(scope, 0) + max(0, round(value))
    return sums


def doubts(found: Fleet, grown: Growth, warnings: Iterable[str]) -> list[str]:
    """Why the counts may be too low, so that nobody can say that all is well; a sentence each."""
    said = []
    if found.down & found.counting:
        missing = "what was counted since is missing"
        said.append(f"{_named(found.down & found.counting)} cannot be scraped now (up is 0): {missing}")
    if found.down - found.counting:
        missing = "what forwarders have not sent is not counted"
        said.append(f"{_named(found.down - found.counting)} cannot be scraped now (up is 0): {missing}")
    if not found.alive & found.counting:
        said.append("no instance is scraped any more: what was counted since is missing")
    if found.cut_off:
        said.append(f"{_named(found.cut_off)} {CUT_OFF}")
    said += _unread(found, grown)
    unknown = sorted({f"{each.name} {each.words}" for each in grown.counts if not _is_known(each.name, each.words)})
    if unknown:
        said.append(f"a newer version counts what this one does not know: {_listed(unknown)}")
    return [*said, *(f"Prometheus warns: {inert(each)}" for each in warnings)]


def unread(found: Fleet, grown: Growth) -> list[int]:
    """The partitions of streams that no consumer reads that can be scraped."""
    return sorted({number for each in coverages(found.readerships, grown.together) for number in each.unread})


def _unread(found: Fleet, grown: Growth) -> Iterable[str]:
    writers = found.forwarding & found.alive
    if writers and not found.readerships:
        yield f"no consumer that can be scraped reads what {counted(len(writers), 'forwarder')} may send"
    for each in coverages(found.readerships, grown.together):
        if each.unread:
            them = "it" if len(each.unread) == 1 else "them"
            yield f"{each.named(each.unread)}: no consumer that can be scraped reads {them}"
        if not each.is_even:
            yield _shared(each)


def _shared(coverage: Coverage) -> str:
    names = _named(frozenset().union(*(coverage.readers[number] for number in coverage.shared)))
    return f"{coverage.named(coverage.shared)}: read by {names}; expected one consumer, --selector chooses a fleet"


def remarks(found: Fleet, grown: Growth) -> list[str]:
    """What to know about the counts; a sentence each."""
    forwarders = f"; {counted(len(found.forwarding), 'forwarder')}" if found.forwarding else ""
    said = [f"counted by {counted(len(found.counting), 'instance')}: {_named(found.counting)}{forwarders}"]
    gone = found.counting - found.alive - found.down
    if gone and found.alive:
        said.append(f"{_named(gone)}: gone, counted up to the last scrape")
    said += map(
        _shared, (each for each in coverages(found.readerships, grown.together) if each.shared and each.is_even)
    )
    said += [
        f"{_named(group)}: one sidecar that is scraped twice, or copies of one state; counted once"
        for group in sorted(map(sorted, {group & found.alive for group in grown.together}))
        if len(group) > 1
    ]
    if grown.strangers:
        said.append(f"{_named(grown.strangers)}: what was counted before the first scrape is not in the figures")
    if grown.unborn:
        said.append(f"{_named(grown.unborn)}: without _created, so that restarts and first counts are estimates")
    return said


def troubled(found: Fleet, grown: Growth) -> dict[str, int]:
    """The instances that found duplicates, losses and violations and can be asked, by their addresses; the most first.

    A state that has moved is asked where it is now.
    """
    askable = found.alive - found.down
    counts: dict[str, int] = {}
    for place, value in grown.by_target.items():
        if place.name in COUNTERS and COUNTERS[place.name].counted in _TROUBLES:
            address = dict(_askable(place.target, askable, grown)).get("instance", "")
            if _ADDRESS.fullmatch(address):
                counts[address] = counts.get(address, 0) + round(value)
    return {address: counts[address] for address in sorted(counts, key=lambda each: (-counts[each], each))}


def _askable(target: Target, askable: AbstractSet[Target], grown: Growth) -> Target:
    """The same, or who shows the same counting and can be asked; nobody."""
    if target in askable:
        return target
    return min((each for group in grown.together if target in group for each in group & askable), default=())


def name_of(target: Target) -> str:
    """What people call an instance."""
    labels = dict(target)
    return inert(labels.get("instance") or labels.get("pod") or labels.get("job") or "an instance without a name")


def _named(targets: Iterable[Target]) -> str:
    return _listed(sorted(map(name_of, targets)))


def _listed(names: list[str]) -> str:
    more = len(names) - NAMES_MAX
    return ", ".join(map(inert, names[:NAMES_MAX])) + (f" and {more} more" if more > 0 else "")


def _is_known(name: str, words: str) -> bool:
    return name not in COUNTERS or words in (COUNTERS[name].words or ("",))
