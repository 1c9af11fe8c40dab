"""What goes wrong: chapters of lives in each of which one thing happens that the ledger has to find."""

from collections.abc import Callable
from typing import Final

from arrivals import arrive_plainly
from chapters import close
from lives import DATABASE, IDLE_US, LATENESS_US, Life, Visit
from races import RACES, leave

from session_exporter.core import events as wire
from session_exporter.core.scopes import FAILURES

UNWANTED: Final = ("deleted", "replaced", "other")


# Losses.


def miss_by_id(life: Life) -> None:
    """The store has forgotten the session; a client that tries again, and again, has lost one all the same."""
    lost = life.session
    visit = life.visit()
    visit.looks_up(asked=lost)
    if life.is_likely(0.5):
        life.born(visit.creates(life.new_session()))
    visit.never_got(lost, wire.MISSED_BY_ID, life.session if life.session != lost else "")
    life.truly("loss/missing", lost, life.session if life.session != lost else "")
    for _ in range(life.chance.randrange(3)):
        life.pause(1, 5)
        visit = life.visit()
        visit.looks_up(asked=lost)
        visit.never_got(lost, wire.MISSED_BY_ID)
    _go_on_with_another(life, lost)


def miss_by_user(life: Life) -> None:
    lost, visit = life.session, life.visit()
    visit.looks_up()
    life.born(visit.creates(life.new_session()))
    visit.never_got(lost, wire.MISSED_BY_USER, life.session, shared=life.is_likely(0.5))
    life.truly("loss/missing", lost, life.session)


def use_another(life: Life) -> None:
    """The request makes a session of its own without so much as asking for the one that it expected."""
    lost, visit = life.session, life.visit()
    life.born(visit.creates(life.new_session()))
    visit.never_got(lost, wire.OTHER_USED, life.session)
    life.truly("loss/switched", lost, life.session)


def use_that_of_another_device(life: Life) -> None:
    lost, tablet, key = life.session, life.new_session(), f"tablet beside {life.key}"
    life.born(life.visit().creates(tablet, key=key))
    life.pause(1, 60)
    visit = life.visit()
    visit.looks_up(tablet, key=key)
    visit.never_got(lost, wire.OTHER_USED, tablet)
    life.truly("loss/switched", lost, tablet)
    life.session = lost


def create_beside(life: Life) -> None:
    """Somebody creates another session, though the user was with one; nobody expected anything."""
    lost = life.session
    _take_over(life, lost)


def create_after_an_unwanted_end(life: Life) -> None:
    lost, reason = life.session, life.chance.choice(UNWANTED)
    life.visit().ends(lost, reason)
    life.over(lost, reason)
    life.pause(2, 60)
    _take_over(life, lost)


def find_and_create_all_the_same(life: Life) -> None:
    """What was expected was found, and lives on: no rotation."""
    lost, visit = life.session, life.visit()
    visit.looks_up(lost)
    life.truly("loss/replaced", lost, life.born(visit.creates(life.new_session(), expected=lost)))


def be_replaced_by_the_database(life: Life) -> None:
    """A function in the database completes the session and inserts the next: only the database knows of the end."""
    lost, reason = life.session, life.chance.choice(["completed", "user_request"])
    work = life.aside(DATABASE)
    work.ends(lost, reason)
    life.over(lost, reason)
    life.pause(0, 8)
    life.truly("loss/replaced", lost, life.born(work.creates(life.new_session())))


def be_reported_as_lost(life: Life) -> None:
    expected, actual = life.chance.choice([(life.session, "a greeting"), ("order 66", ""), ("step 3 of 4", "step 1")])
    life.visit().tell(wire.ContextLost, "", expected, actual)
    life.truly("loss/reported", expected, actual)


def create_at_the_last_moment(life: Life) -> None:
    """The session was about to expire, and has when the verdict is due; whether it had been lost before or not."""
    lost, visit = life.session, life.visit()
    visit.reuses(lost)
    expires_us = life.at_us + IDLE_US
    is_lost = life.is_likely(0.5)
    if is_lost:
        visit.looks_up(asked=lost)
        visit.never_got(lost, wire.MISSED_BY_ID)
        life.truly("loss/missing", lost, "")
    life.at_us = expires_us - LATENESS_US // 2
    arrive_plainly(life)
    if not is_lost:
        life.truly("loss/replaced", lost, life.session)


def begin_anew_under_the_same_id(life: Life) -> None:
    """What `restart_on` names has changed, and nobody had ended what was there."""
    leave(life)
    session = life.born(life.visit().creates(life.new_session(), generation="task-1"))
    life.pause(11, 60)
    life.visit().creates(session, generation="task-2")
    life.over(session, "replaced")
    life.truly("loss/replaced", session, life.born(session))


def take_long(life: Life) -> None:
    """What a long request made is judged before it is over: it has replaced what the request then says it missed."""
    lost, visit = life.session, life.visit()
    visit.looks_up(asked=lost)
    life.truly("loss/replaced", lost, life.born(visit.creates(life.new_session())))
    life.at_us += 2 * LATENESS_US
    visit.never_got(lost, wire.MISSED_BY_ID, life.session)


def _take_over(life: Life, lost: str) -> None:
    arrive_plainly(life)
    life.truly("loss/replaced", lost, life.session)


def _go_on_with_another(life: Life, lost: str) -> None:
    if life.session == lost:
        life.pause(1, 60)
        arrive_plainly(life)  # whoever has lost a session has not lost it again when another follows


# Users, lookups, and what is refused.


def be_used_by_another(life: Life) -> None:
    """Each further user counts once, however often, and whatever they do with it."""
    session = life.session
    for guest in [f"guest-{life.world.new_id()}" for _ in range(life.chance.choice([1, 1, 2]))]:
        visit = life.visit()
        for _ in range(life.chance.choice([1, 3])):
            _use(visit, session, guest)
        life.world.truly("violation/session_of_two_users", guest, session)
        visit.reuses(session)


def _use(visit: Visit, session: str, guest: str) -> None:
    visit.life.either(
        lambda: visit.reuses(session, user=guest),
        lambda: visit.looks_up(session, user=guest),
        lambda: visit.sees(session, user=guest),
        lambda: visit.tell(wire.Attributed, session, user=guest),
    )


def cross_with_a_db_session(life: Life) -> None:
    kind = life.chance.choice(
        [
            "db_session_of_two_users",
            "db_session_crossed_requests",
            "db_session_crossed_tasks",
            "db_session_outlived_request",
        ]
    )
    use = f"use-{life.world.new_id()}"
    life.visit().tell(wire.Violated, use, kind, "somebody", "another-request")
    life.truly(f"violation/{kind}", use)


def look_up_again_and_again(life: Life) -> None:
    """Pipeline, handler and action each fetch the session; that all but the first are redundant, the visit tells."""
    visit = life.visit()
    for _ in range(life.chance.choice([2, 3, 5])):
        life.either(lambda: visit.looks_up(life.session), lambda: visit.sees(life.session))


def be_refused_by_a_unique_index(life: Life) -> None:
    visit = life.visit()
    visit.tell(wire.Conflicted, life.new_session())
    life.truly("conflict", life.at_us)
    visit.looks_up(life.session)


def fail_to_create(life: Life) -> None:
    reason = life.chance.choice(FAILURES)
    life.visit().tell(wire.CreateFailed, "", reason)
    life.truly(f"failure/{reason}", life.at_us)


def get_an_id_of_another_format(life: Life) -> None:
    """The id of the thread comes from another factory than those that are looked up."""
    leave(life)
    session = f"conversation/{life.world.new_id()}"
    visit = life.visit()
    life.born(visit.creates(session))
    life.truly("invalid_id/session", session)
    visit.looks_up(session)
    life.pause(11, 60)
    close(life)
    life.pause(11, 60)
    arrive_plainly(life)


def name_a_thread_of_another_format(life: Life) -> None:
    visit = life.visit()
    visit.looks_up(life.session)
    visit.tell(wire.Identified, life.session, f"Thread{life.world.new_id()}")
    life.truly("invalid_id/thread", life.session)


def mix_generations(life: Life) -> None:
    first, second = life.world.generation(), life.world.generation()
    visit = life.visit(request=f"req_{first}")
    visit.looks_up(life.session)
    visit.tell(wire.Identified, life.session, f"thread_chat_{first}", f"run_{second}")
    life.truly("id_mismatch", life.session)


# By what each of them is to be found; every one of a list is as likely as the next.
INJECTIONS: Final[dict[str, list[Callable[[Life], None]]]] = {
    **RACES,
    "loss/missing": [miss_by_id, miss_by_user],
    "loss/switched": [use_another, use_that_of_another_device],
    "loss/replaced": [
        create_beside,
        create_after_an_unwanted_end,
        find_and_create_all_the_same,
        be_replaced_by_the_database,
        create_at_the_last_moment,
        begin_anew_under_the_same_id,
        take_long,
    ],
    "loss/reported": [be_reported_as_lost],
    "violation/session_of_two_users": [be_used_by_another],
    "violations of database sessions": [cross_with_a_db_session],
    "redundant_lookup": [look_up_again_and_again],
    "conflict": [be_refused_by_a_unique_index],
    "failure": [fail_to_create],
    "invalid_id": [get_an_id_of_another_format, name_a_thread_of_another_format],
    "id_mismatch": [mix_generations],
}
# Where a user may have many sessions, only one request can make too many of them, and none replaces another.
OF_MANY: Final = (
    "duplicate/same_request",
    "loss/switched",
    "loss/missing",
    "loss/reported",
    "violation/session_of_two_users",
    "redundant_lookup",
    "invalid_id",
    "id_mismatch",
)
