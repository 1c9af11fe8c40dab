"""The users with the most trouble are counted by name; who that is changes slowly."""

import random
from collections.abc import Mapping

import msgspec
import pytest
from ledgers import SECOND, START, Book, at

from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.records import Owner, Session
from session_exporter.core.scopes import Limits
from session_exporter.core.top_users import CHOOSE_EVERY_US, HALF_LIFE_US, NOTICE_US, Ranking, TopUsers
from session_exporter.core.totals import OTHER_USERS, LedgerTotals, ScopeTotals, UserCounts

MINUTE_US = 60 * SECOND


TWO = Limits(top_users=2)


class Board:
    """Who is shown of one scope, and a clock; users are told by their ids."""

    def __init__(self, top: int, *, show_ids: bool = True, sessions: Mapping[bytes, Session] | None = None) -> None:
        self.now_us = START
        self.totals = ScopeTotals(START)
        self.names = Pseudonyms(b"k" * 32, show_ids=show_ids)
        self.sessions = sessions or {}
        self.users = TopUsers(top, self.totals, self.names, self.sessions, born_us=START)

    def duplicated(self, *users: str, times: int = 1) -> None:
        for user in users * times:
            self.users.duplicated(self.names[user])

    def later(self, us: int = CHOOSE_EVERY_US) -> bool:
        """Let time pass, and have it decided who is shown; whether that has changed."""
        self.now_us += us
        self.users.advance(self.now_us)
        return self.users.choose(self.now_us)

    def settle(self, us: int = 2 * NOTICE_US) -> None:
        """Let time pass, and have it decided again and again."""
        for _ in range(us // CHOOSE_EVERY_US):
            self.later()

    def shown(self) -> set[str]:
        return set(self.totals.users) - {OTHER_USERS}

    def restart(self, top: int) -> None:
        stored = msgspec.msgpack.encode((self.totals, self.users.ranking()))
        self.totals, ranking = msgspec.msgpack.decode(stored, type=tuple[ScopeTotals, Ranking])
        self.users = TopUsers(top, self.totals, self.names, self.sessions, born_us=self.now_us)
        self.users.restore(ranking)


def test_all_others_are_counted_from_the_beginning_on() -> None:
    assert Board(3).totals.users == {OTHER_USERS: UserCounts(START)}


def test_who_is_shown_is_called_as_in_incidents() -> None:
    board = Board(3, show_ids=False)
    board.duplicated("ann")
    board.later()
    assert board.shown() == {board.names.label("u", board.names["ann"])}


def test_a_series_stands_at_zero_until_it_has_been_scraped_and_counts_from_then_on() -> None:
    board = Board(3)
    board.duplicated("ann")
    assert board.later()
    announced_us = board.now_us
    board.duplicated("ann")
    assert not board.later(NOTICE_US - CHOOSE_EVERY_US)
    board.duplicated("ann")
    assert board.totals.users == {
        OTHER_USERS: UserCounts(START, duplicates=3),
        "ann": UserCounts(announced_us),
    }
    board.later()
    board.duplicated("ann")
    board.users.created(b"ann")
    board.users.reused(b"ann", b"")
    board.users.lost(b"ann", b"")
    assert board.totals.users == {
        OTHER_USERS: UserCounts(START, duplicates=3),
        "ann": UserCounts(announced_us, 1, 1, 1, 1),
    }


def test_a_series_stands_still_before_it_ends_and_begins_at_zero_when_it_comes_back() -> None:
    board = Board(1)
    board.duplicated("ann")
    board.settle()
    board.duplicated("ann")
    born_us = board.totals.users["ann"].born_us
    board.duplicated("bob", times=9)
    board.later()
    board.duplicated("ann", "bob")
    assert board.shown() == {"ann"}
    assert board.totals.users["ann"] == UserCounts(born_us, duplicates=1)
    board.later(NOTICE_US - 1)
    assert board.shown() == {"ann"}
    board.later()
    assert board.shown() == {"bob"}
    board.settle()
    board.duplicated("ann", times=90)
    board.settle()
    assert board.shown() == {"ann"}
    assert board.totals.users["ann"] == UserCounts(board.totals.users["ann"].born_us)
    assert board.totals.users["ann"].born_us > born_us


def test_it_is_decided_every_few_seconds_only() -> None:
    board = Board(1)
    board.later()
    board.duplicated("ann")
    assert not board.later(CHOOSE_EVERY_US - 1)
    assert board.later(1)


def test_nothing_is_decided_before_the_first_event_was_judged() -> None:
    board = Board(1)
    board.duplicated("ann")
    assert not board.users.choose(0)
    assert board.shown() == set()


def test_a_duplicate_and_a_loss_weigh_more_than_creates_that_follow_each_other() -> None:
    board = Board(2)
    for user, trouble in [(b"ann", board.users.duplicated), (b"bob", lambda user: board.users.lost(user, b""))]:
        trouble(user)
    for _ in range(9):
        board.users.repeated(b"cy")
    board.later()
    assert board.shown() == {"ann", "bob"}


def test_who_only_works_a_lot_is_not_shown() -> None:
    board = Board(2)
    board.users.created(b"ann")
    for _ in range(1000):
        board.users.reused(b"ann", b"s1")
    board.later()
    assert board.shown() == set()
    assert board.totals.users[OTHER_USERS] == UserCounts(START, 1, 1000)


def test_an_event_without_a_user_is_that_of_the_user_of_its_session() -> None:
    board = Board(1, sessions={b"s1": Session(b"s1", Owner(b"ann")), b"s2": Session(b"s2")})
    board.duplicated("ann")
    board.settle()
    for session in (b"s1", b"s2", b"s3"):
        board.users.reused(b"", session)
        board.users.lost(b"", session)
    assert board.totals.users["ann"] == UserCounts(board.totals.users["ann"].born_us, reuses=1, losses=1)
    assert board.totals.users[OTHER_USERS] == UserCounts(START, reuses=2, duplicates=1, losses=2)


def test_somebody_a_little_worse_takes_nobodys_place() -> None:
    board = Board(2)
    board.duplicated("ann", "bob", times=10)
    board.settle()
    board.duplicated("cy", times=14)
    board.settle()
    assert board.shown() == {"ann", "bob"}
    board.duplicated("cy", times=4)
    board.settle()
    assert len(board.shown()) == 2
    assert "cy" in board.shown()


@pytest.mark.parametrize("top", [1, 5, 20])
def test_only_a_few_have_to_leave_in_a_minute(top: int) -> None:
    board = Board(top)
    board.duplicated(*(f"old{number}" for number in range(top)))
    board.settle()
    board.duplicated(*(f"new{number}" for number in range(top)), times=50)
    board.now_us = board.now_us // MINUTE_US * MINUTE_US
    most = top // 10 + 1
    for minute in range(1, top + 3):
        board.settle(MINUTE_US)
        still = sum(label.startswith("old") for label in board.shown())
        assert still >= top - most * minute
    assert board.shown() == {f"new{number}" for number in range(top)}


def test_nobody_has_to_leave_for_somebody_who_gets_a_place_anyhow() -> None:
    board = Board(20)
    board.duplicated(*(f"old{number}" for number in range(20)))
    board.settle()
    before = dict(board.totals.users)
    board.duplicated("new", times=50)
    board.settle()
    assert board.shown() - set(before) == {"new"}
    assert sum(counts is before.get(label) for label, counts in board.totals.users.items()) == len(before) - 1


def test_there_are_never_more_series_than_asked_for() -> None:
    choose = random.Random(1)
    board = Board(5)
    seen = set()
    for _ in range(2000):
        board.duplicated(f"user{int(choose.paretovariate(0.3)) % 500}", times=choose.randrange(5))
        board.later(choose.choice([0, 1, 10]) * SECOND)
        assert len(board.shown()) <= 5
        seen |= board.shown()
    assert len(seen) > 5


@pytest.mark.parametrize("seed", range(3))
def test_the_worst_of_many_users_are_shown(seed: int) -> None:
    choose = random.Random(seed)
    users = [f"user{number}" for number in range(5000)]
    weights = [1 / (rank + 1) for rank in range(len(users))]
    board = Board(10)
    for _ in range(60):
        board.duplicated(*choose.choices(users, weights, k=200))
        board.settle(MINUTE_US)
    assert set(users[:4]) <= board.shown()
    assert board.shown() <= set(users[:40])


def test_who_has_had_no_trouble_for_long_leaves_and_makes_room() -> None:
    board = Board(1)
    board.duplicated("ann", times=100)
    board.settle()
    board.later(12 * HALF_LIFE_US)
    assert board.shown() == {"ann"}
    board.later(12 * HALF_LIFE_US)
    board.settle()
    assert board.shown() == set()
    board.duplicated("bob")
    board.later()
    assert board.shown() == {"bob"}


def test_when_the_clock_had_been_ahead_nobody_is_forgotten_and_nobody_waits_for_it() -> None:
    board = Board(2)
    board.duplicated("ann")
    board.later()
    board.now_us += 365 * 24 * HALF_LIFE_US
    board.users.advance(board.now_us)
    board.duplicated("bob")
    board.later()
    board.duplicated("ann")
    board.now_us -= 365 * 24 * HALF_LIFE_US
    board.later()
    assert board.shown() == {"ann", "bob"}
    board.later(NOTICE_US)
    board.duplicated("bob")
    assert board.totals.users["bob"].duplicates == 1
    board.later(12 * HALF_LIFE_US)
    board.later(12 * HALF_LIFE_US)
    board.settle()
    assert board.shown() == set()


def test_trouble_after_a_long_silence_is_of_today() -> None:
    book = Book(limits=TWO)
    book.created(0, "s1")
    book.advance(10)
    book.commit()
    for number, at_s in enumerate([86_400, 86_401], start=2):
        book.created(at_s, f"s{number}")
    book.advance(86_410)
    book.commit()
    assert "ann" in book.committed().users


@pytest.mark.parametrize("top", [1, 3, 8])
def test_with_fewer_or_more_users_the_worst_stay_and_go_on_counting(top: int) -> None:
    board = Board(5)
    for number in range(5):
        board.duplicated(f"user{number}")
    board.later()
    for number in range(5):
        board.duplicated(f"user{number}", times=10 - number)
    board.settle()
    board.duplicated("user4", times=20)
    board.duplicated("user0", times=11)
    before = dict(board.totals.users)
    board.restart(top)
    worst = ["user4", "user0", "user1", "user2", "user3"]
    assert board.shown() == set(worst[:top])
    assert all(counts == before[label] for label, counts in board.totals.users.items())
    board.duplicated("user4")
    assert board.totals.users["user4"].duplicates == 21


def test_with_fewer_users_no_more_have_to_leave_in_a_minute_than_before() -> None:
    board = Board(20)
    board.duplicated(*(f"old{number}" for number in range(20)))
    board.settle()
    board.now_us = board.now_us // MINUTE_US * MINUTE_US
    board.duplicated(*(f"new{number}" for number in range(20)), times=50)
    board.later()
    board.restart(10)
    before = board.shown()
    board.later()
    board.later(MINUTE_US - 3 * CHOOSE_EVERY_US)
    assert len(before - board.shown()) <= 3


def test_a_restart_changes_nothing_of_who_is_shown() -> None:
    choose = random.Random(2)
    steady, restarted = Board(3), Board(3)
    for step in range(300):
        users = choose.choices("abcdefghij", [2**-rank for rank in range(10)], k=2)
        for board in (steady, restarted):
            board.duplicated(*users)
            board.later()
        if step % 7 == 0:
            restarted.restart(3)
        assert restarted.totals == steady.totals


def test_a_user_who_is_called_as_all_others_are_has_no_series_of_its_own() -> None:
    board = Board(2)
    board.duplicated(OTHER_USERS, times=9)
    board.duplicated("ann")
    board.settle()
    board.duplicated(OTHER_USERS, "ann")
    assert board.shown() == {"ann"}
    assert board.totals.users[OTHER_USERS].duplicates == 11


def test_of_users_who_are_called_the_same_only_one_is_shown() -> None:
    board = Board(5)
    twins = (b"\xff", b"\xfe")  # neither is UTF-8
    for twin in twins:
        board.users.duplicated(twin)
    board.settle()
    for twin in twins:
        board.users.duplicated(twin)
    assert sum(counts.duplicates for counts in board.totals.users.values()) == 4
    assert len(board.shown()) == 1
    board.later(24 * HALF_LIFE_US)
    board.settle(4 * MINUTE_US)
    assert board.shown() == set()


# In a ledger.


def shown(book: Book) -> dict[str, tuple[int, ...]]:
    users = book.committed().users
    return {label: (each.creates, each.reuses, each.duplicates, each.losses) for label, each in users.items()}


def test_by_default_nobody_is_counted_by_name() -> None:
    book = Book()
    book.created(0, "s1")
    book.created(1, "s2")
    assert book.judged().users == {}


def test_a_ledger_counts_by_name_what_it_counts_of_a_scope() -> None:
    book = Book(limits=TWO)
    book.created(0, "s1")
    book.created(1, "s2")
    book.advance(10)
    assert shown(book) == {OTHER_USERS: (2, 0, 1, 0), "ann": (0, 0, 0, 0)}
    book.advance(50)
    book.commit()
    book.created(60, "s3")
    book.created(61, "s4")
    book.advance(61.5)
    book.reused(62, "s4")
    book.reused(62, "s4", "")
    book.looked_up(63, "s4")
    book.context_lost(64, "s3", "s4")
    book.created(65, "s5", "bob")
    book.reused(66, "s5", "bob")
    book.advance(90)
    totals = book.committed()
    counts = shown(book)
    assert counts["ann"] == (2, 3, 1, sum(totals.losses.values()))
    assert counts[OTHER_USERS] == (3, 1, 1, 0)
    assert (totals.creates, totals.reuses, totals.duplicate_creates) == (5, 4, 2)


def test_creates_far_apart_are_no_trouble() -> None:
    book = Book(limits=TWO, idle_timeout_us=60 * SECOND)
    for number in range(5):
        book.created(100 * number, f"s{number}")
    book.created(50, "b1", "bob")
    book.created(100, "b2", "bob")
    for number in range(5):
        book.reused(60 + 50 * number, "c1", "cy")
    book.ended(261, "c1", "completed")
    book.created(0, "c1", "cy")
    book.created(270, "c2", "cy")
    book.advance(1000)
    assert set(shown(book)) == {OTHER_USERS, "bob"}


def test_a_commit_after_which_others_are_shown_has_to_be_stored() -> None:
    book = Book(limits=TWO)
    book.created(0, "s1")
    book.created(1, "s2")
    book.advance(1.5)
    assert book.commit().users_changed
    book.advance(3)
    assert not book.commit().users_changed
    book.advance(4)
    assert not book.commit().any_rows()
    book.advance(20 * 3600)
    book.commit()
    book.advance(21 * 3600)
    changes = book.commit()
    assert changes.users_changed
    assert changes.any_rows()


def test_the_users_of_a_scope_that_is_no_longer_declared_are_no_longer_shown() -> None:
    users = {OTHER_USERS: UserCounts(1, 5), "ann": UserCounts(1, 5)}
    gone = ScopeTotals(1, creates=10, users=users)
    book = Book(totals=LedgerTotals(scopes={"gone": gone}), limits=TWO)
    assert (book.committed("gone").creates, book.committed("gone").users) == (10, {})


def test_when_counting_starts_anew_nobody_is_shown_and_the_worst_are_still_known() -> None:
    book = Book(limits=TWO)
    book.created(0, "s1")
    book.created(1, "s2")
    book.advance(10)
    assert "ann" in book.committed().users
    book.ledger.forget_counts(at(11))
    assert book.ledger.totals.scopes["chat"].users == {OTHER_USERS: UserCounts(at(11))}
    book.advance(20)
    assert set(book.committed().users) == {OTHER_USERS, "ann"}
