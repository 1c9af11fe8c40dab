"""Races: several creates for one user within the window, of which all but the first are duplicates."""

from collections.abc import Callable, Sequence
from typing import Final

from chapters import close
from lives import DATABASE, WORKERS_AT_ONCE, Life, Visit


def _race(life: Life, visits: Sequence[Visit], gaps_s: Sequence[float], cause: str) -> None:
    """One create by each visit; the last of them is what the user goes on with."""
    previous = ""
    for visit, gap_s in zip(visits, (0, *gaps_s), strict=True):
        life.at_us += int(gap_s * 1e6)
        visit.looks_up()
        session = life.born(visit.creates(life.new_session()))
        if previous:
            life.truly(f"duplicate/{cause}", previous, session)
        previous = session


def _gaps(life: Life, count: int) -> list[float]:
    """Each less than the window; together they may well be more."""
    return [life.chance.choice([0, 0.001, 0.116, 1, 5, 9.5]) for _ in range(count)]


def leave(life: Life) -> None:
    close(life)
    life.pause(0.5, 60)


def race_in_one_request(life: Life) -> None:
    leave(life)
    visit = life.visit()
    creates = life.chance.choice([2, 3])
    _race(life, [visit] * creates, _gaps(life, creates - 1), "same_request")


def race_in_one_worker(life: Life) -> None:
    leave(life)
    worker = life.world.worker(life.at_us)
    _race(life, [life.visit(worker), life.visit(worker)], _gaps(life, 1), "same_worker")


def race_of_workers(life: Life) -> None:
    leave(life)
    first, second, _ = _workers_of_a_replica(life)
    _race(life, [life.visit(first), life.aside(second), life.visit(first)], _gaps(life, 2), "cross_worker")


def race_of_replicas(life: Life) -> None:
    leave(life)
    (first, *_), (second, *_) = _workers_of_a_replica(life), _workers_of_a_replica(life, other=True)
    _race(life, [life.visit(first), life.visit(second)], _gaps(life, 1), "cross_replica")


def race_with_the_database(life: Life) -> None:
    leave(life)
    visits = [life.visit(), life.aside(DATABASE)]
    life.chance.shuffle(visits)
    _race_unseen(life, visits)


def race_in_the_database(life: Life) -> None:
    """Two rows, 116 ms apart, that no hook saw."""
    leave(life)
    _race_unseen(life, [life.aside(DATABASE), life.aside(DATABASE)])


def race_beside_a_session(life: Life) -> None:
    """Nobody ended what the user was with: the first of the race replaces it, and only the second is a duplicate."""
    before, visit = life.session, life.visit()
    visit.looks_up(before)
    first = life.born(visit.creates(life.new_session(), expected=before))
    second = life.born(visit.creates(life.new_session(), expected=before))
    life.truly("loss/replaced", before, first)
    life.truly("duplicate/same_request", first, second)


def race_with_an_adopted_session(life: Life) -> None:
    """A session is seen for the first time, and another is created right behind it."""
    leave(life)
    older = life.session = life.new_session()
    visit = life.visit()
    visit.sees(older)
    life.world.truly("adopted", older)
    life.open.add(older)
    life.truly("duplicate/same_request", older, life.born(visit.creates(life.new_session())))


def _race_unseen(life: Life, visits: Sequence[Visit]) -> None:
    first = life.born(visits[0].creates(life.new_session()))
    life.pause(0, 8)
    life.truly("duplicate/unobserved", first, life.born(visits[1].creates(life.new_session())))


def _workers_of_a_replica(life: Life, *, other: bool = False) -> list[int]:
    workers = range(WORKERS_AT_ONCE) if life.at_us < life.world.rollout_us else range(WORKERS_AT_ONCE, 12)
    half = WORKERS_AT_ONCE // 2
    return list(workers[half:] if other else workers[:half])


RACES: Final[dict[str, list[Callable[[Life], None]]]] = {
    "duplicate/same_request": [race_in_one_request],
    "duplicate/same_worker": [race_in_one_worker],
    "duplicate/cross_worker": [race_of_workers],
    "duplicate/cross_replica": [race_of_replicas],
    "duplicate/unobserved": [race_with_the_database, race_in_the_database],
    "duplicates beside others": [race_beside_a_session, race_with_an_adopted_session],
}
