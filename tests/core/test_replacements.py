"""Creates that took the place of a session in use."""

import pytest
from ledgers import IDLE_S, LATENESS_S, WINDOW_S, Book, at, nonzero

from session_exporter.core import events as wire
from session_exporter.core.events import UPSERT
from session_exporter.core.scopes import END_REASONS, LEGITIMATE_END_REASONS, Limits

DATABASE = wire.Writer(wire.WATCH)
MICROSECOND_S = 0.000001
UNWANTED = sorted({*END_REASONS} - {*LEGITIMATE_END_REASONS, "rotated"})


def missed(book: Book, at_s: float, session: str) -> None:
    """A request is over that asked for a session, and was told that there is none."""
    book.tell(wire.Unmet, at_s, session, since_us=at(at_s - 0.1), missed=wire.MISSED_BY_ID)


def losses(book: Book) -> dict[str, int]:
    return nonzero(book.judged().losses)


def test_a_create_beside_a_live_session_has_replaced_it() -> None:
    book = Book()
    book.created(0, "s1")
    book.created(60, "s2", request="r2")
    assert losses(book) == {"replaced": 1}
    detail = book.incident().detail
    assert (detail["expected"], detail["actual"], detail["request"]) == ("s1", "s2", "r2")
    assert book.incidents[0].at_us == at(60)


def test_a_replacement_is_judged_when_it_is_certain_that_nobody_ended_the_session_before() -> None:
    book = Book()
    book.created(0, "s1")
    book.created(60, "s2")
    book.advance(60 + LATENESS_S)
    assert book.committed().losses["replaced"] == 0
    book.advance(60 + LATENESS_S + MICROSECOND_S)
    assert book.committed().losses["replaced"] == 1


@pytest.mark.parametrize("reason", LEGITIMATE_END_REASONS)
def test_a_create_after_a_legitimate_end_has_replaced_nothing(reason: str) -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(59, "s1", reason)
    book.created(60, "s2")
    assert losses(book) == {}


@pytest.mark.parametrize("reason", UNWANTED)
def test_a_create_after_an_end_that_nobody_wanted_has_replaced_what_ended(reason: str) -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(30, "s1", reason)
    book.created(60, "s2")
    assert losses(book) == {"replaced": 1}


def test_which_ends_are_legitimate_the_scope_says() -> None:
    book = Book(end_reasons=frozenset({"deleted"}))
    book.created(0, "s1")
    book.ended(30, "s1", "deleted")
    book.created(60, "s2")
    assert losses(book) == {}
    book.ended(90, "s2", "completed")
    book.created(120, "s3")
    assert losses(book) == {"replaced": 1}


@pytest.mark.parametrize(("delay_s", "lost"), [(0.001, 0), (LATENESS_S, 0), (LATENESS_S + MICROSECOND_S, 1)])
def test_who_ends_the_last_session_within_the_lateness_after_the_create_has_lost_nothing(
    delay_s: float, lost: int
) -> None:
    for first, second in (("s1", "s2"), ("s2", "s1")):  # whatever the order of the ids
        book = Book()
        book.created(0, first)
        book.created(60, second)
        book.ended(60 + delay_s, first)
        assert losses(book).get("replaced", 0) == lost


@pytest.mark.parametrize(("idle_s", "lost"), [(IDLE_S, 1), (IDLE_S + MICROSECOND_S, 0)])
def test_a_session_that_was_idle_for_longer_than_the_timeout_cannot_be_replaced(idle_s: float, lost: int) -> None:
    book = Book()
    book.created(0, "s1")
    book.created(idle_s, "s2")
    assert losses(book).get("replaced", 0) == lost


def test_who_finds_that_the_last_session_is_too_old_and_makes_another_has_lost_nothing() -> None:
    book = Book()
    book.created(0, "s1")
    book.looked_up(IDLE_S + 60, "s1", request="r1")
    book.created(IDLE_S + 60.1, "s2", request="r1", expected="s1")
    assert losses(book) == {}
    book.looked_up(2 * IDLE_S + 120, "s2", request="r2")
    book.ended(2 * IDLE_S + 120.1, "s2", "other", request="r2")
    book.created(2 * IDLE_S + 120.2, "s3", request="r2")
    assert losses(book) == {}


def test_a_session_that_came_back_and_is_worked_with_can_be_replaced() -> None:
    book = Book()
    book.created(0, "s1")
    book.reused(IDLE_S + 60, "s1")
    book.created(IDLE_S + 60 + WINDOW_S, "s2")
    assert losses(book) == {"replaced": 1}


def test_who_looks_at_a_closed_session_and_makes_another_has_lost_nothing() -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(30, "s1", "completed")
    book.looked_up(300, "s1", request="r1")
    book.reused(300.1, "s1", request="r1")
    book.created(300.2, "s2", request="r1")
    assert losses(book) == {}


@pytest.mark.parametrize(
    ("ended_before_s", "lost"), [(1, 1), (WINDOW_S - MICROSECOND_S, 1), (WINDOW_S, 0), (-LATENESS_S, 1)]
)
def test_an_end_that_only_the_database_told_a_moment_before_the_create_is_not_legitimate(
    ended_before_s: float, lost: int
) -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(60 - ended_before_s, "s1", "completed", writer=DATABASE)
    book.created(60, "s2")
    assert losses(book).get("replaced", 0) == lost


@pytest.mark.parametrize("watched_s", [59, 59.5, 60.5])
def test_an_end_that_the_database_told_as_well_is_legitimate(watched_s: float) -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(59.2, "s1", "completed")
    book.ended(watched_s, "s1", "completed", writer=DATABASE)
    book.created(60, "s2")
    assert losses(book) == {}


def test_a_rapid_duplicate_has_replaced_nothing() -> None:
    book = Book()
    book.created(0, "s1")
    book.created(60, "s2")
    book.created(60.1, "s3")
    book.created(60.2, "s4")
    assert (losses(book), book.duplicates()) == ({"replaced": 1}, {"same_worker": 2})


def test_where_a_user_may_have_many_sessions_none_replaces_another() -> None:
    book = Book(sessions_per_user="many")
    book.created(0, "s1")
    book.created(60, "s2")
    missed(book, 90, "s1")
    assert losses(book) == {"missing": 1}


def test_two_devices_of_a_user_do_not_replace_each_others_sessions() -> None:
    book = Book()
    book.created(0, "s1", key="phone")
    book.created(60, "s2", key="laptop")
    book.created(120, "s3")
    assert losses(book) == {}
    book.created(180, "s4", key="phone")
    assert losses(book) == {"replaced": 1}
    assert book.incident().detail["expected"] == "s1"


def test_one_race_counts_once_whether_it_was_missed_first_or_replaced_first() -> None:
    book = Book()
    book.created(0, "s1")
    missed(book, 59.9, "s1")
    book.created(60, "s2")
    assert losses(book) == {"missing": 1}

    book = Book()
    book.created(0, "s1")
    book.created(60, "s2")
    missed(book, 60 + 2 * LATENESS_S, "s1")
    assert losses(book) == {"replaced": 1}


def test_a_session_that_was_lost_and_expires_before_the_next_is_judged_is_not_lost_again() -> None:
    book = Book()
    book.created(0, "s1")
    missed(book, 60, "s1")
    book.created(IDLE_S - 1, "s2")
    book.advance(2 * IDLE_S)
    assert losses(book) == {"missing": 1}


def test_a_session_that_is_replaced_a_moment_before_it_expires_is_lost() -> None:
    book = Book()
    book.created(0, "s1")
    book.created(IDLE_S - 1, "s2")
    book.advance(2 * IDLE_S)
    assert losses(book) == {"replaced": 1}


@pytest.mark.parametrize("how", ["observed", "reused", "looked_up"])
def test_what_is_first_seen_of_a_user_can_be_replaced(how: str) -> None:
    book = Book()
    getattr(book, how)(0, "s1", user="ann")
    book.created(60, "s2")
    assert losses(book) == {"replaced": 1}
    assert book.incident().detail["expected"] == "s1"


def test_the_use_of_a_row_that_is_not_committed_yet_does_not_hide_what_its_create_replaces() -> None:
    book = Book()
    book.created(0, "s1")
    book.looked_up(60, "s2", request="r1", again=True)
    book.created(60.2, "s2", request="r1")
    assert losses(book) == {"replaced": 1}
    assert book.incident().detail["expected"] == "s1"


def test_an_adoption_has_replaced_nothing_even_if_its_create_is_told_much_later() -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(30, "s1", "deleted")
    book.observed(60, "s2")
    book.created(90, "s2")
    assert (losses(book), book.judged().adopted) == ({}, 1)


def test_a_create_whose_user_becomes_known_late_replaces_what_was_there_then() -> None:
    book = Book()
    book.created(0, "s1", "ann")
    book.created(30, "s2", "")
    book.created(45, "s3", "")
    assert losses(book) == {}
    book.ended(50, "s1")
    book.attributed(60, "s2", "ann")
    book.created(75, "s3", "ann")
    assert losses(book) == {"replaced": 1}
    detail = book.incident().detail
    assert (detail["expected"], detail["actual"]) == ("s2", "s3")


@pytest.mark.parametrize(("reason", "lost"), [("deleted", 1), ("other", 1), ("completed", 0)])
def test_an_id_that_is_created_again_after_an_end_that_nobody_wanted_has_replaced_itself(
    reason: str, lost: int
) -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(30, "s1", reason)
    book.created(60, "s1")
    assert losses(book).get("replaced", 0) == lost


def test_a_restart_replaces_the_session_under_the_same_id() -> None:
    book = Book()
    book.created(0, "s1", generation="task-1")
    book.advance(10)
    book.observed(60, "s1", origin=UPSERT, generation="task-2")
    book.reused(60.5, "s1")
    assert losses(book) == {"replaced": 1}
    book.ended(90, "s1", "completed")
    book.observed(120, "s1", origin=UPSERT, generation="task-3")
    assert losses(book) == {"replaced": 1}


def test_a_restart_is_seen_when_the_new_session_was_used_before_its_turn_came() -> None:
    book = Book()
    book.created(0, "s1", generation="task-1")
    book.advance(10)
    book.created(60, "s1", generation="task-2")
    book.reused(60.5, "s1")
    book.advance(100)
    assert book.judged().creates == 2


def test_a_session_that_was_lost_is_not_lost_again_when_its_id_is_created_anew() -> None:
    book = Book()
    book.created(0, "s1")
    missed(book, 30, "s1")
    book.ended(40, "s1", "deleted")
    book.created(60, "s1")
    assert losses(book) == {"missing": 1}
    missed(book, 90, "s1")
    assert losses(book) == {"missing": 2}


def test_what_had_to_make_room_is_not_replaced() -> None:
    book = Book(limits=Limits(max_tracked_sessions=2))
    book.created(0, "s1")
    book.created(1, "s2", "bob")
    book.created(300, "s3", "bob")
    book.judged()
    book.reused(301, "s3", "bob")
    book.created(600, "s4", "ann")
    assert losses(book) == {"replaced": 1}
    assert book.incident().detail["user"] == "bob"


def test_a_session_that_expired_and_is_somebody_elses_now_is_not_replaced() -> None:
    book = Book()
    book.created(0, "s1", "ann")
    book.created(60, "s2", "ann")
    book.reused(1000, "s1", "ann")
    book.reused(60 + IDLE_S + 1, "s2", "bob")
    book.created(60 + IDLE_S + 2 * WINDOW_S, "s3", "ann")
    assert losses(book) == {"replaced": 1}
    assert book.incident().detail["actual"] == "s2"


def test_a_database_function_that_ends_and_replaces_a_session_in_use_is_found() -> None:
    book = Book()
    book.created(-60, "s1")
    book.reused(17.463, "s1")
    book.ended(24.532, "s1", "completed", writer=DATABASE)
    book.created(24.532, "s2", writer=DATABASE)
    book.ended(24.648, "s2", "completed", writer=DATABASE)
    book.created(24.648, "s3", writer=DATABASE)
    assert (losses(book), book.duplicates()) == ({"replaced": 1}, {"unobserved": 1})
    loss = next(incident for incident in book.incidents if incident.kind == "context_loss")
    assert (loss.detail["expected"], loss.detail["actual"]) == ("s1", "s2")
