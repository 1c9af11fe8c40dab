"""How a user without a session comes to one, and nothing is wrong with it."""

from collections.abc import Callable
from typing import Final

from lives import DATABASE, Life

from session_exporter.core import events as wire

YEAR_US: Final = 365 * 86_400 * 1_000_000


def lookup_then_insert(life: Life) -> None:
    visit = life.visit()
    visit.looks_up()
    life.born(visit.creates(life.new_session()))
    if life.is_likely(0.3):
        visit.reuses(life.session)


def insert_without_request(life: Life) -> None:
    life.born(life.aside().creates(life.new_session()))


def insert_told_by_two_hooks(life: Life) -> None:
    visit = life.visit()
    session = visit.creates(life.new_session())
    visit.sees(session, created_at_us=life.at_us)
    life.born(session)


def young_result(life: Life) -> None:
    visit = life.visit()
    session = life.new_session()
    visit.sees(session, created_at_us=life.at_us)
    life.born(session)


def upsert_explained_by_its_insert(life: Life) -> None:
    visit = life.visit()
    session = life.new_session()
    visit.writes(session)
    life.pause(0, 1.5)
    life.born(visit.creates(session))


def anonymous_until_login(life: Life) -> None:
    visit = life.visit()
    session = visit.creates(life.new_session(), user="", key="")
    life.pause(0, 60)
    life.visit(visit.writer).tell(wire.Attributed, session)
    life.born(session)


def insert_by_a_database_function(life: Life) -> None:
    life.born(life.aside(DATABASE).creates(life.new_session()))


def cookie_that_nobody_knows(life: Life) -> None:
    visit, cookie = life.visit(), life.new_session()
    visit.looks_up(asked=cookie)
    life.born(visit.creates(life.new_session()))
    if life.is_likely(0.3):  # the request has to do with another scope as well, and the cookie may be of that
        visit.never_got(cookie, wire.MISSED_BY_ID, life.session, shared=True)
    else:
        visit.never_got(cookie, wire.MISSED_BY_ID, life.session)
        life.truly("stale", cookie)


def store_that_takes_the_id_of_the_client(life: Life) -> None:
    visit, cookie = life.visit(), life.new_session()
    visit.looks_up(asked=cookie)
    life.born(visit.creates(cookie))
    visit.never_got(cookie, wire.MISSED_BY_ID, cookie)
    life.truly("stale", cookie)


ARRIVALS: Final[list[Callable[[Life], None]]] = [
    *[lookup_then_insert] * 4,
    insert_without_request,
    insert_told_by_two_hooks,
    young_result,
    upsert_explained_by_its_insert,
    anonymous_until_login,
    insert_by_a_database_function,
    cookie_that_nobody_knows,
    store_that_takes_the_id_of_the_client,
]


def arrive(life: Life) -> None:
    arrival = life.chance.choice(ARRIVALS)
    arrival(life)
    if arrival is not anonymous_until_login:  # whose session it is, nobody could know meanwhile
        life.world.strangers.append((life.user, life.session))


def arrive_plainly(life: Life) -> None:
    life.born(life.visit().creates(life.new_session()))


def was_there_before(life: Life) -> None:
    """The session is older than anything that is recorded."""
    session = life.session = life.new_session()
    visit = life.visit()
    how = life.chance.random()
    if how < 0.4:
        visit.looks_up(session)
        life.world.reuses += 1
    elif how < 0.6:
        visit.sees(session, created_at_us=life.at_us - YEAR_US)
        life.world.truly("adopted", session)
    elif how < 0.8:
        visit.reuses(session, user="", key="")
        life.pause(0, 60)
        visit.tell(wire.Attributed, session)
    else:
        visit.reuses(session)
    life.open.add(session)
