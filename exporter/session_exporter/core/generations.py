"""How often a session came into existence and ended, for events in any order.

The marks of a session are its creates, sightings and ends in order of time. What lies between two ends is a generation:
however many creates are reported in it, it counts once; and so does a run of ends with nothing between them. A mark
that arrives late is put where it belongs and only ever adds to the counts, so that the totals are those of the sorted
history whatever the order of arrival.
"""

from bisect import bisect_left, bisect_right
from typing import Final, NamedTuple, TypeAlias

from session_exporter.core.scopes import END_REASONS

SIGHT: Final = 0
CREATE: Final = 1
END: Final = 2  # and above: END + the reason's place in `scopes.END_REASONS`

EXPIRED: Final = END + END_REASONS.index("expired")

# One session id with more marks than this is created anew all the time; its oldest marks are forgotten.
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


class Added(NamedTuple):
    """What a mark added to the counts.

    Attributes:
        births: Creates that count now: its own, or one that a late end between two reports revealed.
        ends: Ends that count now, as marks: its own, or one that a late create between two ends revealed.
    """

    births: list[Birth]
    ends: list[Mark]


def add_create(marks: list[Mark], at_us: int, explains_us: int = 0) -> Added:
    """Put a create in its place; it counts unless its generation has been counted already.

    Args:
        marks: Of the session; changed.
        at_us: When.
        explains_us: A sighting at most so much earlier was of this create; one before that remains an adoption.
    """
    place = bisect_left(marks, (at_us, CREATE, False))
    ends = _ends_revealed(marks, place)
    generation = _generation(marks, place)
    if any(kind == CREATE and counted for _, kind, counted in generation):
        _insert(marks, place, (at_us, CREATE, False))
        return Added([], ends)
    sight = next((mark for mark in generation if mark[1] == SIGHT and mark[2]), None)
    _insert(marks, place, (at_us, CREATE, True))
    explained = sight is not None and at_us - sight[0] <= explains_us
    return Added([Birth(sight[0], adopted=True) if sight and explained else Birth(at_us)], ends)


def add_sight(marks: list[Mark], at_us: int, *, counted: bool) -> None:
    """Put the first sighting of an unknown session in its place; `counted` when it is an adoption."""
    _insert(marks, bisect_left(marks, (at_us, SIGHT, False)), (at_us, SIGHT, counted))


def add_end(marks: list[Mark], at_us: int, reason: int) -> Added:
    """Put an end in its place; it counts unless the generation before it has ended already."""
    mark = (at_us, END + reason)
    place = bisect_left(marks, (*mark, False))
    before = place > 0 and marks[place - 1][1] >= END
    after = place < len(marks) and marks[place][1] >= END
    births = _births_revealed(marks, place)
    counted = not (before or after)
    _insert(marks, place, (*mark, counted))
    return Added(births, [(*mark, True)] if counted else [])


def has_ended(marks: tuple[Mark, ...] | None) -> bool:
    """Whether the newest generation was ended by somebody; one that has only expired may still go on."""
    return bool(marks) and marks is not None and marks[-1][1] >= END and marks[-1][1] != EXPIRED


def began_at(marks: list[Mark]) -> int:
    """When the current generation was first created or sighted; 0 when it was only used."""
    generation = _generation(marks, len(marks))
    return generation[0][0] if generation else 0


def end_of(marks: list[Mark], at_us: int) -> Mark | None:
    """How the generation ended that a session was in at a time, or had been in before; None when it has not."""
    place = bisect_right(marks, at_us, key=_time)
    start = _first_end(marks, place)
    return next((mark for mark in marks[start:] if mark[1] >= END), None)


def since(marks: list[Mark], at_us: int) -> int:
    """When the generation of a time began; 0 when it is the first."""
    start, _ = _bounds(marks, bisect_right(marks, at_us, key=_time))
    return marks[start][0] if 0 < start < len(marks) else 0


def revived_at(marks: list[Mark], at_us: int) -> int:
    """When the generation of a time, or the last before it, began with a use after expiry; 0 when it did not."""
    generation = _generation(marks, _first_end(marks, bisect_right(marks, at_us, key=_time)))
    return generation[0][0] if generation and generation[0][1] == SIGHT and not generation[0][2] else 0


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


def _ends_revealed(marks: list[Mark], place: int) -> list[Mark]:
    """Count one end on each side of a place inside a run of ends."""
    low, high = _first_end(marks, place), place
    while high < len(marks) and marks[high][1] >= END:
        high += 1
    ends = []
    for start, stop in ((low, place), (place, high)):
        if start < stop and not any(counted for _, _, counted in marks[start:stop]):
            at_us, kind, _ = marks[start]
            marks[start] = (at_us, kind, True)
            ends.append(marks[start])
    return ends


def _generation(marks: list[Mark], place: int) -> list[Mark]:
    start, stop = _bounds(marks, place)
    return marks[start:stop]


def _bounds(marks: list[Mark], place: int) -> tuple[int, int]:
    start, stop = place, place
    while start > 0 and marks[start - 1][1] < END:
        start -= 1
    while stop < len(marks) and marks[stop][1] < END:
        stop += 1
    return start, stop


def _first_end(marks: list[Mark], place: int) -> int:
    """Where the run of ends begins that a place follows; the place itself when it follows none."""
    while place > 0 and marks[place - 1][1] >= END:
        place -= 1
    return place


def _time(mark: Mark) -> int:
    return mark[0]


def _insert(marks: list[Mark], place: int, mark: Mark) -> None:
    marks.insert(place, mark)
    if len(marks) > MARKS_MAX:
        del marks[0]
