"""How often a session came into existence and ended, for events in any order.

The marks of a session are its creates, sightings and ends in order of time. Between two ends lies a generation: however
many creates are reported in it, it counts once. A mark that arrives late is put where it belongs and only ever adds to
the counts, so that the totals are those of the sorted history whatever the order of arrival.
"""

from bisect import bisect_left
from typing import Final, NamedTuple, TypeAlias

SIGHT: Final = 0
CREATE: Final = 1
END: Final = 2

# One session id with more marks than this is reported twice or created anew all the time; the oldest are forgotten.
MARKS_MAX: Final = 64

Mark: TypeAlias = tuple[int, int, bool]  # time in microseconds, kind, whether it is the one that was counted


class Birth(NamedTuple):
    """A create that counts.

    Attributes:
        at_us: Where it stands on its user's timeline.
        adopted: The generation had been adopted by a sighting at `at_us`, which this create now explains.
    """

    at_us: int
    adopted: bool = False


def add_create(marks: list[Mark], at_us: int) -> Birth | None:
    """Put a create in its place; None when its generation has been counted already."""
    place = bisect_left(marks, (at_us, CREATE, False))
    generation = _generation(marks, place)
    if any(kind == CREATE and counted for _, kind, counted in generation):
        _insert(marks, place, (at_us, CREATE, False))
        return None
    sight = next((mark for mark in generation if mark[1] == SIGHT and mark[2]), None)
    _insert(marks, place, (at_us, CREATE, True))
    return Birth(sight[0], adopted=True) if sight else Birth(at_us)


def add_sight(marks: list[Mark], at_us: int, *, counted: bool) -> None:
    """Put the first sighting of an unknown session in its place; `counted` when it is an adoption."""
    _insert(marks, bisect_left(marks, (at_us, SIGHT, False)), (at_us, SIGHT, counted))


def add_end(marks: list[Mark], at_us: int) -> tuple[bool, list[Birth]]:
    """Put an end in its place.

    Returns:
        Whether it counts (a generation ends once), and the births it revealed: a create reported late twice may turn
        out to have been two, with this end between them.
    """
    place = bisect_left(marks, (at_us, END, False))
    before = place > 0 and marks[place - 1][1] == END
    after = place < len(marks) and marks[place][1] == END
    births = _births_revealed(marks, place)
    counted = not (before or after)
    _insert(marks, place, (at_us, END, counted))
    return counted, births


def adopted_at(marks: list[Mark]) -> int | None:
    """When the current generation was adopted; None when it was not."""
    generation = _generation(marks, len(marks))
    return next((at_us for at_us, kind, counted in generation if kind == SIGHT and counted), None)


def _births_revealed(marks: list[Mark], place: int) -> list[Birth]:
    start, stop = _bounds(marks, place)
    births = []
    for low, high in ((start, place), (place, stop)):
        creates = [index for index in range(low, high) if marks[index][1] == CREATE]
        if creates and not any(marks[index][2] for index in creates):
            at_us = marks[creates[0]][0]
            marks[creates[0]] = (at_us, CREATE, True)
            births.append(Birth(at_us))
    return births


def _generation(marks: list[Mark], place: int) -> list[Mark]:
    start, stop = _bounds(marks, place)
    return marks[start:stop]


def _bounds(marks: list[Mark], place: int) -> tuple[int, int]:
    start, stop = place, place
    while start > 0 and marks[start - 1][1] != END:
        start -= 1
    while stop < len(marks) and marks[stop][1] != END:
        stop += 1
    return start, stop


def _insert(marks: list[Mark], place: int, mark: Mark) -> None:
    marks.insert(place, mark)
    if len(marks) > MARKS_MAX:
        del marks[0]
