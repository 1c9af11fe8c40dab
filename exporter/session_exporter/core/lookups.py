"""Where the application looks sessions up, and which of these lookups their requests could have spared.

The innermost call site is the same function for all who ask it, so a place is a whole chain of call sites, and what
identifies it is a digest: it is the same in every process, so that the first lookup of a request can be remembered as
one number, and counts of several ledgers add up.
"""

import json
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Final, NamedTuple, TypeAlias

HOUR_US: Final = 3_600_000_000
# All places that are not told apart; and, as the first of a request, the want of one: the lookup was not redundant.
OTHER: Final = 1
NO_FIRST: Final = 0
# 48 bits: of ten thousand places, which is more than an application has, two share a number with a probability of 2e-7.
NUMBER_BYTES: Final = 6
NUMBERS_REMEMBERED_MAX: Final = 4096

# Of one scope: how many rows a commit, and an hour in the state, may have; beyond them, how many places keep their
# rows, and how many others are told of each that were first where it was redundant.
COMMIT_ROWS_MAX: Final = 1000
HOUR_ROWS_MAX: Final = 2000
PLACES_KEPT: Final = 200
FIRSTS_KEPT: Final = 3

Sites: TypeAlias = tuple[str, ...]
# Lookups by place, and by the place that was first in their requests; NO_FIRST for those that were not redundant.
Pairs: TypeAlias = Mapping[tuple[int, int], int]


class LookupCount(NamedTuple):
    """Lookups of one hour, to be added to those of the state.

    Attributes:
        scope: The scope's name.
        hour: Of event time, since the epoch.
        place: The number of a chain of call sites.
        sites: That chain, innermost first; empty for lookups without call sites, and for `OTHER`.
        first: The place of the first lookup of their requests, which made these redundant; or `NO_FIRST`.
        lookups: How many.
    """

    scope: str
    hour: int
    place: int
    sites: Sites
    first: int
    lookups: int


class PlaceTally:
    """What was looked up at one chain of call sites in one hour, since the last commit.

    Attributes:
        number: Identifies the chain.
        lookups: All of them.
        redundant: Those that were, by the place of the first lookup of their request.
    """

    __slots__ = ("lookups", "number", "redundant")

    def __init__(self, number: int) -> None:
        self.number = number
        self.lookups = 0
        self.redundant: dict[int, int] = {}


class Places:
    """The lookups of one scope, by hour of event time and by place, since the last commit."""

    def __init__(self) -> None:
        self._numbers: dict[Sites, int] = {}
        self._start_anew()

    def count(self, at_us: int, sites: Sites) -> PlaceTally:
        """Count a lookup; returns its place, or that of all others when there are too many."""
        if not self._begin_us <= at_us < self._end_us:
            self._turn_to(at_us // HOUR_US)
        place = self._places.get(sites)
        if place is None:
            place = self._open(sites)
        place.lookups += 1
        return place

    def count_redundant(self, place: PlaceTally, first: int) -> None:
        """Say of a lookup that was counted that its request had made its first one at the place `first`."""
        try:
            place.redundant[first] += 1
        except KeyError:
            first = self._admitted(first)
            place.redundant[first] = place.redundant.get(first, 0) + 1

    def counts(self, scope: str) -> Iterable[LookupCount]:
        """What was counted since the last commit, in the name of a scope."""
        for hour, places in self._hours.items():
            for sites, place in places.items():
                once = place.lookups - sum(place.redundant.values())
                for first, lookups in ((NO_FIRST, once), *place.redundant.items()):
                    if lookups:
                        yield LookupCount(scope, hour, place.number, sites or (), first, lookups)

    def forget_changes(self) -> None:
        """Note that all that was counted so far is stored."""
        if self._hours:
            self._start_anew()

    def _start_anew(self) -> None:
        self._hours: dict[int, dict[Sites | None, PlaceTally]] = {}
        self._places: dict[Sites | None, PlaceTally] = {}
        self._begin_us = self._end_us = self._rows = 0

    def _turn_to(self, hour: int) -> None:
        self._begin_us, self._end_us = hour * HOUR_US, (hour + 1) * HOUR_US
        self._places = self._hours.setdefault(hour, {})

    def _open(self, sites: Sites) -> PlaceTally:
        number = self._admitted(self._number(sites))
        key = None if number == OTHER else sites
        return self._places.setdefault(key, PlaceTally(number))

    def _admitted(self, number: int) -> int:
        """The number when there is room for one row more, else OTHER."""
        if self._rows >= COMMIT_ROWS_MAX:
            return OTHER
        self._rows += 1
        return number

    def _number(self, sites: Sites) -> int:
        number = self._numbers.get(sites)
        if number is None:
            if len(self._numbers) >= NUMBERS_REMEMBERED_MAX:
                self._numbers.clear()
            number = self._numbers[sites] = number_of(sites)
        return number


def number_of(sites: Sites) -> int:
    """What identifies a chain of call sites, everywhere and for ever; above `OTHER`, of 48 bits."""
    digest = blake2b(json.dumps(sites).encode(), digest_size=NUMBER_BYTES).digest()
    return max(int.from_bytes(digest), OTHER + 1)


class Ranked(NamedTuple):
    """One place of a ranking.

    Attributes:
        place: Its number.
        lookups: All of them.
        redundant: Those that their requests could have spared.
        firsts: The places of the first lookups of these requests, with how many lookups each made redundant; the most
            frequent first.
    """

    place: int
    lookups: int
    redundant: int
    firsts: list[tuple[int, int]]


def ranked(pairs: Pairs) -> list[Ranked]:
    """Rank places by redundant lookups, then by lookups; all places that are not told apart come last."""
    firsts: dict[int, list[tuple[int, int]]] = {}
    lookups: dict[int, int] = {}
    for (place, first), count in pairs.items():
        lookups[place] = lookups.get(place, 0) + count
        of_place = firsts.setdefault(place, [])
        if first != NO_FIRST:
            of_place.append((first, count))
    places = [
        Ranked(place, lookups[place], sum(count for _, count in found), sorted(found, key=_most_frequent))
        for place, found in firsts.items()
    ]
    return sorted(places, key=lambda each: (each.place == OTHER, -each.redundant, -each.lookups, each.place))


def folded(pairs: Pairs) -> dict[tuple[int, int], int]:
    """Keep the first `PLACES_KEPT` of the ranking, and `FIRSTS_KEPT` of each; the rest goes to `OTHER`."""
    kept = {each.place: {first for first, _ in each.firsts[:FIRSTS_KEPT]} for each in ranked(pairs)[:PLACES_KEPT]}
    less: dict[tuple[int, int], int] = {}
    for (place, first), count in pairs.items():
        firsts = kept.get(place, set())
        row = (place if place in kept else OTHER, first if first == NO_FIRST or first in firsts else OTHER)
        less[row] = less.get(row, 0) + count
    return less


def _most_frequent(first: tuple[int, int]) -> tuple[bool, int, int]:
    place, count = first
    return (place == OTHER, -count, place)
