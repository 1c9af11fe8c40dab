"""What happens every day: chapters of lives in which nobody loses anything."""

from collections.abc import Callable
from typing import Final

from arrivals import arrive, arrive_plainly
from lives import DATABASE, IDLE_US, WINDOW_US, Life

from session_exporter.core import events as wire

LEGITIMATE: Final = ("completed", "user_request", "escalated")


def work(life: Life) -> None:
    for _ in range(life.chance.randrange(1, 9)):
        life.visit().reuses(life.session)
        life.pause(0.1, 20)


def expect_and_find(life: Life) -> None:
    visit = life.visit()
    visit.looks_up(life.session)
    visit.reuses(life.session)


def look_up_without_expectation(life: Life) -> None:
    life.either(
        lambda: life.visit().looks_up(life.session),
        lambda: life.visit().sees(life.session),
        lambda: life.aside().looks_up(life.session),
        lambda: life.visit().writes(life.session),
        lambda: life.visit().looks_up(),  # of another tenant, say: a miss that nobody expected otherwise
    )


def work_without_the_user(life: Life) -> None:
    life.aside().reuses(life.session, user="", key="")
    life.aside().tell(wire.Attributed, life.session)


def rotate(life: Life) -> None:
    """A login: what was found is ended, and goes on under another id."""
    visit, before = life.visit(), life.session
    visit.looks_up(before)
    after = life.new_session()
    reason = life.chance.choice(["rotated", "rotated", "deleted", "replaced", "completed"])
    if life.is_likely(0.5):
        visit.ends(before, reason)
        life.pause(0, 1)
        visit.creates(after, expected=before)
    else:
        visit.creates(after, expected=before)
        life.pause(0, 1.5)
        visit.ends(before, reason)
    life.over(before, reason)
    life.truly("rotation", life.born(after))


def rotate_by_hand(life: Life) -> None:
    """The same without a request, told by the reason of the end alone."""
    before, work = life.session, life.aside()
    work.ends(before, "rotated")
    life.pause(0, 1)
    life.over(before, "rotated")
    life.truly("rotation", life.born(work.creates(life.new_session())))


def log_in_at_once(life: Life) -> None:
    """The anonymous session of a first visit is rotated within the window, and once more."""
    close(life)
    life.pause(0.2, 30)
    arrive_plainly(life)
    for _ in range(2):
        life.pause(0.1, 3)
        rotate(life)


def close(life: Life) -> None:
    session, reason = life.session, life.chance.choice(LEGITIMATE)
    visit = life.visit()
    visit.ends(session, reason)
    if life.is_likely(0.2):  # told by two hooks
        visit.ends(session, reason)
    life.over(session, reason)


def close_and_come_back(life: Life) -> None:
    close(life)
    life.pause(0.01, 100)
    arrive(life)


def be_closed_by_somebody_else(life: Life) -> None:
    session = life.session
    life.aside().ends(session, "escalated", user="admin", key="")
    life.over(session, "escalated")
    life.pause(1, 100)
    arrive(life)


def make_the_next_before_closing_the_last(life: Life) -> None:
    visit, before, reason = life.visit(), life.session, life.chance.choice(LEGITIMATE)
    life.born(visit.creates(life.new_session()))
    life.pause(0, 1.5)
    visit.ends(before, reason)
    life.over(before, reason)


def close_unseen_long_before(life: Life) -> None:
    """Only the database knows of the end, and that was long before the next session."""
    session = life.session
    life.aside(DATABASE).ends(session, "completed")
    life.over(session, "completed")
    life.at_us += WINDOW_US
    life.pause(0, 60)
    arrive(life)


def create_when_the_window_is_over(life: Life) -> None:
    """Two creates exactly one window apart are no duplicates."""
    close(life)
    life.pause(1, 20)
    arrive_plainly(life)
    created_us = life.at_us
    close(life)
    life.at_us = created_us + WINDOW_US
    visit = life.visit()
    event = wire.Created(life.at_us, life.scope, life.new_session(), life.user, life.key, visit.request)
    life.world.record(event, visit.writer)
    life.born(event.session)


def stay_away_exactly_the_timeout(life: Life) -> None:
    visit = life.visit()
    visit.reuses(life.session)
    life.at_us += IDLE_US
    life.world.record(wire.Reused(life.at_us, life.scope, life.session, life.user, life.key), visit.writer)
    life.world.reuses += 1


def stay_away_and_come_back(life: Life) -> None:
    """The session has expired: the same goes on, or another one takes over with or without the old cookie."""
    cookie = life.session
    life.all_expire()
    life.at_us += IDLE_US
    life.pause(1, 100)
    life.either(lambda: arrive(life), lambda: _revive(life, cookie), lambda: _show_an_expired_cookie(life, cookie))


def _revive(life: Life, session: str) -> None:
    life.session = session
    life.open.add(session)
    life.visit().reuses(session)


def _show_an_expired_cookie(life: Life, cookie: str) -> None:
    visit = life.visit()
    visit.looks_up(asked=cookie)
    life.born(visit.creates(life.new_session()))
    visit.never_got(cookie, wire.MISSED_BY_ID, life.session)
    life.truly("stale", cookie)


def show_the_cookie_of_a_closed_session(life: Life) -> None:
    cookie = life.session
    close(life)
    life.pause(0.5, 60)
    _show_an_expired_cookie(life, cookie)


def show_the_cookie_of_somebody_else(life: Life) -> None:
    owner, cookie = life.chance.choice(life.world.strangers)
    if owner == life.user:
        return
    visit = life.visit()
    visit.looks_up(asked=cookie)
    visit.looks_up(life.session)
    visit.never_got(cookie, wire.MISSED_BY_ID, life.session)
    life.truly("stale", cookie)


def be_rewritten(life: Life) -> None:
    """A row is deleted and inserted again, as some stores update it."""
    visit, session = life.visit(), life.session
    visit.ends(session, "deleted")
    life.pause(0, 1.5)
    visit.creates(session)


def say_which_thread(life: Life) -> None:
    """Thread, run and request are of one generation, or have nothing to compare."""
    generation = life.world.generation()
    visit = life.visit(request=f"req_{generation}")
    visit.looks_up(life.session)
    thread = life.chance.choice([f"thread_chat_{generation}", f"t-{life.world.new_id()}", ""])
    visit.tell(wire.Identified, life.session, thread, life.chance.choice([f"run_{generation}", ""]))


def begin_anew_after_the_end(life: Life) -> None:
    """What `restart_on` names has changed under the same id, once the work under it was done."""
    close(life)
    life.pause(1, 60)
    session = life.born(life.visit().creates(life.new_session(), generation="task-1"))
    life.pause(11, 60)
    close(life)
    life.pause(1, 60)
    life.visit().creates(session, generation="task-2")
    life.born(session)


CHAPTERS: Final[list[Callable[[Life], None]]] = [
    *[work] * 6,
    *[expect_and_find] * 4,
    *[look_up_without_expectation] * 2,
    *[rotate] * 2,
    work_without_the_user,
    rotate_by_hand,
    log_in_at_once,
    *[close_and_come_back] * 2,
    be_closed_by_somebody_else,
    make_the_next_before_closing_the_last,
    close_unseen_long_before,
    create_when_the_window_is_over,
    stay_away_exactly_the_timeout,
    *[stay_away_and_come_back] * 2,
    show_the_cookie_of_a_closed_session,
    show_the_cookie_of_somebody_else,
    be_rewritten,
    begin_anew_after_the_end,
    *[say_which_thread] * 2,
]
